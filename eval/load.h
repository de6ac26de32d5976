/*
 * A checkpoint folder in memory: model and tokenizer, ready to run.
 *
 * Any Hugging Face folder of a Llama with config.json, model.safetensors and
 * tokenizer.json will do. One of ours also has a manifest, which is checked first: a
 * folder whose bytes changed is refused with the file's name.
 */
#ifndef EVAL_LOAD_H
#define EVAL_LOAD_H

#include "common/err.h"
#include "model/model.h"
#include "tokenizer/tokenizer.h"

struct loaded {
    struct model model;
    struct tokenizer *tokenizer;
};

/* Every parameter must be there with its shape, and no other tensor. The tokenizer must fit: its
 * ids are below vocab_size, fewer than 256 rows are spare (padding), and where the manifest names
 * a tokenizer by hash it is this one. */
int load_checkpoint(struct loaded *l, const char *folder, struct err *e);
void loaded_release(struct loaded *l);

/* What a checkpoint folder says of itself, without loading it. */
struct checkpoint_facts {
    uint64_t step;         /* optimiser steps behind it; 0 if it does not say */
    uint64_t tokens;       /* trained on until then; 0 if it does not say */
    uint64_t weights_hash; /* XXH3-64 of model.safetensors */
};

/* Checks the manifest where there is one (checkpoints/checkpoint.h), then reads step and
 * tokens from it or from trainer/state.json. */
int checkpoint_facts(struct checkpoint_facts *f, const char *folder, struct err *e);

#endif
