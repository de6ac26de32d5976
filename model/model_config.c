/*
 * The shape of a model: what fits together, how much it is, and config.json.
 *
 * Reading is strict about meaning and lenient about extras: keys that change the
 * arithmetic and that this decoder does not have (biases, scaled rope, another
 * activation, tied embeddings) are refused by name; keys that do not concern the
 * arithmetic are skipped. Missing keys get transformers' LlamaConfig defaults.
 */
#include "common/fs.h"
#include "common/json.h"
#include "model/kernels/table.h" /* limits of the kernels */
#include "model/model.h"

#include <math.h>
#include <string.h>

#define CONFIG_BYTES_MAX ((size_t)1 << 20)  /* a config.json is about 1 kB */
#define DIM_MAX          ((int64_t)1 << 24) /* keeps every product of three dimensions in 63 bits */
#define LAYERS_MAX       4096
#define PARAMS_MAX       ((uint64_t)1 << 44)

static int check_range(const char *key, int64_t value, int64_t min, int64_t max, struct err *e)
{
    if (value < min || value > max)
        return err_set(e, "%s is %lld, must be between %lld and %lld", key, (long long)value,
                       (long long)min, (long long)max);
    return 0;
}

int model_config_check(const struct model_config *c, struct err *e)
{
    if (check_range("vocab_size", c->vocab_size, 4, DIM_MAX, e) ||
        check_range("hidden_size", c->hidden_size, 1, NORM_WIDTH_MAX, e) ||
        check_range("intermediate_size", c->intermediate_size, 1, DIM_MAX, e) ||
        check_range("num_hidden_layers", c->num_hidden_layers, 1, LAYERS_MAX, e) ||
        check_range("num_attention_heads", c->num_attention_heads, 1, 1 << 16, e) ||
        check_range("num_key_value_heads", c->num_key_value_heads, 1, 1 << 16, e) ||
        check_range("max_position_embeddings", c->max_position_embeddings, 1, DIM_MAX, e))
        return -1;
    long long C = c->hidden_size, H = c->num_attention_heads, G = c->num_key_value_heads;
    if (C % H)
        return err_set(e, "num_attention_heads %lld does not divide hidden_size %lld", H, C);
    if (C / H % 8 || C / H > ATTENTION_D_MAX)
        return err_set(e,
                       "head size %lld (hidden_size / num_attention_heads) is not a multiple of 8 "
                       "up to %d",
                       C / H, ATTENTION_D_MAX);
    if (H % G)
        return err_set(e, "num_key_value_heads %lld does not divide num_attention_heads %lld", G,
                       H);
    if (!(c->rope_theta >= 1 && c->rope_theta <= 1e12))
        return err_set(e, "rope_theta is %g, must be between 1 and 1e12", c->rope_theta);
    if (!(c->rms_norm_eps > 0 && c->rms_norm_eps <= 1))
        return err_set(e, "rms_norm_eps is %g, must be above 0 and at most 1", c->rms_norm_eps);
    if (c->tie_word_embeddings)
        return err_set(e, "tie_word_embeddings is true, but only an untied head is supported");
    /* In floating point: the exact count might not fit 64 bits. */
    double layer = 2.0 * C * C + 2.0 * C * (C / H * G) + 3.0 * C * c->intermediate_size;
    double params = 2.0 * C * c->vocab_size + layer * c->num_hidden_layers;
    if (params > (double)PARAMS_MAX)
        return err_set(e, "the model has %.3g parameters, more than the limit of %.3g", params,
                       (double)PARAMS_MAX);
    return 0;
}

/* Weights of one layer that take part in matrix products. */
static uint64_t layer_matrix_params(const struct model_config *c)
{
    uint64_t C = c->hidden_size, F = c->intermediate_size;
    uint64_t kv = C / c->num_attention_heads * c->num_key_value_heads; /* G*D */
    return C * C + 2 * kv * C + C * C + 3 * F * C;                     /* q, k and v, o, mlp */
}

