/*
 * The command line of checkpoints: list, verify, prune. Each takes a run folder
 * (runs/NAME) or one snapshot folder (runs/NAME/checkpoints/step-0001000).
 */
#include "checkpoints/cmd_checkpoints.h"

#include "checkpoints/checkpoint.h"
#include "checkpoints/manifest.h"
#include "common/config.h"
#include "common/fs.h"
#include "common/json.h"
#include "common/log.h"
#include "common/threads.h"

#include <string.h>
#include <sys/stat.h>

struct options {
    struct config_list paths;
    struct config_list weights;
    int64_t keep, threads;
    bool json, verify;
};

#define THREADS_ROW                                                                                \
    CONFIG_I64(struct options, threads, "threads", "0", 0, 4096,                                   \
               "snapshots to read at a time; 0 = as many as CPUs")

/* Reads the arguments; returns 0 to go on, else the exit code + 1. At least one path. */
static int read_options(const struct config_row *rows, struct options *o,
                        const struct config_usage *usage, int argc, char **argv)
{
    struct err e = {0};
    memset(o, 0, sizeof(*o));
    config_init(rows, o);
    log_name(usage->name);
    int r = config_args(rows, o, usage, &o->paths, argc, argv, &e);
    if (r > 0)
        return 1;
    if (!r && !o->paths.count)
        r = err_set(&e, "name a run folder or a snapshot folder; see --help");
    if (r)
        return 1 + command_fail(usage->name, &e, 2);
    threads_init((int)o->threads);
    return 0;
}

static void options_release(const struct config_row *rows, struct options *o)
{
    config_list_release(&o->paths);
    config_release(rows, o);
}

/* --- which snapshots ----------------------------------------------------------- */

struct row {
    struct checkpoint_entry at;
    uint64_t bytes;
    bool checked, whole;
    struct err why; /* if checked and not whole */
};

struct table {
    struct row *rows;
    size_t count;
    size_t capacity;
};

static void table_release(struct table *t)
{
    for (size_t i = 0; i < t->count; i++)
        free(t->rows[i].at.path);
    free(t->rows);
    memset(t, 0, sizeof(*t));
}

static int add_row(struct table *t, const struct checkpoint_entry *at, struct err *e)
{
    struct row row = {.at = *at};
    if (checkpoint_bytes(at->path, &row.bytes, e))
        return -1;
    row.at.path = mem_strdup(at->path);
    t->rows = mem_grow(t->rows, &t->capacity, t->count + 1, sizeof(*t->rows));
    t->rows[t->count++] = row;
    return 0;
}

static bool is_snapshot(const char *path)
{
    char *manifest = fs_join(path, MANIFEST_NAME);
    bool yes = fs_exists(manifest);
    free(manifest);
    return yes;
}

static int add_snapshot(struct table *t, const char *path, struct err *e)
{
    struct manifest m;
    char *manifest = fs_join(path, MANIFEST_NAME), *trainer = fs_join(path, "trainer");
    struct err ignored; /* a damaged manifest is for verify to report: the step stays 0 */
    struct checkpoint_entry at = {.path = (char *)(uintptr_t)path,
                                  .has_trainer = fs_is_folder(trainer)};
    if (!manifest_read(&m, manifest, &ignored)) {
        at.step = m.step;
        manifest_release(&m);
    }
    free(manifest);
    free(trainer);
    return add_row(t, &at, e);
}

/* A run's snapshots, or the one a path names. */
static int add_path(struct table *t, const char *path, struct err *e)
{
    struct checkpoint_list list;
    char *inside = fs_join(path, "checkpoints");
    bool is_run = fs_is_folder(inside);
    free(inside);
    if (!is_run)
        return is_snapshot(path)
                   ? add_snapshot(t, path, e)
                   : err_set(e,
                             "%s has neither a folder checkpoints nor a manifest.json: name a run "
                             "(runs/NAME) or a snapshot (runs/NAME/checkpoints/step-0001000)",
                             path);
    int r = checkpoint_find(&list, path, e);
    for (size_t i = 0; i < list.count && !r; i++)
        r = add_row(t, &list.entries[i], e);
    checkpoint_list_release(&list);
    return r;
}

static int fill_table(struct table *t, const struct options *o, struct err *e)
{
    memset(t, 0, sizeof(*t));
    for (size_t i = 0; i < o->paths.count; i++)
        if (add_path(t, o->paths.items[i], e)) {
            table_release(t);
            return -1;
        }
    return 0;
}

