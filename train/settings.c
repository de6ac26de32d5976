/* Owns the table of `train`'s keys and options, and the rules between them. */
#include "train/settings.h"

#include "common/cpu.h"
#include "common/fs.h"
#include "common/json.h"
#include "common/log.h"
#include "tokenizer/tokenizer.h" /* TOKEN_BOS */

#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#define TOKENS_MAX ((int64_t)1e18) /* of a run; sums over tokens fit 63 bits */

#define S struct settings

const struct config_row settings_rows[] = {
    CONFIG_STR(S, config, "config", NULL, "NAME|FILE",
               "a configuration of train/configs by name, or a YAML file"),
    CONFIG_STR(S, data, "data", NULL, "PREFIX", "token shards, instead of data.prefix"),
    CONFIG_STR(S, tokenizer, "tokenizer", NULL, "DIR", "tokenizer, instead of data.tokenizer"),
    CONFIG_STR(S, out, "out", NULL, "RUN", "run folder, instead of run.out"),
    CONFIG_BOOL(S, resume, "resume", "false", "go on from the run's newest good snapshot"),
    CONFIG_LIST(S, set, "set", "KEY=VALUE", "change single keys of the configuration"),
    CONFIG_BOOL(S, plan, "plan", "false",
                "print parameters, memory, FLOPs and disk of the run, and stop"),
    CONFIG_I64(S, show_data, "show-data", "-1", -1, 1e15,
               "print the documents behind this step of RUN, and stop"),
    CONFIG_STR(S, memory, "memory", "90%", "BYTES|GiB|%",
               "most the run may reserve, e.g. 20GiB, or a share of this machine's memory"),
    CONFIG_BOOL(S, profile, "profile", "false",
                "print at the end where the time went, by phase and kernel"),
    CONFIG_I64(S, profile_every, "profile-every", "0", 0, 1e12,
               "steps between such tables; 0 = at the end only"),
    CONFIG_I64(S, threads, "threads", "0", 0, 4096, "threads to use; 0 = one for each core"),

    CONFIG_I64(S, model.hidden_size, "model.hidden_size", "768", 8, 16384,
               "width of the residual stream"),
    CONFIG_I64(S, model.num_hidden_layers, "model.num_hidden_layers", "12", 1, 1024,
               "decoder layers"),
    CONFIG_I64(S, model.num_attention_heads, "model.num_attention_heads", "12", 1, 1024,
               "query heads; must divide hidden_size"),
    CONFIG_I64(S, model.num_key_value_heads, "model.num_key_value_heads", "4", 1, 1024,
               "key and value heads; must divide the query heads"),
    CONFIG_I64(S, model.intermediate_size, "model.intermediate_size", "2048", 8, 1 << 20,
               "width inside the SwiGLU block"),
    CONFIG_I64(S, model.max_position_embeddings, "model.max_position_embeddings", "2048", 2,
               1 << 20, "longest sequence, tokens"),
    CONFIG_F64(S, model.rope_theta, "model.rope_theta", "10000", 1, 1e9,
               "base of the rotary angles"),
    CONFIG_F64(S, model.rms_norm_eps, "model.rms_norm_eps", "1e-5", 1e-12, 1e-1,
               "added to the mean square"),
    CONFIG_BOOL(S, model.tie_word_embeddings, "model.tie_word_embeddings", "false",
                "share embedding and head; only false is supported"),
    CONFIG_BOOL(S, model.qk_norm, "model.qk_norm", "false",
                "norms of query and key heads: snapshots are Qwen3 models, not Llama"),
    CONFIG_I64(S, vocab_multiple, "model.vocab_multiple", "1", 1, 1024,
               "round the vocabulary up to a multiple of this"),

    CONFIG_I64(S, steps, "train.steps", "1000", 1, 1e12, "optimiser steps of the whole run"),
    CONFIG_I64(S, batch_tokens, "train.batch_tokens", "2097152", 1, 1e12,
               "tokens per optimiser step"),
    CONFIG_I64(S, micro_batch, "train.micro_batch", "1", 1, 65536,
               "sequences per forward pass; at most those of a step"),
    CONFIG_I64(S, sequence_length, "train.sequence_length", "0", 0, 1 << 20,
               "tokens per sequence; 0 = max_position_embeddings"),
    CONFIG_ENUM(S, recompute, "train.recompute", "auto", "auto|none|mlp|full",
                "activations computed again instead of kept; auto: as few as --memory allows"),
    CONFIG_I64(S, seed, "train.seed", "3407", 0, 1e15, "of the weights and of the data's order"),
    CONFIG_I64(S, skip_limit, "train.skip_limit", "5", 1, 1e6,
               "stop after so many steps in a row without a finite loss and gradient"),
    CONFIG_F64(S, spike_sigma, "train.spike_sigma", "6", 0, 1e6,
               "note losses so many standard deviations above the last ones; 0 = off"),

    CONFIG_F64(S, z_loss, "loss.z_loss", "0", 0, 1,
               "weight of the squared log-sum-exp in the training loss; 0 = none, PaLM: 1e-4"),

    CONFIG_ENUM(S, optimizer_name, "optimizer.name", "adamw", "adamw|muon",
                "the update rule; muon: of the layers' matrices, adamw for all others"),
    CONFIG_F64(S, lr, "optimizer.lr", "6e-4", 0, 10, "highest learning rate"),
    CONFIG_F64(S, min_lr, "optimizer.min_lr", "4e-5", 0, 10, "learning rate at the end"),
    CONFIG_F64(S, adamw.beta1, "optimizer.beta1", "0.9", 0, 0.999999, "decay of the mean"),
    CONFIG_F64(S, adamw.beta2, "optimizer.beta2", "0.95", 0, 0.999999, "decay of the mean square"),
    CONFIG_F64(S, adamw.eps, "optimizer.eps", "1e-8", 1e-15, 1, "added to the root"),
    CONFIG_F64(S, adamw.weight_decay, "optimizer.weight_decay", "0.1", 0, 10,
               "decoupled, on all parameters"),
    CONFIG_F64(S, momentum, "optimizer.momentum", "0.95", 0, 0.999999, "muon: decay of the mean"),
    CONFIG_F64(S, grad_clip, "optimizer.grad_clip", "1", 0, 1e6,
               "longest gradient (global norm); 0 = no limit"),

    CONFIG_ENUM(S, schedule_name, "schedule.name", "cosine", "cosine|constant|wsd",
                "learning rate after the warm-up; wsd: constant, then decay"),
    CONFIG_I64(S, warmup_steps, "schedule.warmup_steps", "2000", 0, 1e12,
               "steps of linear warm-up from 0"),
    CONFIG_I64(S, decay_steps, "schedule.decay_steps", "0", 0, 1e12,
               "wsd: last steps, in which the rate falls to min_lr; 0 = by decay_share"),
    CONFIG_F64(S, decay_share, "schedule.decay_share", "0.2", 0, 1,
               "wsd: the same as a share of train.steps"),
    CONFIG_ENUM(S, decay_type, "schedule.decay_type", "1-sqrt", "linear|1-sqrt",
                "wsd: shape of that fall"),

    CONFIG_I64(S, checkpoints_every, "checkpoints.every", "10000", 0, 1e12,
               "steps between snapshots; 0 = none at all"),
    CONFIG_ENUM(S, snapshot_schedule, "checkpoints.schedule", "linear", "linear|log",
                "linear: every N steps; log: 0, 1, 2, 4 ... 512, then every N"),
    CONFIG_I64(S, checkpoints_keep, "checkpoints.keep", "2", 0, 1e9,
               "newest snapshots that keep what resuming needs; 0 = all"),

    CONFIG_I64(S, eval_every, "eval.every", "0", 0, 1e12,
               "steps between validation losses; 0 = none"),
    CONFIG_I64(S, eval_tokens, "eval.tokens", "262144", 1, 1e12,
               "tokens of PREFIX.valid in a validation loss, at most"),

    CONFIG_ENUM(S, compute, "precision.compute", "auto", "auto|fp32|bf16",
                "operands of matrix products, sums are fp32; auto: bf16 with AMX, else fp32"),
    CONFIG_ENUM(S, masters, "precision.masters", "auto", "auto|fp32|split",
                "weights; split: bf16 and a rest, no less exact; auto: split with bf16"),
    CONFIG_ENUM(S, moments, "precision.moments", "fp32", "fp32|bf16|int8", "both moments of AdamW"),

    CONFIG_BOOL(S, document_mask, "data.document_mask", "false",
                "attention stays within a document"),
    CONFIG_STR(S, data_prefix, "data.prefix", NULL, "PREFIX", "token shards of tokenizer pack"),
    CONFIG_STR(S, data_tokenizer, "data.tokenizer", NULL, "DIR", "tokenizer of those shards"),
    CONFIG_STR(S, run_out, "run.out", NULL, "RUN", "run folder; empty = runs/<configuration>"),
    CONFIG_END,
};