uint64_t model_param_count(const struct model_config *c)
{
    uint64_t C = c->hidden_size, L = c->num_hidden_layers, V = c->vocab_size;
    uint64_t heads = c->qk_norm ? 2 * C / c->num_attention_heads : 0; /* norms of query and key */
    return V * C + L * (layer_matrix_params(c) + 2 * C + heads) + C + V * C;
}

double model_train_flops(const struct model_config *c, int64_t T)
{
    double C = c->hidden_size, L = c->num_hidden_layers, V = c->vocab_size;
    double matrices = L * (double)layer_matrix_params(c) + V * C;
    /* A token sees (T+1)/2 keys on average: q·k and p·v are 2 C FLOPs each for every key. */
    double attention = L * 4 * C * (T + 1) / 2;
    return 3 * (2 * matrices + attention);
}

/* --- config.json ----------------------------------------------------------- */

void model_config_put_json(const struct model_config *c, struct buf *out)
{
    struct buf theta = {0}, eps = {0}, range = {0};
    json_put_f64(&theta, c->rope_theta);
    json_put_f64(&eps, c->rms_norm_eps);
    json_put_f64(&range, sqrt(2.0 / (5.0 * c->hidden_size)));
    /* transformers 4 reads rope_theta and torch_dtype, version 5 rope_parameters and dtype;
     * other readers still expect the old ones (evaluation.md §5.1). */
    buf_printf(out,
               "{\n"
               "  \"architectures\": [\"%s\"],\n"
               "  \"model_type\": \"%s\",\n"
               "  \"vocab_size\": %lld,\n"
               "  \"hidden_size\": %lld,\n"
               "  \"intermediate_size\": %lld,\n"
               "  \"num_hidden_layers\": %lld,\n"
               "  \"num_attention_heads\": %lld,\n"
               "  \"num_key_value_heads\": %lld,\n"
               "  \"head_dim\": %lld,\n"
               "  \"max_position_embeddings\": %lld,\n",
               c->qk_norm ? "Qwen3ForCausalLM" : "LlamaForCausalLM", c->qk_norm ? "qwen3" : "llama",
               (long long)c->vocab_size, (long long)c->hidden_size, (long long)c->intermediate_size,
               (long long)c->num_hidden_layers, (long long)c->num_attention_heads,
               (long long)c->num_key_value_heads,
               (long long)(c->hidden_size / c->num_attention_heads),
               (long long)c->max_position_embeddings);
    buf_printf(out,
               "  \"hidden_act\": \"silu\",\n"
               "  \"rms_norm_eps\": %s,\n"
               "  \"rope_theta\": %s,\n"
               "  \"rope_scaling\": null,\n"
               "  \"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": %s},\n"
               "  \"attention_bias\": false,\n"
               "  \"attention_dropout\": 0.0,\n"
               "  \"mlp_bias\": false,\n"
               "  \"pretraining_tp\": 1,\n"
               "  \"initializer_range\": %s,\n"
               "  \"use_cache\": true,\n"
               "  \"tie_word_embeddings\": %s,\n"
               "  \"bos_token_id\": 1,\n"
               "  \"eos_token_id\": 2,\n"
               "  \"pad_token_id\": 3,\n"
               "  \"dtype\": \"bfloat16\",\n"
               "  \"torch_dtype\": \"bfloat16\"\n"
               "}\n",
               eps.data, theta.data, theta.data, range.data,
               c->tie_word_embeddings ? "true" : "false");
    buf_release(&theta);
    buf_release(&eps);
    buf_release(&range);
}

/* What config.json said, before it is checked as a whole. */
struct config_reading {
    struct model_config c;
    uint64_t seen;           /* bit per key, for duplicates and required keys */
    int64_t head_dim;        /* 0 = not given */
    double theta_parameters; /* of rope_parameters; 0 = not given */
};