/* Several at a time; the disk, not the hash, is what takes long. Returns how many are damaged. */
static size_t verify_table(struct table *t)
{
    struct progress p;
    uint64_t bytes = 0, done = 0;
    size_t damaged = 0;
    for (size_t i = 0; i < t->count; i++)
        bytes += t->rows[i].bytes;
    progress_start(&p, "reading snapshots", bytes, PROGRESS_BYTES);
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads_count())
    for (size_t i = 0; i < t->count; i++) {
        struct row *row = &t->rows[i];
        row->checked = true;
        row->whole = !checkpoint_verify(row->at.path, &row->why);
#pragma omp critical
        {
            done += row->bytes;
            progress_update(&p, done, NULL);
        }
    }
    progress_finish(&p, NULL);
    for (size_t i = 0; i < t->count; i++)
        damaged += !t->rows[i].whole;
    return damaged;
}

/* --- list ------------------------------------------------------------------------ */

static const struct config_row list_rows[] = {
    CONFIG_BOOL(struct options, verify, "verify", "false", "read all files and check their hashes"),
    CONFIG_BOOL(struct options, json, "json", "false", "print a JSON array"),
    THREADS_ROW,
    CONFIG_END,
};

static void print_table(const struct table *t)
{
    printf("%12s  %10s  %-7s  %-7s  %s\n", "step", "size", "trainer", "whole", "folder");
    for (size_t i = 0; i < t->count; i++) {
        const struct row *r = &t->rows[i];
        printf("%12llu  %10s  %-7s  %-7s  %s\n", (unsigned long long)r->at.step,
               log_bytes(r->bytes), r->at.has_trainer ? "yes" : "no",
               !r->checked ? "?"
               : r->whole  ? "yes"
                           : "NO",
               r->at.path);
    }
}

static void print_json(const struct table *t)
{
    struct buf b = {0};
    buf_puts(&b, "[");
    for (size_t i = 0; i < t->count; i++) {
        const struct row *r = &t->rows[i];
        buf_printf(&b, "%s\n  {\"step\": %llu, \"bytes\": %llu, \"trainer\": %s, \"whole\": %s, ",
                   i ? "," : "", (unsigned long long)r->at.step, (unsigned long long)r->bytes,
                   r->at.has_trainer ? "true" : "false",
                   !r->checked ? "null"
                   : r->whole  ? "true"
                               : "false");
        buf_puts(&b, "\"path\": ");
        json_put_cstring(&b, r->at.path);
        if (r->checked && !r->whole) {
            buf_puts(&b, ", \"error\": ");
            json_put_cstring(&b, r->why.msg);
        }
        buf_putc(&b, '}');
    }
    buf_puts(&b, t->count ? "\n]\n" : "]\n");
    fwrite(b.data, 1, b.len, stdout);
    buf_release(&b);
}

static int cmd_list(int argc, char **argv)
{
    static const struct config_usage usage = {
        .name = "mundwerk checkpoints list",
        .synopsis = "RUN|DIR... [--verify] [--json]",
        .about = "Lists the snapshots of a run: step, size, and whether training can go on from "
                 "there\n(it has its trainer state). Exit code 1 if --verify finds a damaged one.",
        .examples = "  mundwerk checkpoints list runs/german-mini\n"
                    "  mundwerk checkpoints list --verify --json runs/german-mini\n",
    };
    struct options o;
    struct table t;
    struct err e = {0};
    size_t damaged = 0;
    int r = read_options(list_rows, &o, &usage, argc, argv);
    if (r) {
        options_release(list_rows, &o);
        return r - 1;
    }
    r = fill_table(&t, &o, &e);
    if (!r) {
        damaged = o.verify ? verify_table(&t) : 0;
        if (o.json)
            print_json(&t);
        else
            print_table(&t);
        for (size_t i = 0; i < t.count; i++)
            if (t.rows[i].checked && !t.rows[i].whole)
                log_warn("%s", t.rows[i].why.msg);
        table_release(&t);
    }
    options_release(list_rows, &o);
    return r ? command_fail(usage.name, &e, 1) : damaged > 0;
}

/* --- verify ---------------------------------------------------------------------- */

static const struct config_row verify_rows[] = {
    THREADS_ROW,
    CONFIG_END,
};

