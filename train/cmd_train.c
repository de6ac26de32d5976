/*
 * `train`: the story of a training run, from its configuration to its last snapshot. Read
 * cmd_train() at the end of this file first, then train(), the loop.
 */
#include "train/cmd_train.h"

#include "common/build.h"
#include "common/config.h"
#include "common/cpu.h"
#include "common/fs.h"
#include "common/log.h"
#include "common/threads.h"
#include "tokenizer/shard.h"        /* shard_open, shard_exists */
#include "tokenizer/tokenizer.h"    /* tokenizer_load, tokenizer_vocab_size, tokenizer_hash */
#include "model/kernels/peak.h"     /* peak_flops */
#include "train/plan.h"             /* plan_make, plan_print */
#include "train/profile_table.h"    /* the table of --profile */
#include "train/record.h"           /* metrics.jsonl, data.log, TensorBoard */
#include "train/saver.h"            /* the thread that writes snapshots */
#include "train/settings.h"         /* the table of keys */
#include "train/snapshot.h"         /* snapshot_take, snapshot_write, snapshot_restore */
#include "train/spikes.h"           /* spikes_check, spikes_write */
#include "checkpoints/checkpoint.h" /* checkpoint_prune, run_lock */
#include "train/trainer.h"          /* trainer_gradients, trainer_update */

#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define NAME "train"

/* What a part of the story returns to say that it goes on; anything else is the exit code. */
enum { GO_ON = -1, DONE = 0, FAILED = 1, USED_WRONGLY = 2 };

#define PEAK_SECONDS 0.05 /* for measuring the peak; it takes about twice as long */

struct job {
    struct settings settings;
    struct tokenizer *tokenizer;
    struct shard data, valid; /* valid.map is NULL without PREFIX.valid */
    struct plan plan;
    struct trainer trainer;
    struct record record;
    struct spikes spikes;
    struct snapshot_source source;
    struct snapshot snapshot; /* the one that `saver` writes */
    struct saver saver;
    int lock_fd;         /* of RUN/run.lock; -1 = not held */
    bool restored;       /* the run goes on from a snapshot */
    int64_t saved;       /* step of the newest snapshot; -1 = none */
    double save_seconds; /* that the snapshot finished since the last metrics took; 0 = none was */
    double save_waited;  /* … that training stood still for it */
    struct profile_peaks peaks;
    uint64_t profiled_steps; /* since the last table */
    double profiled_seconds; /* of these */
    double peak; /* FLOP/s of the matrix units, measured at start: what MFU is a share of */
    struct err err;
};

static int fail(struct job *j, int code)
{
    return command_fail(NAME, &j->err, code);
}

/* --- being asked to stop ------------------------------------------------------ */

static volatile sig_atomic_t stop_signal;

/* The first signal lets the loop end in order; the second ends the process at once. Either
 * way no snapshot is harmed. */
static void on_signal(int number)
{
    if (stop_signal)
        _exit(128 + number);
    stop_signal = number;
}

static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGXFSZ, SIG_IGN); /* a file at its size limit is an error of write(), not a death */
}

/* --- what to train ------------------------------------------------------------- */

static const struct config_usage usage = {
    .name = "train",
    .synopsis = "--config NAME|FILE [options]",
    .about = "Trains a model on token shards. A run folder holds everything about it: snapshots "
             "(each a Hugging Face model folder), metrics.jsonl, TensorBoard events, data.log. "
             "A run that was interrupted, in whatever way, goes on with --resume as if nothing "
             "had happened, to the bit. Ctrl-C saves a snapshot first; twice ends at once.",
    .examples = "  train --config german-mini --data runs/tokens --tokenizer runs/tokenizer\n"
                "  train --config german120m --plan\n"
                "  train --config german120m --set optimizer.lr=3e-4 --out runs/a\n"
                "  train --out runs/a --resume\n"
                "  train --out runs/a --show-data 100\n",
};