enum config_key {
    KEY_VOCAB_SIZE,
    KEY_HIDDEN_SIZE,
    KEY_INTERMEDIATE_SIZE,
    KEY_LAYERS,
    KEY_HEADS,
    KEY_REQUIRED_COUNT, /* the keys above have no sensible default */
    KEY_KV_HEADS = KEY_REQUIRED_COUNT,
    KEY_POSITIONS,
    KEY_HEAD_DIM,
    KEY_ROPE_THETA,
    KEY_EPS,
    KEY_TIE,
    KEY_MODEL_TYPE,
    KEY_HIDDEN_ACT,
    KEY_ATTENTION_BIAS,
    KEY_MLP_BIAS,
    KEY_ROPE_SCALING,
    KEY_ROPE_PARAMETERS,
    KEY_COUNT
};

static const char *const key_names[KEY_COUNT] = {
    [KEY_VOCAB_SIZE] = "vocab_size",
    [KEY_HIDDEN_SIZE] = "hidden_size",
    [KEY_INTERMEDIATE_SIZE] = "intermediate_size",
    [KEY_LAYERS] = "num_hidden_layers",
    [KEY_HEADS] = "num_attention_heads",
    [KEY_KV_HEADS] = "num_key_value_heads",
    [KEY_POSITIONS] = "max_position_embeddings",
    [KEY_HEAD_DIM] = "head_dim",
    [KEY_ROPE_THETA] = "rope_theta",
    [KEY_EPS] = "rms_norm_eps",
    [KEY_TIE] = "tie_word_embeddings",
    [KEY_MODEL_TYPE] = "model_type",
    [KEY_HIDDEN_ACT] = "hidden_act",
    [KEY_ATTENTION_BIAS] = "attention_bias",
    [KEY_MLP_BIAS] = "mlp_bias",
    [KEY_ROPE_SCALING] = "rope_scaling",
    [KEY_ROPE_PARAMETERS] = "rope_parameters",
};

static int expect_string(struct json *j, const char *want, const char *complaint)
{
    struct buf s = {0};
    int rc = json_string(j, &s);
    if (!rc && (s.len != strlen(want) || memcmp(s.data, want, s.len)))
        rc = json_fail(j, complaint);
    buf_release(&s);
    return rc;
}

/* A Qwen 3 is a Llama with norms of query and key heads. */
static int read_model_type(struct json *j, bool *qk_norm)
{
    struct buf s = {0};
    int rc = json_string(j, &s);
    *qk_norm = !rc && s.len == 5 && !memcmp(s.data, "qwen3", 5);
    if (!rc && !*qk_norm && (s.len != 5 || memcmp(s.data, "llama", 5) != 0))
        rc = json_fail(j, "only model_type \"llama\" and \"qwen3\" are supported");
    buf_release(&s);
    return rc;
}

static int expect_false(struct json *j, const char *complaint)
{
    bool value;
    if (json_bool(j, &value))
        return -1;
    return value ? json_fail(j, complaint) : 0;
}

/* {"rope_type": "default", "rope_theta": x}: anything scaled is another model. */
static int read_rope_object(struct json *j, double *theta)
{
    char key[64];
    int r;
    if (json_peek(j) == JSON_NULL)
        return json_null(j);
    if (json_object(j))
        return -1;
    while ((r = json_next_key(j, key, sizeof(key))) > 0) {
        if (!strcmp(key, "rope_type") || !strcmp(key, "type"))
            r = expect_string(j, "default", "only rope_type \"default\" is supported");
        else if (!strcmp(key, "rope_theta"))
            r = json_f64(j, theta);
        else if (!strcmp(key, "factor"))
            r = json_fail(j, "scaled rotary embedding is not supported");
        else
            r = json_skip(j);
        if (r)
            return -1;
    }
    return r;
}

