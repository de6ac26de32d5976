/*
 * What a snapshot writes when it is asked: a fixed set of German prompts, so that the
 * samples of all snapshots of all runs can be laid side by side.
 */
#ifndef EVAL_SAMPLES_H
#define EVAL_SAMPLES_H

#include "common/err.h"
#include "common/log.h"
#include "model/generate.h"
#include "model/model.h"
#include "tokenizer/tokenizer.h"

struct samples_options {
    int64_t max_tokens; /* new tokens a sample, fewer at </s> or the end of the context */
    uint64_t seed;      /* of the sampled mode */
    enum kernel_precision precision;
};

/* Each prompt is continued twice: greedily, and sampled as `mundwerk generate` does unless told
 * otherwise (eval/choose.h). */
enum sample_mode { SAMPLE_GREEDY, SAMPLE_SAMPLED, SAMPLE_MODES };
const char *sample_mode_name(enum sample_mode mode);
const struct sampler *sample_sampler(enum sample_mode mode);

#define SAMPLES_PROMPTS 8
extern const char *const samples_prompts[SAMPLES_PROMPTS];

struct sample {
    const char *prompt;
    enum sample_mode mode;
    uint64_t seed;   /* 0 for greedy */
    struct buf text; /* the continuation alone, valid UTF-8: broken bytes became U+FFFD */
    uint64_t tokens; /* generated, without </s> */
    bool ended;      /* by </s> */
};

/* Fills out[SAMPLES_PROMPTS * SAMPLE_MODES], prompt by prompt. The result depends on model,
 * tokenizer, options and CPU level. A prompt longer than the context keeps only its end.
 * Progress advances by one a sample; p may be NULL. */
int samples_run(struct sample *out, const struct model *m, const struct tokenizer *t,
                const struct samples_options *o, struct progress *p, struct err *e);
void samples_release(struct sample *samples);

/* Appends bytes as valid UTF-8: each byte that is not part of any becomes U+FFFD; a
 * character cut off at the very end is left out. */
void samples_clean(struct buf *out, const char *bytes, size_t len);

#endif
