/*
 * The order of work of `mundwerk eval run`; see run.h.
 */
#include "eval/run.h"

#include "checkpoints/checkpoint.h"
#include "common/config.h"
#include "common/fs.h"
#include "common/hash.h"
#include "common/log.h"
#include "eval/load.h"
#include "eval/record.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_EVAL_TOKENS 262144 /* where no run says eval.tokens */

struct snapshot {
    char *path;
    uint64_t step;
    struct checkpoint_facts facts;
    bool good;
};

struct task_entry {
    struct task task;
    struct task_data data;
    char *settings; /* with the hash of the data files */
};

struct evaluation {
    const struct run_options *options;
    char *folder; /* for the results */
    int lock;     /* on it: two evaluations would overwrite each other's lines */
    char *config; /* RUN/config.yaml, NULL without a run */
    struct snapshot *snapshots;
    size_t snapshot_count, snapshot_capacity;
    bool bpb, samples;
    struct shard shard;
    bool shard_open;
    uint64_t max_tokens;
    struct bpb_set chosen;
    char *bpb_settings, *samples_settings;
    struct task_entry *tasks;
    size_t task_count, task_capacity;
    struct store bpb_store, task_store, sample_store;
    uint64_t batch_tokens; /* of training, for snapshots that do not say their tokens; 0 */
};

static bool given(const char *s)
{
    return s && *s;
}

static const char *precision_word(const struct evaluation *v)
{
    return v->options->precision == KERNEL_BF16 ? "bf16" : "fp32";
}

static char *text_of(struct buf *b)
{
    char *text = mem_strdup(b->data ? b->data : "");
    buf_release(b);
    return text;
}

/* --- preparing ---------------------------------------------------------------------- */

/* A number from the run's config.yaml; 0 if there is none. */
static int peek_number(const struct evaluation *v, const char *key, uint64_t *out, struct err *e)
{
    struct buf value = {0};
    *out = 0;
    int found = v->config ? config_peek(v->config, key, &value, e) : 0;
    if (found > 0)
        *out = strtoull(value.data, NULL, 10);
    buf_release(&value);
    return found < 0 ? -1 : 0;
}

static void add_snapshot(struct evaluation *v, const char *path, uint64_t step)
{
    v->snapshots = mem_grow(v->snapshots, &v->snapshot_capacity, v->snapshot_count + 1,
                            sizeof(*v->snapshots));
    v->snapshots[v->snapshot_count++] = (struct snapshot){.path = mem_strdup(path), .step = step};
}

static int find_snapshots(struct evaluation *v, int *code, struct err *e)
{
    const struct run_options *o = v->options;
    struct checkpoint_list list = {0};
    if (given(o->checkpoint)) {
        add_snapshot(v, o->checkpoint, 0);
        return 0;
    }
    if (!fs_is_folder(o->run)) {
        *code = 2;
        return err_set(e, "there is no run folder %s", o->run);
    }
    if (checkpoint_find(&list, o->run, e))
        return -1;
    for (size_t i = 0; i < list.count; i++)
        add_snapshot(v, list.entries[i].path, list.entries[i].step);
    checkpoint_list_release(&list);
    if (v->snapshot_count == 0)
        return err_set(e, "%s holds no snapshot (checkpoints/step-*); train first", o->run);
    v->config = fs_join(o->run, "config.yaml");
    if (!fs_exists(v->config)) {
        free(v->config);
        v->config = NULL;
    }
    return peek_number(v, "train.batch_tokens", &v->batch_tokens, e);
}

