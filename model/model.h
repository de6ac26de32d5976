/*
 * The decoder: a Llama as in LLäMmlein (spec llammlein.md §3): pre-norm RMSNorm,
 * half-split RoPE in fp32, grouped-query attention, SwiGLU, untied head, no
 * biases.
 *
 * Letters used for shapes everywhere in model/ and train/:
 *
 *     B   sequences in a (micro) batch          T   tokens in a sequence
 *     C   hidden_size                           L   num_hidden_layers
 *     H   num_attention_heads                   G   num_key_value_heads (groups)
 *     D   head size, C / H                      F   intermediate_size
 *     V   vocab_size                            R   LoRA rank
 *
 * N = B*T is used where the tokens of all sequences are treated alike.
 *
 * Tensors are row-major, last letter fastest. A weight W (out, in) is applied as
 * y = x Wᵀ, as in Hugging Face files. A loaded model holds all parameters as fp32 in one
 * block; while it is trained its optimiser holds them instead (train/optimizer.h). What the
 * kernels read are copies in panels (weights.h), in the precision of the workspace.
 */
#ifndef MODEL_MODEL_H
#define MODEL_MODEL_H

#include "common/err.h"
#include "common/mem.h"
#include "common/rng.h"
#include "model/kernels/kernels.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Names and meanings of Hugging Face's config.json. */
struct model_config {
    int64_t vocab_size;
    int64_t hidden_size;
    int64_t intermediate_size;
    int64_t num_hidden_layers;
    int64_t num_attention_heads;
    int64_t num_key_value_heads;
    int64_t max_position_embeddings; /* longest sequence */
    double rope_theta;
    double rms_norm_eps;
    bool tie_word_embeddings; /* only false is supported; true is refused */
    bool qk_norm; /* RMSNorm of query and key heads: no Llama any more, config.json says qwen3 */
};

/* 0, or a sentence naming the key that does not fit (heads must divide, sizes > 0, nothing
 * beyond what the kernels take …). */
int model_config_check(const struct model_config *c, struct err *e);
uint64_t
model_param_count(const struct model_config *c); /* german120m at V = 32,000: 124,668,672 */
/* Model FLOPs of one training token at sequence length T, causal attention, 3 x forward
 * (performance.md §8: 713.7 MF for german120m at T = 2048). */
double model_train_flops(const struct model_config *c, int64_t T);
/* config.json as transformers reads it (both rope spellings), and back. */
void model_config_put_json(const struct model_config *c, struct buf *out);
int model_config_read_json(struct model_config *c, const char *path, struct err *e);

/* One named parameter. Names are Hugging Face's, e.g.
 * "model.layers.0.self_attn.q_proj.weight". */
struct model_tensor {
    char name[80];
    int64_t rows;  /* out features; for a norm 1 */
    int64_t cols;  /* in features */
    bool is_norm;  /* one-dimensional in files: shape [cols] */
    float *data;   /* inside model.params; NULL without */
    size_t offset; /* of data in model.params, floats */
};

struct model {
    struct model_config config;
    float *params;      /* all parameters, fp32; NULL while an optimiser holds them */
    size_t param_count; /* floats, without padding = model_param_count() */
    size_t params_size; /* floats in the block: each tensor starts at a multiple of 16 */
    struct model_tensor *tensors;
    size_t tensor_count; /* 3 + 9 L: embed, per layer 9, final norm, head; 2 L norms of heads */
};

/* Reserves the block (zeroed). */
int model_init(struct model *m, const struct model_config *c, struct err *e);
/* The table of tensors alone, without params. */
int model_init_shape(struct model *m, const struct model_config *c, struct err *e);
void model_release(struct model *m);
/* Fills the parameters (llammlein.md §3.1): N(0, sqrt(2/(5C))), o_proj and down_proj
 * N(0, 1/(sqrt(C) L)), norms 1. Depends on the seed only. */
void model_randomize(struct model *m, uint64_t seed);
/* Rows [row, row + count) of tensor number i of the same, without params. rows: (count, cols) */
void model_random_rows(const struct model *m, size_t i, uint64_t seed, int64_t row, int64_t count,
                       float *rows);
struct model_tensor *model_find(const struct model *m, const char *name); /* NULL if absent */