#undef S

/* Keys that may differ between the parts of one run. */
static const char *const free_keys[] = {
    "train.skip_limit",  "train.spike_sigma",    "train.recompute",  "precision.masters",
    "checkpoints.every", "checkpoints.schedule", "checkpoints.keep", "eval.every",
    "eval.tokens",       "data.prefix",          "data.tokenizer",   "run.out",
};

void settings_init(struct settings *s)
{
    *s = (struct settings){0}; /* the vocabulary has no row */
    config_init(settings_rows, s);
}

void settings_release(struct settings *s)
{
    config_release(settings_rows, s);
}

static bool given(const char *word)
{
    return word && *word;
}

static void replace(char **field, const char *value)
{
    char *copy = mem_strdup(value);
    free(*field);
    *field = copy;
}

/* Whole sequences only, so that every token of a step weighs the same. */
static int check_batch(struct settings *s, struct err *e)
{
    if (!s->sequence_length)
        s->sequence_length = s->model.max_position_embeddings;
    if (s->sequence_length < 2 || s->sequence_length > s->model.max_position_embeddings)
        return err_set(e,
                       "train.sequence_length %" PRId64 " is not between 2 and "
                       "model.max_position_embeddings %" PRId64,
                       s->sequence_length, s->model.max_position_embeddings);
    if (s->batch_tokens % s->sequence_length)
        return err_set(e,
                       "train.batch_tokens %" PRId64 " is not a multiple of the sequence "
                       "length %" PRId64,
                       s->batch_tokens, s->sequence_length);
    if (s->micro_batch > s->batch_tokens / s->sequence_length)
        s->micro_batch = s->batch_tokens / s->sequence_length;
    if (s->micro_batch > WORKSPACE_ROWS_MAX / s->sequence_length)
        return err_set(e,
                       "train.micro_batch %" PRId64 " of sequence length %" PRId64
                       " is more than %" PRId64 " tokens in a forward pass: lower it",
                       s->micro_batch, s->sequence_length, WORKSPACE_ROWS_MAX);
    if (s->steps > TOKENS_MAX / s->batch_tokens)
        return err_set(e, "train.steps %" PRId64 " of %" PRId64 " tokens are more than %.0e tokens",
                       s->steps, s->batch_tokens, (double)TOKENS_MAX);
    return 0;
}