/* Opens the held-out shard and chooses its documents. */
static int prepare_bpb(struct evaluation *v, int *code, struct err *e)
{
    const struct run_options *o = v->options;
    struct buf prefix = {0}, settings = {0};
    if (given(o->data))
        buf_puts(&prefix, o->data);
    else if (v->config && config_peek(v->config, "data.prefix", &prefix, e) < 0)
        return -1;
    if (prefix.len == 0) {
        *code = 2;
        buf_release(&prefix);
        return err_set(e, "bpb needs held-out text: give --data PREFIX, as made by "
                          "`mundwerk tokenizer pack --out PREFIX`");
    }
    buf_puts(&prefix, ".valid");
    if (!shard_exists(prefix.data)) {
        *code = 2;
        err_set(e,
                "there are no held-out tokens %s.bin and .idx; make them with `mundwerk tokenizer "
                "pack` or give another --data PREFIX",
                prefix.data);
        buf_release(&prefix);
        return -1;
    }
    int failed = shard_open(&v->shard, prefix.data, e);
    v->shard_open = !failed;
    if (!failed && o->max_tokens < 0)
        failed = peek_number(v, "eval.tokens", &v->max_tokens, e);
    if (o->max_tokens >= 0)
        v->max_tokens = (uint64_t)o->max_tokens;
    else if (v->max_tokens == 0)
        v->max_tokens = DEFAULT_EVAL_TOKENS;
    if (!failed)
        failed = bpb_choose(&v->chosen, &v->shard, v->max_tokens, e);
    if (!failed && v->chosen.count == 0)
        failed = err_set(e, "%s holds no document with text", prefix.data);
    buf_release(&prefix);
    buf_printf(&settings, "%s max_tokens=%" PRIu64 " data=%016" PRIx64, precision_word(v),
               v->max_tokens, v->shard.fingerprint);
    v->bpb_settings = text_of(&settings);
    return failed ? -1 : 0;
}

static void prepare_samples(struct evaluation *v)
{
    struct buf prompts = {0}, settings = {0};
    const struct sampler *s = sample_sampler(SAMPLE_SAMPLED);
    for (int i = 0; i < SAMPLES_PROMPTS; i++)
        buf_printf(&prompts, "%s\n", samples_prompts[i]);
    buf_printf(&settings,
               "%s max_tokens=%lld temperature=%g top_nsigma=%g seed=%lld prompts=%016" PRIx64,
               precision_word(v), (long long)v->options->sample_tokens, s->temperature,
               s->top_nsigma, (long long)v->options->seed, hash64(prompts.data, prompts.len));
    buf_release(&prompts);
    v->samples_settings = text_of(&settings);
}

/* Everything that decides a fine-tuned score, but for seed and weights. */
static int describe_task(struct evaluation *v, struct task_entry *t, struct err *e)
{
    const struct run_options *o = v->options;
    const struct task *k = &t->task;
    struct buf b = {0};
    uint64_t train, test, bytes;
    if (hash_file(t->data.train.path, &train, &bytes, e) ||
        hash_file(t->data.test.path, &test, &bytes, e))
        return -1;
    buf_printf(&b,
               "%s epochs=%lld batch=%lld lr=%g wd=%g clip=%g warmup=%g lora=%lld/%g/%g "
               "max_length=%lld limit=%lld quotes=%d train=%016" PRIx64 " test=%016" PRIx64,
               precision_word(v), (long long)(o->epochs ? o->epochs : k->epochs),
               (long long)k->batch, k->lr, k->weight_decay, k->grad_clip, k->warmup_share,
               (long long)k->lora_rank, k->lora_alpha, k->lora_dropout, (long long)k->max_length,
               (long long)o->limit, k->quotes, train, test);
    t->settings = text_of(&b);
    return 0;
}

static void tell_bad_rows(const struct task *t, const struct task_split *s)
{
    if (s->malformed)
        log_warn("task %s: %" PRIu64 " malformed row%s left out of %zu, the first: %s", t->name,
                 s->malformed, s->malformed == 1 ? "" : "s", s->count + (size_t)s->malformed,
                 s->first_bad.msg);
    if (s->empty)
        log_warn("task %s: %" PRIu64 " rows without text left out of %s", t->name, s->empty,
                 s->path);
}

static int prepare_task(struct evaluation *v, const char *name, int *code, struct err *e)
{
    struct task_entry t = {0};
    *code = 2; /* an unknown task or missing data: the caller must give something else */
    if (task_read(&t.task, name, e))
        return -1;
    if (!given(v->options->task_data)) {
        err_set(e, "task %s needs --task-data DIR; %s", t.task.name,
                given(t.task.source) ? t.task.source : "the folder its files lie below");
        task_release(&t.task);
        return -1;
    }
    if (task_data_read(&t.data, &t.task, v->options->task_data, e)) {
        task_release(&t.task);
        return -1;
    }
    *code = 1;
    tell_bad_rows(&t.task, &t.data.train);
    tell_bad_rows(&t.task, &t.data.test);
    v->tasks = mem_grow(v->tasks, &v->task_capacity, v->task_count + 1, sizeof(*v->tasks));
    v->tasks[v->task_count++] = t;
    return describe_task(v, &v->tasks[v->task_count - 1], e);
}