/* --- LoRA (Hu et al. 2021) on q_proj and v_proj, for fine-tuned heads -------- */
struct lora {
    int64_t rank;   /* R */
    double scale;   /* alpha / R */
    double dropout; /* on the input of A, while training */
    float *params;  /* per layer: Aq (R, C), Bq (C, R), Av (R, C), Bv (G*D, R) */
    size_t param_count;
};

int lora_init(struct lora *l, const struct model_config *c, int64_t rank, double alpha,
              double dropout, uint64_t seed, struct err *e); /* A Kaiming-uniform(a=√5), B zero */
void lora_release(struct lora *l);

/* --- running it ------------------------------------------------------------ */

/* What the backward pass computes once more instead of keeping it. All three give the same
 * bits. */
enum recompute {
    RECOMPUTE_NONE, /* 1B: 40 KB a token and layer in bf16 */
    RECOMPUTE_MLP,  /* gate and up: 21 KB */
    RECOMPUTE_FULL  /* all but the residual stream (8 KB): a third more operations */
};

struct weights; /* weights.h */

struct workspace_options {
    int64_t B, T;                    /* room for B*T tokens, 2^22 at most; sequences of at most T */
    enum kernel_precision precision; /* of activations and products, kernels.h */
    bool backward;                   /* keep what model_backward() needs */
    enum recompute recompute;
    bool hidden_rows;              /* room for model_hidden() */
    bool mask_documents;           /* attention stays within a document … */
    uint32_t document_id;          /* … which begins at each token with this id */
    double z_loss;                 /* weight of the squared log-sum-exp in losses that have
                                      gradients; 0 = none */
    const struct lora *lora;       /* borrowed; NULL = none */
    const struct weights *weights; /* borrowed, of the same precision; NULL = the workspace packs
                                      its own from m->params */
};

/* Most tokens (B*T) of a batch; keeps every sum of bytes below 2^63. */
#define WORKSPACE_ROWS_MAX ((int64_t)1 << 22)

/* Activations and scratch memory for one model shape, reserved once. */
struct workspace;
int workspace_init(struct workspace **w, const struct model *m, const struct workspace_options *o,
                   struct err *e);
void workspace_free(struct workspace *w);
/* Bytes workspace_init() will reserve, for --plan and the budget; and those it did reserve. */
uint64_t workspace_bytes(const struct model_config *c, const struct workspace_options *o);
uint64_t workspace_reserved(const struct workspace *w);

/* Call after m->params changed (a load, a step by hand): packs them again. Does nothing with
 * options.weights, which their owner keeps right. */
void workspace_params_changed(struct workspace *w, const struct model *m);

/* Runs the body on tokens (B, T), where B*T and T fit the workspace. lora_rng: dropout masks
 * while training, NULL = no dropout. Ids must be < V (checked at the border; asserted here). */
void model_forward(const struct model *m, struct workspace *w, const uint32_t *tokens, int64_t B,
                   int64_t T, struct rng *lora_rng);
/* The hidden states after the final norm, (B, T, C) floats row by row, of the last
 * model_forward(); needs options.hidden_rows. Valid until the next call. */
const float *model_hidden(const struct model *m, struct workspace *w);

#define MODEL_IGNORE UINT32_MAX /* a target that does not count */

/* Next-token losses of the last model_forward(): losses (B, T) in nats, 0 where the target
 * is MODEL_IGNORE. Logits are not stored. If grads (in block order, weights.h) is not NULL (needs
 * options.backward), also adds the gradient of sum(losses) * scale to the lm_head part of grads
 * and leaves that with respect to the hidden states for model_backward(). */
void model_loss(const struct model *m, struct workspace *w, const uint32_t *targets, float *losses,
                float *grads, float scale);

/* Backward pass of the last model_forward(). d_hidden (B, T, C) is the gradient with respect
 * to model_hidden(), row by row; NULL = the one model_loss() left. Adds to grads (in block order,
 * weights.h; NULL = the body is frozen) and to lora_grads (layout of lora.params; NULL = none).
 * Once after each model_forward(): it overwrites what that left. */
void model_backward(const struct model *m, struct workspace *w, const float *d_hidden, float *grads,
                    float *lora_grads);

/* Logits (rows, V) of hidden states (rows, C), with the workspace's precision. */
void model_logits(const struct model *m, struct workspace *w, const float *hidden, int64_t rows,
                  float *logits);

#endif