int settings_check(struct settings *s, struct err *e)
{
    struct model_config shape = s->model;
    if (!shape.vocab_size)
        shape.vocab_size = 32000; /* not known yet, and no reason to refuse */
    if (model_config_check(&shape, e) || check_batch(s, e))
        return -1;
    if (s->min_lr > s->lr)
        return err_set(e, "optimizer.min_lr %g is above optimizer.lr %g", s->min_lr, s->lr);
    if (s->warmup_steps > s->steps)
        return err_set(e,
                       "schedule.warmup_steps %" PRId64 " is more than train.steps %" PRId64
                       "; lower it with --set schedule.warmup_steps=N",
                       s->warmup_steps, s->steps);
    if (s->schedule_name == SCHEDULE_WSD &&
        settings_schedule(s).decay_steps > s->steps - s->warmup_steps)
        return err_set(e,
                       "a decay of %" PRId64 " steps and schedule.warmup_steps %" PRId64
                       " are more than train.steps %" PRId64 "; lower schedule.decay_steps",
                       settings_schedule(s).decay_steps, s->warmup_steps, s->steps);
    return 0;
}

/* "german-mini" from "train/configs/german-mini.yaml". */
static char *config_name(const char *path)
{
    const char *base = fs_base(path);
    const char *dot = strrchr(base, '.');
    return mem_strndup(base, dot ? (size_t)(dot - base) : strlen(base));
}