static int prepare_tasks(struct evaluation *v, int *code, struct err *e)
{
    const char *at = v->options->tasks;
    while (*at) {
        size_t len = strcspn(at, ", ");
        char *name = mem_strndup(at, len);
        int failed = 0;
        if (!strcmp(name, "bpb"))
            failed = v->bpb ? 0 : prepare_bpb(v, code, e);
        else if (len && strcmp(name, "samples"))
            failed = prepare_task(v, name, code, e);
        v->bpb = v->bpb || !strcmp(name, "bpb");
        v->samples = v->samples || !strcmp(name, "samples");
        free(name);
        if (failed)
            return -1;
        at += len;
        at += strspn(at, ", ");
    }
    prepare_samples(v);
    if (v->bpb || v->samples || v->task_count)
        return 0;
    *code = 2;
    return err_set(e, "--tasks names no task");
}

static int open_store(struct evaluation *v, struct store *s, const char *name, struct err *e)
{
    char *path = fs_join(v->folder, "%s", name);
    int failed = store_open(s, path, e);
    free(path);
    return failed;
}

/* The option that makes this a trial, NULL if none: results of less than everything are kept
 * apart, for they would replace the full ones and the report could not tell them. */
static const char *trial_option(const struct run_options *o)
{
    if (o->max_tokens >= 0)
        return "max-tokens";
    if (o->epochs > 0)
        return "epochs";
    return o->limit > 0 ? "limit" : NULL;
}

static int open_results(struct evaluation *v, struct err *e)
{
    const struct run_options *o = v->options;
    const char *trial = given(o->out) ? NULL : trial_option(o);
    v->folder = given(o->out) ? mem_strdup(o->out) : fs_join(o->run, trial ? "eval/trial" : "eval");
    if (trial)
        log_info(
            "--%s makes this a trial: results go to %s, which the report leaves out (--out DIR "
            "puts them elsewhere)",
            trial, v->folder);
    return fs_mkdirs(v->folder, e) || run_lock(v->folder, &v->lock, e) ||
                   open_store(v, &v->bpb_store, "bpb.jsonl", e) ||
                   open_store(v, &v->task_store, "tasks.jsonl", e) ||
                   open_store(v, &v->sample_store, "samples.jsonl", e)
               ? -1
               : 0;
}

/* --- one snapshot -------------------------------------------------------------------- */

/* A snapshot in work. The model is loaded when the first task needs it. */
struct work {
    struct evaluation *v;
    const struct snapshot *s;
    struct loaded loaded;
    bool is_loaded;
    char hash[17];
    char label[160];
    unsigned done, skipped;
};

static struct record_source source_of(const struct work *w, const char *settings)
{
    return (struct record_source){.folder = w->v->folder,
                                  .step = w->s->step,
                                  .tokens = w->s->facts.tokens,
                                  .checkpoint_hash = w->hash,
                                  .settings = settings};
}

/* Whether a result must be made; says so if not. */
static bool needed(struct work *w, const struct store *store, const struct store_key *key,
                   size_t lines, const char *settings)
{
    if (w->v->options->force || store_current(store, key, w->hash, settings) < lines)
        return true;
    w->skipped++;
    return false;
}

static int ready(struct work *w, struct err *e)
{
    if (!w->is_loaded && load_checkpoint(&w->loaded, w->s->path, e))
        return -1;
    w->is_loaded = true;
    return 0;
}

static struct progress progress_of(struct work *w, const char *what, uint64_t total,
                                   const char *noun)
{
    struct progress p;
    snprintf(w->label, sizeof(w->label), "step %" PRIu64 " (%zu of %zu) %s", w->s->step,
             (size_t)(w->s - w->v->snapshots) + 1, w->v->snapshot_count, what);
    progress_start(&p, w->label, total, PROGRESS_COUNT);
    p.noun = noun;
    return p;
}