static int read_settings(struct job *j, int argc, char **argv)
{
    struct settings *s = &j->settings;
    settings_init(s);
    int r = config_args(settings_rows, s, &usage, NULL, argc, argv, &j->err);
    if (r)
        return r > 0 ? DONE : fail(j, USED_WRONGLY);
    uint64_t limit;
    if (settings_resolve(s, &j->err) || plan_memory_limit(s, &limit, &j->err))
        return fail(j, USED_WRONGLY);
    threads_init_cores((int)s->threads);
    return GO_ON;
}

static bool tokenizer_exists(const char *dir)
{
    char *path = fs_join(dir, "tokenizer.json");
    bool there = fs_exists(path);
    free(path);
    return there;
}

/* --- questions that train nothing ---------------------------------------------- */

static int show_data(struct job *j)
{
    struct buf out = {0};
    struct settings *s = &j->settings;
    int r = record_show_data(s->run_out, s->data, (uint64_t)s->show_data, &out, &j->err);
    if (!r)
        fwrite(out.data, 1, out.len, stdout);
    buf_release(&out);
    return r ? fail(j, FAILED) : DONE;
}

static double measure_peak(const struct settings *s)
{
    return peak_flops(peak_unit_nominal(settings_precision(s)), PEAK_SECONDS);
}

static int show_plan(struct job *j)
{
    struct settings *s = &j->settings;
    bool assumed = !*s->data_tokenizer || !tokenizer_exists(s->data_tokenizer);
    struct buf out = {0};
    if (!assumed && tokenizer_load(&j->tokenizer, s->data_tokenizer, &j->err))
        return fail(j, FAILED);
    settings_vocab(s, assumed ? 32000 : tokenizer_vocab_size(j->tokenizer));
    if (kernels_init(&j->err) || plan_make(&j->plan, s, &j->err))
        return fail(j, FAILED);
    plan_print(&j->plan, s, assumed, measure_peak(s), &out);
    fwrite(out.data, 1, out.len, stdout);
    buf_release(&out);
    return DONE;
}

static int answer_questions(struct job *j)
{
    if (j->settings.show_data >= 0)
        return show_data(j);
    return j->settings.plan ? show_plan(j) : GO_ON;
}

/* --- what it is trained on ------------------------------------------------------ */

/* A relative path in the config.yaml of a run that goes on was typed in some other folder. */
static const char *explain_relative(const struct settings *s, const char *typed, const char *where)
{
    bool from_run = s->resume && !*s->config && !*typed;
    return from_run && *where && *where != '/' ? " (relative to the folder you are in)" : "";
}

/* One sentence that ends in the commands which make what is missing; `typed` is what the
 * command line named. */
static int advise(struct job *j, const char *what, const char *where, const char *typed)
{
    const struct settings *s = &j->settings;
    const char *tokenizer = *s->data_tokenizer ? s->data_tokenizer : "TOKENIZER";
    const char *prefix = *s->data_prefix ? s->data_prefix : "PREFIX";
    err_set(&j->err,
            "no %s at %s%s; these make them: mundwerk data prepare --in CORPUS --out DOCUMENTS && "
            "mundwerk tokenizer train --in DOCUMENTS --out %s && "
            "mundwerk tokenizer pack --tokenizer %s --in DOCUMENTS --out %s",
            what, *where ? where : "any place that was named", explain_relative(s, typed, where),
            tokenizer, tokenizer, prefix);
    return fail(j, USED_WRONGLY);
}

static int open_validation(struct job *j)
{
    struct buf prefix = {0};
    int r = 0;
    buf_printf(&prefix, "%s.valid", j->settings.data_prefix);
    if (shard_exists(prefix.data))
        r = shard_open(&j->valid, prefix.data, &j->err);
    else if (j->settings.eval_every)
        log_warn("no shards at %s: validation losses are left out", prefix.data);
    /* A few documents may be less than one window: no reason not to train. */
    if (j->valid.map && j->valid.token_count <= (uint64_t)j->settings.sequence_length) {
        log_warn("%s is too short for a validation loss", prefix.data);
        shard_close(&j->valid);
        j->valid = (struct shard){0};
    }
    buf_release(&prefix);
    return r ? fail(j, FAILED) : GO_ON;
}

