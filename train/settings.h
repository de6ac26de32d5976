/*
 * What a training run is made of: the table of configuration keys and options of
 * `train`, where a configuration is found, and what must agree for a run to go on.
 *
 * Precedence: the table's defaults, the YAML file of --config, --set, then --data,
 * --tokenizer and --out.
 */
#ifndef TRAIN_SETTINGS_H
#define TRAIN_SETTINGS_H

#include "common/config.h"
#include "model/model.h"
#include "train/optimizer.h"
#include "train/schedule.h"

#include <stdbool.h>
#include <stdint.h>

enum snapshot_schedule { SNAPSHOT_LINEAR, SNAPSHOT_LOG };
enum compute { COMPUTE_AUTO, COMPUTE_FP32, COMPUTE_BF16 };
enum masters_setting { MASTERS_SETTING_AUTO, MASTERS_SETTING_FP32, MASTERS_SETTING_SPLIT };
enum recompute_setting { /* AUTO is for plan_make() to decide, the others are enum recompute */
                         RECOMPUTE_SETTING_AUTO,
                         RECOMPUTE_SETTING_NONE,
                         RECOMPUTE_SETTING_MLP,
                         RECOMPUTE_SETTING_FULL
};

struct settings {
    /* the command line */
    char *config, *data, *tokenizer, *out; /* as typed; NULL or "" = not given */
    struct config_list set;
    char *memory; /* see plan_make() */
    bool resume, plan, profile;
    int64_t show_data;     /* step; -1 = not asked for */
    int64_t profile_every; /* steps; 0 = at the end only */
    int64_t threads;

    /* the configuration */
    struct model_config model; /* vocab_size is not a key: settings_vocab() sets it */
    int64_t vocab_multiple;
    int64_t steps, batch_tokens, micro_batch, sequence_length, seed, skip_limit;
    int optimizer_name, schedule_name, snapshot_schedule; /* enums above and in schedule.h */
    double lr, min_lr, grad_clip, spike_sigma, z_loss;
    bool document_mask;
    int recompute; /* enum recompute_setting */
    int masters;   /* enum masters_setting */
    int moments;   /* enum moments */
    struct adamw adamw;
    double momentum; /* of optimizer.name muon */
    int64_t warmup_steps, decay_steps;
    double decay_share;
    int decay_type; /* enum schedule_decay */
    int64_t checkpoints_every, checkpoints_keep;
    int64_t eval_every, eval_tokens;
    int compute; /* enum compute; never AUTO after settings_resolve() */
    char *data_prefix, *data_tokenizer, *run_out;
};

extern const struct config_row settings_rows[];

void settings_init(struct settings *s);
void settings_release(struct settings *s);

/* Reads the file of s->config, applies s->set, --data, --tokenizer, --out, fills run.out
 * with runs/<name of the configuration> where it is empty, and checks what the ranges of
 * single keys cannot (settings_check()). With --resume and --out alone the run's own
 * config.yaml is the configuration. What is "auto" is decided here, so that config.yaml
 * records the decision. */
int settings_resolve(struct settings *s, struct err *e);

/* Combinations that make no sense: heads that do not divide, batch_tokens that is not a
 * whole number of sequences, a warm-up longer than the run … Reduces micro_batch to the
 * batch and fills sequence_length where it is 0. */
int settings_check(struct settings *s, struct err *e);

/* Sets the model's vocabulary from the tokenizer's, rounded up to model.vocab_multiple. */
void settings_vocab(struct settings *s, uint32_t tokenizer_vocab_size);

struct optimizer_options settings_optimizer(const struct settings *s);
/* For training, keeping what `recompute` says. */
struct workspace_options settings_workspace(const struct settings *s, enum recompute recompute);
/* precision.compute, where it is auto by what this machine has. */
enum kernel_precision settings_precision(const struct settings *s);

struct schedule settings_schedule(const struct settings *s);

/* Whether a snapshot belongs to this step (0 = before the first update). */
bool settings_snapshot_due(const struct settings *s, uint64_t step);

/* The keys that decide the bits of a run, as the members of a JSON object. Paths, the
 * cadence of snapshots and of validation, and what is only read at start are not among
 * them: changing those does not change the model. */
void settings_put_identity(const struct settings *s, struct buf *out);
/* Compares a key of another run's identity with ours: 0 if equal, else a sentence. */
int settings_same(const struct settings *s, const char *key, const char *value, struct err *e);

/* The path of a configuration: `name` itself if it is a file, else
 * train/configs/<name>.yaml beside the program (bin/..) or in the working folder.
 * Caller frees; NULL and a sentence naming what there is. */
char *settings_find(const char *name, struct err *e);

#endif