static int do_bpb(struct work *w, struct err *e)
{
    struct evaluation *v = w->v;
    const struct store_key key = {w->s->step, NULL, -1};
    char note[80];
    if (!needed(w, &v->bpb_store, &key, 1, v->bpb_settings))
        return 0;
    if (ready(w, e))
        return -1;
    if (tokenizer_hash(w->loaded.tokenizer) != v->shard.tokenizer_hash)
        return err_set(e,
                       "the tokenizer of %s (%016" PRIx64 ") does not match the held-out tokens "
                       "%s, which another one made (%016" PRIx64 "); pack them again",
                       w->s->path, tokenizer_hash(w->loaded.tokenizer), v->shard.prefix,
                       v->shard.tokenizer_hash);
    const struct bpb_options bo = {.batch_tokens = v->options->batch_tokens,
                                   .precision = (enum kernel_precision)v->options->precision};
    struct progress p = progress_of(w, "bits per byte", v->chosen.tokens, "tokens");
    if (bpb_score(&v->chosen, &v->shard, &w->loaded.model, &bo, &p, e))
        return -1;
    struct stats_ratio r = bpb_result(&v->chosen);
    snprintf(note, sizeof(note), "%.4f ± %.4f", r.value, r.error);
    progress_finish(&p, note);
    if (!isfinite(r.value))
        return err_set(e, "the bits per byte of %s are not finite: the weights are broken",
                       w->s->path);
    struct record_source src = source_of(w, v->bpb_settings);
    w->done++;
    return record_bpb(&v->bpb_store, &src, &v->chosen, &v->shard, e);
}

static int do_samples(struct work *w, struct err *e)
{
    struct evaluation *v = w->v;
    const struct store_key key = {w->s->step, NULL, -1};
    const size_t count = SAMPLES_PROMPTS * SAMPLE_MODES;
    struct sample samples[SAMPLES_PROMPTS * SAMPLE_MODES];
    if (!needed(w, &v->sample_store, &key, count, v->samples_settings))
        return 0;
    if (ready(w, e))
        return -1;
    const struct samples_options so = {.max_tokens = v->options->sample_tokens,
                                       .seed = (uint64_t)v->options->seed,
                                       .precision = (enum kernel_precision)v->options->precision};
    struct progress p = progress_of(w, "samples", count, "samples");
    if (samples_run(samples, &w->loaded.model, w->loaded.tokenizer, &so, &p, e))
        return -1;
    progress_finish(&p, NULL);
    struct record_source src = source_of(w, v->samples_settings);
    int failed = record_samples(&v->sample_store, &src, samples, e);
    samples_release(samples);
    w->done++;
    return failed;
}

static int do_task(struct work *w, const struct task_entry *t, uint64_t seed, struct err *e)
{
    struct evaluation *v = w->v;
    const struct store_key key = {w->s->step, t->task.name, (int64_t)seed};
    struct classify_result r;
    char what[80], note[80];
    if (!needed(w, &v->task_store, &key, 1, t->settings))
        return 0;
    if (ready(w, e))
        return -1;
    const struct classify_options co = {.seed = seed,
                                        .precision = (enum kernel_precision)v->options->precision,
                                        .epochs = v->options->epochs,
                                        .limit = v->options->limit};
    snprintf(what, sizeof(what), "%s, seed %" PRIu64, t->task.name, seed);
    struct progress p = progress_of(w, what, classify_work(&t->task, &t->data, &co), "items");
    if (classify_run(&r, &w->loaded.model, w->loaded.tokenizer, &t->task, &t->data, &co, &p, e))
        return -1;
    snprintf(note, sizeof(note), "%s %.4f ± %.4f", metric_name((enum metric)t->task.metric),
             metrics_get(&r.score, (enum metric)t->task.metric),
             metrics_get(&r.error, (enum metric)t->task.metric));
    progress_finish(&p, note);
    struct record_source src = source_of(w, t->settings);
    int failed = record_task(&v->task_store, &src, &t->task, &t->data, &r, seed, e);
    classify_result_release(&r);
    w->done++;
    return failed;
}

static int do_all(struct work *w, struct err *e)
{
    const struct evaluation *v = w->v;
    if ((v->bpb && do_bpb(w, e)) || (v->samples && do_samples(w, e)))
        return -1;
    for (size_t t = 0; t < v->task_count; t++)
        for (int64_t i = 0; i < v->options->seeds; i++)
            if (do_task(w, &v->tasks[t], (uint64_t)(v->options->seed + i), e))
                return -1;
    return 0;
}

/* Reads and verifies a snapshot; names an earlier one with the same weights. */
static int inspect(struct evaluation *v, struct snapshot *s, struct err *e)
{
    if (checkpoint_facts(&s->facts, s->path, e))
        return -1;
    if (given(v->options->checkpoint))
        s->step = s->facts.step;
    if (s->facts.tokens == 0)
        s->facts.tokens = s->step * v->batch_tokens;
    for (const struct snapshot *other = v->snapshots; other < s; other++)
        if (other->good && other->facts.weights_hash == s->facts.weights_hash) {
            log_warn("the weights of step %" PRIu64 " and step %" PRIu64
                     " are the same, byte for byte",
                     other->step, s->step);
            break;
        }
    s->good = true;
    return 0;
}