static int check_pair(struct job *j, const struct shard *shard)
{
    if (shard->tokenizer_hash == tokenizer_hash(j->tokenizer))
        return GO_ON;
    err_set(&j->err,
            "%s was not packed with the tokenizer %s (%016" PRIx64 ", this is %016" PRIx64
            "): name the right one with --tokenizer, or pack again",
            shard->prefix, j->settings.data_tokenizer, shard->tokenizer_hash,
            tokenizer_hash(j->tokenizer));
    return fail(j, USED_WRONGLY);
}

static int open_inputs(struct job *j)
{
    struct settings *s = &j->settings;
    int code;
    if (!*s->data_prefix || !shard_exists(s->data_prefix))
        return advise(j, "token shards", s->data_prefix, s->data);
    if (!*s->data_tokenizer || !tokenizer_exists(s->data_tokenizer))
        return advise(j, "tokenizer", s->data_tokenizer, s->tokenizer);
    if (tokenizer_load(&j->tokenizer, s->data_tokenizer, &j->err) ||
        shard_open(&j->data, s->data_prefix, &j->err))
        return fail(j, FAILED);
    if (s->checkpoints_every && checkpoint_check_tokenizer(s->data_tokenizer, &j->err))
        return fail(j, USED_WRONGLY);
    if ((code = check_pair(j, &j->data)) != GO_ON || (code = open_validation(j)) != GO_ON)
        return code;
    if (j->valid.map && (code = check_pair(j, &j->valid)) != GO_ON)
        return code;
    settings_vocab(s, tokenizer_vocab_size(j->tokenizer));
    j->source = (struct snapshot_source){
        .run = s->run_out,
        .tokenizer_dir = s->data_tokenizer,
        .tokenizer_hash = tokenizer_hash(j->tokenizer),
        .data_fingerprint = j->data.fingerprint,
    };
    return GO_ON;
}

/* --- where it is written --------------------------------------------------------- */

static bool run_exists(const char *run)
{
    static const char *const names[] = {"config.yaml", "metrics.jsonl", "checkpoints"};
    bool there = false;
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        char *path = fs_join(run, "%s", names[i]);
        there |= fs_exists(path);
        free(path);
    }
    return there;
}

static int open_run(struct job *j)
{
    const char *run = j->settings.run_out;
    if (!j->settings.resume && run_exists(run)) {
        err_set(&j->err, "%s holds a run already: --resume goes on with it, --out names another",
                run);
        return fail(j, USED_WRONGLY);
    }
    if (run_lock(run, &j->lock_fd, &j->err)) {
        j->lock_fd = -1;
        return fail(j, FAILED);
    }
    return GO_ON;
}

/* --- memory, weights, and how far the run is --------------------------------------- */

static void print_budget(const struct job *j)
{
    const struct plan *p = &j->plan;
    const struct settings *s = &j->settings;
    log_info("%s parameters, %s steps of %s tokens; %s, %d threads, %s",
             log_count((double)p->params), log_count((double)s->steps),
             log_count((double)s->batch_tokens), cpu_level_name(kernels_level()), threads_count(),
             settings_precision(s) == KERNEL_BF16 ? "bf16" : "fp32");
    log_info(
        "memory: weights %s, masters %s, gradients %s, moments %s, activations %s (recomputed: "
        "%s), scratch %s: %s of %s",
        log_bytes(p->panels_bytes), log_bytes(p->masters_bytes), log_bytes(p->gradients_bytes),
        log_bytes(p->moments_bytes), log_bytes(p->activations_bytes),
        plan_recompute_name(p->recompute), log_bytes(p->batch_bytes + p->kernels_bytes),
        log_bytes(p->memory_bytes), log_bytes(plan_machine_memory()));
}

static void warn_disk(const struct job *j)
{
    struct statvfs fs;
    if (statvfs(j->settings.run_out, &fs))
        return;
    uint64_t room = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (room < j->plan.disk_bytes)
        log_warn("the run will take %s in %s, where %s are free", log_bytes(j->plan.disk_bytes),
                 j->settings.run_out, log_bytes(room));
}

static bool profiling(const struct settings *s)
{
    return s->profile || s->profile_every;
}