static int read_key(struct json *j, enum config_key key, struct config_reading *in)
{
    struct model_config *c = &in->c;
    switch (key) {
    case KEY_VOCAB_SIZE:
        return json_i64(j, &c->vocab_size);
    case KEY_HIDDEN_SIZE:
        return json_i64(j, &c->hidden_size);
    case KEY_INTERMEDIATE_SIZE:
        return json_i64(j, &c->intermediate_size);
    case KEY_LAYERS:
        return json_i64(j, &c->num_hidden_layers);
    case KEY_HEADS:
        return json_i64(j, &c->num_attention_heads);
    case KEY_KV_HEADS:
        return json_peek(j) == JSON_NULL ? json_null(j) : json_i64(j, &c->num_key_value_heads);
    case KEY_POSITIONS:
        return json_i64(j, &c->max_position_embeddings);
    case KEY_HEAD_DIM:
        return json_peek(j) == JSON_NULL ? json_null(j) : json_i64(j, &in->head_dim);
    case KEY_ROPE_THETA:
        return json_f64(j, &c->rope_theta);
    case KEY_EPS:
        return json_f64(j, &c->rms_norm_eps);
    case KEY_TIE:
        return json_bool(j, &c->tie_word_embeddings);
    case KEY_MODEL_TYPE:
        return read_model_type(j, &c->qk_norm);
    case KEY_HIDDEN_ACT:
        return expect_string(j, "silu", "only hidden_act \"silu\" is supported");
    case KEY_ATTENTION_BIAS:
        return expect_false(j, "attention_bias true is not supported");
    case KEY_MLP_BIAS:
        return expect_false(j, "mlp_bias true is not supported");
    case KEY_ROPE_SCALING:
    case KEY_ROPE_PARAMETERS:
        return read_rope_object(j, &in->theta_parameters);
    case KEY_COUNT:
        break;
    }
    return json_skip(j);
}

static int read_members(struct json *j, struct config_reading *in)
{
    char name[64];
    int r;
    if (json_object(j))
        return -1;
    while ((r = json_next_key(j, name, sizeof(name))) > 0) {
        int key = 0;
        while (key < KEY_COUNT && strcmp(name, key_names[key]))
            key++;
        if (key < KEY_COUNT && json_seen(j, &in->seen, (unsigned)key))
            return -1;
        if (read_key(j, (enum config_key)key, in))
            return -1;
    }
    return r ? -1 : json_end(j);
}

/* What only the whole file can tell. */
static int check_reading(struct config_reading *in, struct err *e)
{
    struct model_config *c = &in->c;
    for (int key = 0; key < KEY_REQUIRED_COUNT; key++)
        if (!(in->seen >> key & 1))
            return err_set(e, "key \"%s\" is missing", key_names[key]);
    if (!c->num_key_value_heads)
        c->num_key_value_heads = c->num_attention_heads;
    if (in->theta_parameters != 0) {
        if ((in->seen >> KEY_ROPE_THETA & 1) && c->rope_theta != in->theta_parameters)
            return err_set(e, "rope_theta is %g, but rope_parameters says %g", c->rope_theta,
                           in->theta_parameters);
        c->rope_theta = in->theta_parameters;
    }
    if (model_config_check(c, e))
        return -1;
    if (in->head_dim && in->head_dim * c->num_attention_heads != c->hidden_size)
        return err_set(e, "head_dim %lld is not hidden_size / num_attention_heads",
                       (long long)in->head_dim);
    return 0;
}

int model_config_read_json(struct model_config *c, const char *path, struct err *e)
{
    struct config_reading in = {
        .c = {.max_position_embeddings = 2048, .rope_theta = 10000, .rms_norm_eps = 1e-6}};
    struct buf text = {0};
    struct json j;
    int rc = fs_read(&text, path, CONFIG_BYTES_MAX, e);
    if (!rc) {
        json_open(&j, text.len ? text.data : "", text.len);
        rc = read_members(&j, &in);
        if (rc)
            json_report(&j, path, e);
        else if (check_reading(&in, e))
            rc = err_add(e, "%s", path);
    }
    buf_release(&text);
    if (!rc)
        *c = in.c;
    return rc;
}