static int do_snapshot(struct evaluation *v, struct snapshot *s, struct err *e)
{
    struct work w = {.v = v, .s = s};
    if (inspect(v, s, e))
        return -1;
    snprintf(w.hash, sizeof(w.hash), "%016" PRIx64, s->facts.weights_hash);
    int failed = do_all(&w, e);
    if (w.skipped)
        log_info("step %" PRIu64 ": %u result%s already there for these weights and settings "
                 "(--force makes them again)",
                 s->step, w.skipped, w.skipped == 1 ? " is" : "s are");
    if (w.is_loaded)
        loaded_release(&w.loaded);
    return failed;
}

/* --- the table -------------------------------------------------------------------------- */

static void put_line(struct buf *out, const struct store_line *l, const char *metric)
{
    buf_printf(out, "%10" PRIu64 " %14" PRIu64 "  %-22s ", l->step, l->tokens,
               l->task ? l->task : metric);
    if (l->seed >= 0)
        buf_printf(out, "%6lld ", (long long)l->seed);
    else
        buf_puts(out, "     - ");
    buf_printf(out, "%9.4f ± %.4f\n", l->value, l->error);
}

static bool asked_for(const struct evaluation *v, const struct store_line *l)
{
    bool step = false, task = !l->task && v->bpb;
    for (size_t i = 0; i < v->snapshot_count; i++)
        step = step || (v->snapshots[i].good && v->snapshots[i].step == l->step);
    for (size_t i = 0; i < v->task_count && l->task; i++)
        task = task || !strcmp(v->tasks[i].task.name, l->task);
    return step && task;
}

/* All results for the tasks and snapshots asked for, from the files. */
static void put_table(const struct evaluation *v, struct buf *out)
{
    const struct store *const stores[] = {&v->bpb_store, &v->task_store};
    size_t begin = out->len;
    for (size_t i = 0; i < 2; i++)
        for (size_t k = 0; k < stores[i]->count; k++) {
            if (!asked_for(v, &stores[i]->lines[k]))
                continue;
            if (out->len == begin)
                buf_puts(out,
                         "      step         tokens  task                     seed     score\n");
            put_line(out, &stores[i]->lines[k], "bpb");
        }
    buf_printf(out, "results are in %s\n", v->folder);
}

/* --- all of it ------------------------------------------------------------------------ */

static void release(struct evaluation *v)
{
    for (size_t i = 0; i < v->snapshot_count; i++)
        free(v->snapshots[i].path);
    for (size_t i = 0; i < v->task_count; i++) {
        task_data_release(&v->tasks[i].data);
        task_release(&v->tasks[i].task);
        free(v->tasks[i].settings);
    }
    free(v->snapshots);
    free(v->tasks);
    free(v->folder);
    free(v->config);
    free(v->bpb_settings);
    free(v->samples_settings);
    bpb_set_release(&v->chosen);
    if (v->shard_open)
        shard_close(&v->shard);
    run_unlock(v->lock);
    store_release(&v->bpb_store);
    store_release(&v->task_store);
    store_release(&v->sample_store);
}

static int check_options(const struct run_options *o, struct err *e)
{
    if (given(o->run) == given(o->checkpoint))
        return err_set(e, "give either --run RUN or --checkpoint DIR");
    if (given(o->checkpoint) && !given(o->out))
        return err_set(e, "--checkpoint needs --out DIR, the folder for the results");
    if (!given(o->tasks))
        return err_set(e, "give --tasks NAME,...: bpb, samples, or a task such as offensive_lang");
    return 0;
}

int run_evaluation(const struct run_options *o, struct buf *table, int *code, struct err *e)
{
    struct evaluation v = {.options = o, .lock = -1};
    size_t bad = 0;
    *code = 2;
    if (check_options(o, e))
        return -1;
    *code = 1;
    if (find_snapshots(&v, code, e) || prepare_tasks(&v, code, e) || open_results(&v, e)) {
        release(&v);
        return -1;
    }
    *code = 1;
    for (size_t i = 0; i < v.snapshot_count; i++)
        if (do_snapshot(&v, &v.snapshots[i], e)) {
            if (v.snapshot_count > 1)
                log_error("%s", e->msg);
            bad++;
        }
    if (bad && v.snapshot_count > 1)
        err_set(e, "%zu of %zu snapshots could not be evaluated", bad, v.snapshot_count);
    put_table(&v, table);
    release(&v);
    return bad ? -1 : 0;
}