static int reserve_memory(struct job *j)
{
    struct settings *s = &j->settings;
    if (kernels_init(&j->err) || plan_make(&j->plan, s, &j->err) || plan_check(&j->plan, &j->err))
        return fail(j, FAILED);
    print_budget(j);
    warn_disk(j);
    j->peak = measure_peak(s);
    log_info("peak of matrix products, measured now: %.4g GFLOP/s", j->peak * 1e-9);
    if (profiling(s) && profile_peaks(&j->peaks, settings_precision(s), &j->err))
        return fail(j, FAILED);
    profile_enable(profiling(s));
    if (trainer_init(&j->trainer, s, &j->data, j->valid.map ? &j->valid : NULL, &j->err))
        return fail(j, FAILED);
    return GO_ON;
}

static int write_config(struct job *j)
{
    struct buf text = {0};
    char *path = fs_join(j->settings.run_out, "config.yaml");
    config_write(settings_rows, &j->settings, &text);
    int r = fs_write(path, text.data, text.len, &j->err);
    buf_release(&text);
    free(path);
    return r;
}

/* build.txt: how the program was built and what it runs on. A run that goes on with another
 * build or another machine gets a second paragraph. */
static int write_build(struct job *j)
{
    struct buf text = {0}, old = {0};
    char *path = fs_join(j->settings.run_out, "build.txt");
    int r = 0;
    buf_printf(&text,
               "mundwerk   %s\ncommit     %s\ncompiler   %s\nflags      %s\n"
               "cpu        %s\ncpu level  %s\nthreads    %d\n",
               build_version(), build_commit(), build_compiler(), build_flags(), cpu_name(),
               cpu_level_name(kernels_level()), threads_count());
    if (j->restored && fs_exists(path))
        r = fs_read(&old, path, 1 << 20, &j->err);
    if (!r && (!old.len || !strstr(old.data, text.data))) {
        if (old.len)
            buf_printf(&old, "\nfrom step %" PRIu64 "\n", j->trainer.step + 1);
        buf_add(&old, text.data, text.len);
        r = fs_write(path, old.data, old.len, &j->err);
    }
    buf_release(&text);
    buf_release(&old);
    free(path);
    return r;
}

static int say_finished(const struct job *j, uint64_t step)
{
    log_info("%s is finished: step %" PRIu64 " of %" PRId64, j->settings.run_out, step,
             j->settings.steps);
    return DONE;
}

/* A last snapshot whose trainer state was pruned: no need to go back to an older one. */
static bool is_finished_without_state(const struct job *j, const struct checkpoint_entry *newest)
{
    struct err why;
    if (newest->has_trainer || newest->step < (uint64_t)j->settings.steps)
        return false;
    if (!checkpoint_verify(newest->path, &why))
        return true;
    log_warn("snapshot of step %" PRIu64 " cannot be used: %s", newest->step, why.msg);
    return false;
}

/* Snapshots without trainer state are models only. To start at the beginning beside them would
 * cut the run's record and then replace them, so only a run without any snapshot does that. */
static int resume(struct job *j, struct record_lengths *lengths)
{
    const char *run = j->settings.run_out;
    struct checkpoint_list list;
    if (checkpoint_find(&list, run, &j->err))
        return fail(j, FAILED);
    size_t count = list.count;
    uint64_t newest = count ? list.entries[count - 1].step : 0;
    bool finished = count && is_finished_without_state(j, &list.entries[count - 1]);
    checkpoint_list_release(&list);
    if (finished)
        return say_finished(j, newest);
    int found = snapshot_restore(&j->trainer, &j->source, lengths, &j->err);
    if (found < 0)
        return fail(j, FAILED);
    j->restored = found > 0;
    if (j->restored) {
        j->saved = (int64_t)j->trainer.step;
        return GO_ON;
    }
    if (count) {
        err_set(&j->err,
                "%s cannot go on: the trainer state of its snapshots was pruned; start a new run "
                "with another --out, or remove %s/checkpoints to start this one again",
                run, run);
        return fail(j, FAILED);
    }
    if (!j->settings.checkpoints_every && run_exists(run)) {
        err_set(&j->err, "%s cannot go on: it keeps no snapshots (checkpoints.every is 0)", run);
        return fail(j, USED_WRONGLY);
    }
    log_info("%s has no snapshot yet: starting at the beginning", run);
    return GO_ON;
}