static int cmd_verify(int argc, char **argv)
{
    static const struct config_usage usage = {
        .name = "mundwerk checkpoints verify",
        .synopsis = "RUN|DIR...",
        .about =
            "Reads every file of every snapshot and compares it with the manifest: size, hash, "
            "nothing\nmissing, nothing else. Names the file that differs. Exit code 1 if one "
            "does.",
        .examples = "  mundwerk checkpoints verify runs/german-mini\n"
                    "  mundwerk checkpoints verify runs/german-mini/checkpoints/step-0001000\n",
    };
    struct options o;
    struct table t;
    struct err e = {0};
    size_t damaged = 0;
    int r = read_options(verify_rows, &o, &usage, argc, argv);
    if (r) {
        options_release(verify_rows, &o);
        return r - 1;
    }
    r = fill_table(&t, &o, &e);
    if (!r) {
        damaged = verify_table(&t);
        for (size_t i = 0; i < t.count; i++)
            printf("%s  %s  %s\n", t.rows[i].whole ? "whole  " : "DAMAGED", t.rows[i].at.path,
                   t.rows[i].whole ? log_bytes(t.rows[i].bytes) : t.rows[i].why.msg);
        if (damaged)
            r = err_set(&e, "%zu of %zu snapshots are damaged", damaged, t.count);
        table_release(&t);
    }
    options_release(verify_rows, &o);
    return r ? command_fail(usage.name, &e, 1) : 0;
}

/* --- prune ----------------------------------------------------------------------- */

static const struct config_row prune_rows[] = {
    CONFIG_I64(struct options, keep, "keep", "0", 0, 1e9,
               "newest snapshots that keep their trainer state; 0 = all"),
    CONFIG_LIST(struct options, weights, "weights", "STEP",
                "snapshots to remove as a whole, weights too"),
    THREADS_ROW,
    CONFIG_END,
};

static int read_step(const char *text, uint64_t *step, struct err *e)
{
    size_t len = strspn(text, "0123456789");
    if (!len || text[len] || len > 18)
        return err_set(e, "--weights: '%s' is not a step", text);
    *step = strtoull(text, NULL, 10);
    return 0;
}

/* What is kept must be good before anything else goes. */
static int verify_kept(const char *run, uint64_t keep, struct err *e)
{
    struct checkpoint_list list;
    int r = checkpoint_find(&list, run, e);
    for (size_t i = list.count; i-- && keep && !r;)
        if (list.entries[i].has_trainer) {
            r = checkpoint_verify(list.entries[i].path, e);
            keep--;
        }
    checkpoint_list_release(&list);
    return r ? err_add(e, "nothing was pruned, for a snapshot to be kept is not whole") : 0;
}

static int bytes_of_run(const char *run, uint64_t *bytes, struct err *e)
{
    char *folder = fs_join(run, "checkpoints");
    int r = checkpoint_bytes(folder, bytes, e);
    free(folder);
    return r;
}

/* All names are looked at before the first snapshot goes. */
static int remove_weights(const char *run, const struct config_list *names, struct err *e)
{
    uint64_t step;
    for (size_t i = 0; i < names->count; i++) {
        if (read_step(names->items[i], &step, e))
            return -1;
        char *path = fs_join(run, "checkpoints/step-%07llu", (unsigned long long)step);
        int r = fs_is_folder(path)
                    ? 0
                    : err_set(e, "%s has no snapshot of step %s", run, names->items[i]);
        free(path);
        if (r)
            return -1;
    }
    for (size_t i = 0; i < names->count; i++)
        if (read_step(names->items[i], &step, e) || checkpoint_remove(run, step, e))
            return -1;
    return 0;
}

/* Step of the newest snapshot with trainer state; -1 = the run has none. */
static int newest_state(const char *run, int64_t *step, struct err *e)
{
    struct checkpoint_list list;
    int r = checkpoint_find(&list, run, e);
    *step = -1;
    for (size_t i = 0; i < list.count && !r; i++)
        if (list.entries[i].has_trainer)
            *step = (int64_t)list.entries[i].step;
    checkpoint_list_release(&list);
    return r;
}

/* Says what became of the run when its newest trainer state, of step `before`, went. */
static int warn_resume(const char *run, const char *path, int64_t before, struct err *e)
{
    int64_t after;
    if (newest_state(run, &after, e))
        return -1;
    if (after < 0 && before >= 0)
        log_warn("%s: that was the run's last trainer state: it cannot be resumed any more", path);
    else if (after != before)
        log_warn("%s: that was the run's newest trainer state: it resumes from step %lld now", path,
                 (long long)after);
    return 0;
}