static int find_config(struct settings *s, char **path, struct err *e)
{
    if (given(s->config)) {
        *path = settings_find(s->config, e);
        return *path ? 0 : -1;
    }
    if (!given(s->out) || !(s->resume || s->show_data >= 0))
        return err_set(e, "--config is missing: name a configuration, e.g. --config german-mini");
    *path = fs_join(s->out, "config.yaml");
    if (fs_exists(*path))
        return 0;
    err_set(e, "%s holds no run (no config.yaml)", s->out);
    free(*path);
    return -1;
}

/* Whether the file has the fault that `e` describes without any --set. */
static bool is_fault_of_file(const char *path, const struct err *e)
{
    struct settings alone;
    struct err why;
    settings_init(&alone);
    bool same = (config_read(settings_rows, &alone, path, &why) || settings_check(&alone, &why)) &&
                !strcmp(why.msg, e->msg);
    settings_release(&alone);
    return same;
}

int settings_resolve(struct settings *s, struct err *e)
{
    char *path = NULL;
    if (find_config(s, &path, e))
        return -1;
    char *name = config_name(path);
    int r = config_read(settings_rows, s, path, e);
    for (size_t i = 0; !r && i < s->set.count; i++)
        r = config_assign(settings_rows, s, s->set.items[i], "--set", e);
    if (given(s->data))
        replace(&s->data_prefix, s->data);
    if (given(s->tokenizer))
        replace(&s->data_tokenizer, s->tokenizer);
    if (given(s->out))
        replace(&s->run_out, s->out);
    if (!given(s->run_out)) {
        char *out = fs_join("runs", "%s", name);
        replace(&s->run_out, out);
        free(out);
    }
    if (!r && settings_check(s, e))
        r = err_add(e, "%s", is_fault_of_file(path, e) ? path : "--set");
    s->compute = settings_precision(s) == KERNEL_BF16 ? COMPUTE_BF16 : COMPUTE_FP32;
    free(name);
    free(path);
    return r;
}

void settings_vocab(struct settings *s, uint32_t tokenizer_vocab_size)
{
    int64_t n = s->vocab_multiple;
    s->model.vocab_size = ((int64_t)tokenizer_vocab_size + n - 1) / n * n;
}

enum kernel_precision settings_precision(const struct settings *s)
{
    if (s->compute == COMPUTE_AUTO)
        return cpu_level() >= CPU_AMX ? KERNEL_BF16 : KERNEL_FP32;
    return s->compute == COMPUTE_BF16 ? KERNEL_BF16 : KERNEL_FP32;
}

static enum masters masters_of(const struct settings *s)
{
    if (s->masters == MASTERS_SETTING_AUTO)
        return settings_precision(s) == KERNEL_BF16 ? MASTERS_SPLIT : MASTERS_FP32;
    return s->masters == MASTERS_SETTING_SPLIT ? MASTERS_SPLIT : MASTERS_FP32;
}

struct optimizer_options settings_optimizer(const struct settings *s)
{
    return (struct optimizer_options){
        .name = (enum optimizer_name)s->optimizer_name,
        .masters = masters_of(s),
        .moments = (enum moments)s->moments,
        .beta1 = s->adamw.beta1,
        .beta2 = s->adamw.beta2,
        .eps = s->adamw.eps,
        .weight_decay = s->adamw.weight_decay,
        .momentum = s->momentum,
        .seed = (uint64_t)s->seed,
    };
}

struct workspace_options settings_workspace(const struct settings *s, enum recompute recompute)
{
    return (struct workspace_options){
        .B = s->micro_batch,
        .T = s->sequence_length,
        .precision = settings_precision(s),
        .backward = true,
        .recompute = recompute,
        .mask_documents = s->document_mask,
        .document_id = TOKEN_BOS,
        .z_loss = s->z_loss,
    };
}

struct schedule settings_schedule(const struct settings *s)
{
    return (struct schedule){
        .name = (enum schedule_name)s->schedule_name,
        .lr = s->lr,
        .min_lr = s->min_lr,
        .warmup_steps = s->warmup_steps,
        .steps = s->steps,
        .decay_steps = s->decay_steps ? s->decay_steps : llround(s->decay_share * (double)s->steps),
        .decay = (enum schedule_decay)s->decay_type,
    };
}