static int begin_or_resume(struct job *j)
{
    struct trainer *t = &j->trainer;
    struct record_lengths lengths = {0};
    spikes_init(&j->spikes, j->settings.spike_sigma);
    int code = j->settings.resume ? resume(j, &lengths) : GO_ON;
    if (code != GO_ON)
        return code;
    if (t->step >= (uint64_t)j->settings.steps)
        return say_finished(j, t->step);
    if (write_config(j) || write_build(j) ||
        record_open(&j->record, j->settings.run_out, &lengths, &t->loader, t->sequences, &j->err) ||
        spikes_resume(&j->spikes, j->settings.run_out, t->step, &j->err))
        return fail(j, FAILED);
    if (j->restored)
        log_info("%s goes on after step %" PRIu64, j->settings.run_out, t->step);
    return GO_ON;
}

/* --- the loop ----------------------------------------------------------------------- */

/* Newer snapshots than this one have failed their check on resume. They do not count among those
 * that keep their state, or the good ones would be pruned in their favour. */
static int prune(const struct settings *s, uint64_t step, struct err *e)
{
    struct checkpoint_list list = {0};
    uint64_t keep = (uint64_t)s->checkpoints_keep;
    if (!keep)
        return 0;
    if (checkpoint_find(&list, s->run_out, e))
        return -1;
    for (size_t i = 0; i < list.count; i++)
        keep += list.entries[i].has_trainer && list.entries[i].step > step;
    checkpoint_list_release(&list);
    return checkpoint_prune(s->run_out, keep, e);
}

/* On the saver's thread. */
static int write_snapshot(void *owner, struct err *e)
{
    const struct job *j = owner;
    return snapshot_write(&j->snapshot, e) || prune(&j->settings, j->snapshot.step, e) ? -1 : 0;
}

/* Writing goes on while the next gradients are computed; wait_for_save() ends it. */
static int save(struct job *j)
{
    double start = log_seconds();
    if (record_sync(&j->record, &j->err))
        return -1;
    snapshot_take(&j->snapshot, &j->trainer, &j->record, &j->source);
    saver_start(&j->saver, write_snapshot, j);
    j->save_waited = log_seconds() - start;
    return 0;
}

/* To be called before weights and moments change. */
static int wait_for_save(struct job *j)
{
    double start = log_seconds();
    if (!j->saver.busy)
        return 0;
    int r = saver_wait(&j->saver, &j->err);
    j->save_waited += log_seconds() - start;
    if (!r) {
        j->saved = (int64_t)j->snapshot.step;
        j->save_seconds = j->saver.seconds;
        log_info("snapshot of step %" PRIu64 ": %s in %s, training waited %s", j->snapshot.step,
                 log_bytes(j->snapshot.bytes), log_duration(j->saver.seconds),
                 log_duration(j->save_waited));
    }
    snapshot_release(&j->snapshot);
    return r;
}

static int save_now(struct job *j)
{
    return save(j) || wait_for_save(j) ? -1 : 0;
}

static int record_step(struct job *j, uint64_t position, double seconds)
{
    struct trainer *t = &j->trainer;
    const struct settings *s = &j->settings;
    bool measure = s->eval_every &&
                   (t->step % (uint64_t)s->eval_every == 0 || t->step == (uint64_t)s->steps);
    double tokens_per_s = seconds > 0 ? (double)s->batch_tokens / seconds : 0;
    double valid_loss = NAN;
    if (measure && trainer_valid_loss(t, &valid_loss, &j->err))
        return -1;
    const struct step_metrics m = {
        .step = t->step,
        .tokens = t->tokens,
        .epoch = position / t->loader.window_count,
        .skipped = t->skipped_last,
        .loss = t->loss,
        .lr = t->lr,
        .grad_norm = t->grad_norm,
        .valid_loss = valid_loss,
        .seconds = t->seconds,
        .tokens_per_s = tokens_per_s,
        .gflops = tokens_per_s * j->plan.flops_per_token * 1e-9,
        .mfu = tokens_per_s * j->plan.flops_per_token / j->peak,
        .memory = mem_resident(),
        .save_seconds = j->save_seconds,
        .save_waited = j->save_waited,
    };
    j->save_seconds = 0;
    if (t->step && record_data(&j->record, t->step, &t->loader, position, t->sequences, &j->err))
        return -1;
    if (!isnan(m.valid_loss))
        log_info("step %" PRIu64 ": validation loss %.4f", t->step, m.valid_loss);
    return t->step || measure ? record_metrics(&j->record, &m, &j->err) : 0;
}