static int prune_run(const char *run, const struct options *o, struct err *e)
{
    uint64_t before = 0, after = 0;
    int64_t newest = -1;
    int lock;
    if (run_lock(run, &lock, e))
        return -1;
    int r = newest_state(run, &newest, e) || bytes_of_run(run, &before, e) ||
            verify_kept(run, (uint64_t)o->keep, e) || checkpoint_clean(run, e) ||
            remove_weights(run, &o->weights, e) || checkpoint_prune(run, (uint64_t)o->keep, e) ||
            bytes_of_run(run, &after, e) || warn_resume(run, run, newest, e);
    run_unlock(lock);
    if (!r)
        log_info("%s: %s freed, %s left", run, log_bytes(before - after), log_bytes(after));
    return r ? -1 : 0;
}

/* The step of the snapshot of `run` that is this very folder, whatever it is called here. */
static int step_of(const char *run, const char *path, uint64_t *step, struct err *e)
{
    struct checkpoint_list list;
    struct stat mine, other;
    bool found = false;
    int r = checkpoint_find(&list, run, e);
    for (size_t i = 0; i < list.count && !r && !found; i++) {
        found = !stat(path, &mine) && !stat(list.entries[i].path, &other) &&
                mine.st_dev == other.st_dev && mine.st_ino == other.st_ino;
        if (found)
            *step = list.entries[i].step;
    }
    checkpoint_list_release(&list);
    if (!r && !found)
        r = err_set(e, "%s does not lie in the folder checkpoints of a run", path);
    return r;
}

/* One snapshot, named by its folder: its trainer state goes. */
static int prune_snapshot(const char *path, struct err *e)
{
    char *run = fs_join(path, "../.."), *trainer = fs_join(path, "trainer");
    uint64_t step = 0;
    int64_t newest;
    int lock, r = step_of(run, path, &step, e);
    if (!r && fs_exists(trainer)) {
        r = run_lock(run, &lock, e);
        if (!r)
            r = newest_state(run, &newest, e) || checkpoint_remove_trainer(run, step, e) ||
                warn_resume(run, path, newest, e);
        run_unlock(lock);
    }
    free(run);
    free(trainer);
    return r ? -1 : 0;
}

static int prune_path(const char *path, const struct options *o, struct err *e)
{
    char *inside = fs_join(path, "checkpoints");
    bool is_run = fs_is_folder(inside);
    free(inside);
    if (is_run)
        return prune_run(path, o, e);
    if (!is_snapshot(path))
        return err_set(e, "%s is neither a run nor a snapshot", path);
    return prune_snapshot(path, e);
}

static int cmd_prune(int argc, char **argv)
{
    static const struct config_usage usage = {
        .name = "mundwerk checkpoints prune",
        .synopsis = "RUN [--keep N] [--weights STEP...] | DIR",
        .about = "Frees disk space. --keep N removes the trainer state of all but the newest N "
                 "snapshots\n(by far the larger part: fp32 weights and moments); the models stay. "
                 "Models go only\nwhere --weights names their steps. A snapshot folder as argument "
                 "loses its trainer state.\nNot while the run is being trained.",
        .examples = "  mundwerk checkpoints prune runs/german1b --keep 2\n"
                    "  mundwerk checkpoints prune runs/german1b --weights 1000 2000\n"
                    "  mundwerk checkpoints prune runs/german1b/checkpoints/step-0003000\n",
    };
    struct options o;
    struct err e = {0};
    int r = read_options(prune_rows, &o, &usage, argc, argv);
    if (r) {
        options_release(prune_rows, &o);
        return r - 1;
    }
    int code = 1;
    if (o.paths.count != 1) {
        r = err_set(&e, "one run or snapshot at a time");
        code = 2;
    } else if (!o.keep && !o.weights.count && !is_snapshot(o.paths.items[0])) {
        r = err_set(&e, "say what to remove: --keep N or --weights STEP...");
        code = 2;
    } else {
        r = prune_path(o.paths.items[0], &o, &e);
    }
    options_release(prune_rows, &o);
    return r ? command_fail(usage.name, &e, code) : 0;
}

int cmd_checkpoints(int argc, char **argv)
{
    static const struct command table[] = {
        {"list", cmd_list, "the snapshots of a run"},
        {"verify", cmd_verify, "compare snapshots with their manifests"},
        {"prune", cmd_prune, "free disk space"},
        {NULL, NULL, NULL},
    };
    return command_run(table, "mundwerk checkpoints", argc, argv);
}