bool settings_snapshot_due(const struct settings *s, uint64_t step)
{
    if (!s->checkpoints_every)
        return false;
    if (step == (uint64_t)s->steps || step % (uint64_t)s->checkpoints_every == 0)
        return true;
    return s->snapshot_schedule == SNAPSHOT_LOG && step <= 512 && (step & (step - 1)) == 0;
}

/* --- what a run must keep to ---------------------------------------------- */

static bool is_identity(const struct config_row *row)
{
    if (!strchr(row->name, '.'))
        return false;
    for (size_t i = 0; i < sizeof(free_keys) / sizeof(*free_keys); i++)
        if (!strcmp(row->name, free_keys[i]))
            return false;
    return true;
}

void settings_put_identity(const struct settings *s, struct buf *out)
{
    struct buf value = {0};
    bool first = true;
    for (const struct config_row *row = settings_rows; row->name; row++) {
        if (!is_identity(row))
            continue;
        buf_clear(&value);
        config_format(row, s, &value);
        buf_puts(out, first ? "" : ", ");
        json_put_cstring(out, row->name);
        buf_puts(out, ": ");
        json_put_cstring(out, value.data);
        first = false;
    }
    buf_release(&value);
}

int settings_same(const struct settings *s, const char *key, const char *value, struct err *e)
{
    const struct config_row *row = config_find(settings_rows, key);
    if (!row || !is_identity(row))
        return err_set(e, "it was made with the setting %s, which this version does not know", key);
    struct buf ours = {0};
    config_format(row, s, &ours);
    int r = 0;
    if (strcmp(ours.data, value))
        r = err_set(e, "it was made with %s %s, this is %s: a run goes on only as it began", key,
                    value, ours.data);
    buf_release(&ours);
    return r;
}

/* --- finding a configuration ---------------------------------------------- */

/* Folder of the shipped configurations seen from the program's own file; NULL if unknown. */
static char *shipped_folder(void)
{
    char exe[4096];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
    if (n <= 0)
        return NULL;
    exe[n] = '\0';
    char *slash = strrchr(exe, '/');
    if (!slash)
        return NULL;
    *slash = '\0';
    return fs_join(exe, "../train/configs");
}

/* Adds "german120m german1b …" to known; ends with a NULL the list does not count. */
static void list_names(const char *folder, struct config_list *known)
{
    struct fs_list files = {0};
    struct err ignored;
    if (fs_is_folder(folder) && !fs_list_folder(&files, folder, &ignored))
        for (size_t i = 0; i < files.count; i++) {
            char *name = config_name(files.paths[i]);
            if (strcmp(name, files.paths[i]))
                config_list_add(known, name);
            free(name);
        }
    fs_list_release(&files);
}

static void unknown_config(const char *name, const char *folder, struct err *e)
{
    struct config_list known = {0};
    list_names(folder, &known);
    const char *near = config_nearest(name, (const char *const *)known.items, known.count);
    struct buf names = {0};
    buf_puts(&names, "");
    for (size_t i = 0; i < known.count; i++)
        buf_printf(&names, "%s%s", i ? ", " : "", known.items[i]);
    if (near)
        err_set(e, "no configuration %s; did you mean %s? (there are: %s)", name, near, names.data);
    else
        err_set(e, "no configuration %s: neither a file nor one of %s", name,
                names.len ? names.data : "train/configs, which is not beside the program");
    buf_release(&names);
    config_list_release(&known);
}

char *settings_find(const char *name, struct err *e)
{
    if (fs_exists(name) && !fs_is_folder(name))
        return mem_strdup(name);
    char *folders[] = {shipped_folder(), mem_strdup("train/configs")};
    char *found = NULL;
    const char *listed = folders[1];
    for (size_t i = 0; i < 2 && !found; i++) {
        if (!folders[i])
            continue;
        if (i == 0 && fs_is_folder(folders[0]))
            listed = folders[0];
        char *path = fs_join(folders[i], "%s.yaml", name);
        if (!strchr(name, '/') && fs_exists(path))
            found = path;
        else
            free(path);
    }
    if (!found)
        unknown_config(name, listed, e);
    free(folders[0]);
    free(folders[1]);
    return found;
}