/* A spike is worth a line in a file of its own, with the documents that may be to blame. */
static int note_spike(struct job *j, uint64_t position)
{
    const struct trainer *t = &j->trainer;
    if (!spikes_check(&j->spikes, t->loss))
        return 0;
    log_warn("step %" PRIu64
             ": loss %.4f after a mean of %.4f: its documents are in %s/spikes.jsonl",
             t->step, t->loss, j->spikes.mean, j->settings.run_out);
    return spikes_write(&j->spikes, j->settings.run_out, t->step, t->loss, &t->loader, position,
                        t->sequences, &j->err);
}

/* The untrained model is step 0: where every curve begins. */
static int begin(struct job *j)
{
    if (j->restored)
        return 0;
    if (record_step(j, 0, 0))
        return -1;
    return settings_snapshot_due(&j->settings, 0) ? save(j) : 0;
}

static int too_many_skipped(struct job *j)
{
    struct trainer *t = &j->trainer;
    char where[64] = "there is no snapshot to go back to";
    if (j->saved >= 0)
        snprintf(where, sizeof(where), "the last snapshot is step-%07" PRId64, j->saved);
    return err_set(&j->err,
                   "loss or gradient was not finite in %" PRIu64
                   " steps in a row, up to step %" PRIu64 "; the weights are those of step %" PRIu64
                   ", %s",
                   t->skipped_row, t->step, t->step - t->skipped_row, where);
}

static void show(struct job *j, struct progress *bar, double seconds)
{
    const struct trainer *t = &j->trainer;
    char note[128];
    if (t->skipped_last)
        log_warn("step %" PRIu64 " is skipped: loss %g, gradient norm %g", t->step, t->loss,
                 t->grad_norm);
    double tokens_per_s = (double)j->settings.batch_tokens / seconds;
    snprintf(note, sizeof(note), "loss %.4f  %s tokens/s  MFU %.1f %%", t->loss,
             log_count(tokens_per_s), 100 * tokens_per_s * j->plan.flops_per_token / j->peak);
    progress_update(bar, t->step, note);
}

/* What was counted since the last table. */
static void show_profile(struct job *j)
{
    struct buf table = {0};
    if (!profiling(&j->settings) || !j->profiled_steps)
        return;
    profile_table(&table, j->profiled_steps, j->profiled_seconds, &j->peaks);
    log_info("where the time of %" PRIu64 " steps up to step %" PRIu64 " went\n%s",
             j->profiled_steps, j->trainer.step, table.data);
    buf_release(&table);
    profile_reset();
    j->profiled_steps = 0;
    j->profiled_seconds = 0;
}

static void count_profile(struct job *j, double seconds)
{
    j->profiled_seconds += seconds;
    if (++j->profiled_steps == (uint64_t)j->settings.profile_every)
        show_profile(j);
}

/* The data turned out to be damaged: the weights are good, so they are saved before the end. */
static int keep_what_is_done(struct job *j)
{
    struct err why = j->err;
    if (wait_for_save(j) ||
        (j->settings.checkpoints_every && j->saved != (int64_t)j->trainer.step && save_now(j)))
        log_warn("%s", j->err.msg);
    j->err = why;
    return -1;
}

static int train(struct job *j, struct progress *bar)
{
    struct trainer *t = &j->trainer;
    const struct settings *s = &j->settings;
    while (t->step < (uint64_t)s->steps && !stop_signal) {
        double start = log_seconds();
        uint64_t position = t->loader.position;
        int r = trainer_gradients(t, &stop_signal, &j->err); /* batches, forward, loss, backward */
        if (r < 0)
            return keep_what_is_done(j);
        if (r > 0)
            break;
        double pause = log_seconds();
        if (wait_for_save(j))
            return -1;
        start += log_seconds() - pause;
        trainer_update(t); /* clip, optimiser */
        double seconds = log_seconds() - start;
        t->seconds += seconds;
        show(j, bar, seconds);
        count_profile(j, seconds);
        if (record_step(j, position, seconds) || note_spike(j, position))
            return -1;
        if (t->skipped_row >= (uint64_t)s->skip_limit)
            return too_many_skipped(j);
        if (settings_snapshot_due(s, t->step) && save(j))
            return -1;
    }
    if (wait_for_save(j))
        return -1;
    if (stop_signal && s->checkpoints_every && j->saved != (int64_t)t->step)
        return save_now(j);
    return record_sync(&j->record, &j->err);
}

/* A path as one word of a shell command: quoted where it must be. */
static void put_word(struct buf *out, const char *path)
{
    static const char plain[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./=:+-";
    if (!path[strspn(path, plain)]) {
        buf_puts(out, path);
        return;
    }
    buf_putc(out, '\'');
    for (; *path; path++)
        if (*path == '\'')
            buf_puts(out, "'\\''");
        else
            buf_putc(out, *path);
    buf_putc(out, '\'');
}

static void say_how_to_go_on(const struct job *j)
{
    struct buf run = {0};
    put_word(&run, j->settings.run_out);
    log_info("stopped after step %" PRIu64 " of %" PRId64 "; go on with: train --out %s --resume",
             j->trainer.step, j->settings.steps, run.data);
    buf_release(&run);
}

static int finish(struct job *j)
{
    const struct trainer *t = &j->trainer;
    const char *run = j->settings.run_out;
    if (t->skipped)
        log_warn("%" PRIu64 " steps were skipped: their loss or gradient was not finite",
                 t->skipped);
    if (stop_signal) {
        say_how_to_go_on(j);
        return stop_signal == SIGINT ? 128 + SIGINT : DONE;
    }
    log_info("%s: %" PRIu64 " steps, %s tokens in %s (%s tokens/s), last loss %.4f", run, t->step,
             log_count((double)t->tokens), log_duration(t->seconds),
             log_count((double)t->tokens / t->seconds), t->loss);
    log_info("memory: at most %s were resident, %s planned", log_bytes(mem_resident_peak()),
             log_bytes(j->plan.memory_bytes));
    return DONE;
}

static int train_to_the_end(struct job *j)
{
    struct progress bar;
    catch_signals();
    if (begin(j))
        return fail(j, FAILED);
    progress_start(&bar, "training", (uint64_t)j->settings.steps, PROGRESS_COUNT);
    bar.noun = "steps";
    bar.start = j->trainer.step;
    int r = train(j, &bar);
    progress_finish(&bar, NULL);
    show_profile(j);
    return r ? fail(j, FAILED) : finish(j);
}

static void job_release(struct job *j)
{
    MW_ASSERT(!j->saver.busy);
    record_close(&j->record);
    trainer_release(&j->trainer);
    if (j->valid.map)
        shard_close(&j->valid);
    if (j->data.map)
        shard_close(&j->data);
    tokenizer_free(j->tokenizer);
    if (j->lock_fd >= 0)
        run_unlock(j->lock_fd);
    settings_release(&j->settings);
}

int cmd_train(int argc, char **argv)
{
    struct job j = {.lock_fd = -1, .saved = -1};
    int code;
    log_name(NAME);
    if ((code = read_settings(&j, argc, argv)) == GO_ON && /* configuration and command line */
        (code = answer_questions(&j)) == GO_ON &&          /* --plan, --show-data */
        (code = open_inputs(&j)) == GO_ON &&               /* tokenizer and token shards */
        (code = open_run(&j)) == GO_ON &&                  /* the folder, ours alone */
        (code = reserve_memory(&j)) == GO_ON &&            /* all there will ever be */
        (code = begin_or_resume(&j)) == GO_ON)             /* weights, logs, position */
        code = train_to_the_end(&j);
    job_release(&j);
    return code;
}
