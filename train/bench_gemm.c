/*
 * `mundwerk bench gemm`: the matrix products of a model as training does them, with gaussian
 * numbers, held against what the unit does at most with such numbers.
 */
#include "common/log.h"
#include "common/rng.h"
#include "common/threads.h"
#include "model/kernels/peak.h"
#include "train/bench.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double PEAK_SECONDS = 0.2;
static const double SECONDS = 0.05;       /* a product is repeated at least so long … */
enum { REPEATS = 3, REPEATS_MAX = 4096 }; /* … and so often; the median counts */

struct gemm_options {
    bool json;
    int64_t threads, rows;
    struct config_list configs;
    int weight;  /* of shapes in bench_model(), from 1; 0 = all */
    int compute; /* enum compute */
};

static const struct config_row rows[] = {
    CONFIG_BOOL(struct gemm_options, json, "json", "false", "one JSON object instead of lines"),
    CONFIG_LIST(struct gemm_options, configs, "config", "NAME|FILE",
                "configurations whose models give the shapes; default german120m german1b"),
    CONFIG_ENUM(struct gemm_options, weight, "weight", "all", "all|qkv|o|gate+up|down|head",
                "which to measure"),
    CONFIG_I64(struct gemm_options, rows, "tokens", "2048", 1, 1 << 16,
               "in a product, filled up to a multiple of 32"),
    CONFIG_ENUM(struct gemm_options, compute, "precision", "auto", "auto|fp32|bf16",
                "of the operands; auto: bf16 with AMX, else fp32"),
    CONFIG_I64(struct gemm_options, threads, "threads", "0", 0, 4096,
               "threads to use; 0 = one for each core"),
    CONFIG_END,
};

static const struct config_usage usage = {
    .name = "mundwerk bench gemm",
    .synopsis = "[--json] [--config NAME...] [--tokens N]",
    .about = "Measures the matrix products of the models at a forward pass of N tokens: forward "
             "(y = x W'), backward (dx = dy W) and weight gradient (dW = dy' x), in TFLOP/s and "
             "as a share of what the unit does at most with real numbers (bench peak).",
    .examples = "  mundwerk bench gemm\n"
                "  mundwerk bench gemm --config german-mini --json\n",
};

/* --- one product -------------------------------------------------------------------- */

enum kind { FORWARD, BACKWARD, GRADIENT, KINDS };
static const char *const kind_names[KINDS] = {"forward", "backward", "gradient"};

struct shape {
    const char *name;
    int64_t in, out;
};

/* Operands of one shape, in one mapping. */
struct operands {
    enum kernel_precision precision;
    struct weight W;
    int64_t n;
    void *x, *y;
    float *dw;
    char *memory;
    size_t bytes;
};

static void *take(char **at, size_t bytes)
{
    void *p = *at;
    *at += (bytes + 63) / 64 * 64;
    return p;
}

static void fill_gaussian(float *x, int64_t n, uint64_t stream)
{
    struct rng rng;
    rng_init(&rng, 1, stream);
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)rng_normal(&rng);
}

/* One row of blocks is drawn, the others repeat it. */
static void fill_act(enum kernel_precision p, void *act, int64_t n, int64_t cols, float *scratch)
{
    fill_gaussian(scratch, BLOCK * cols, 2);
    const size_t bytes = (size_t)(BLOCK * cols) * act_bytes(p);
    blocks_from_rows(p, act, scratch, cols, BLOCK, cols);
    for (int64_t i = 1; i < n / BLOCK; i++)
        memcpy((char *)act + (size_t)i * bytes, act, bytes);
}

static int operands_init(struct operands *o, enum kernel_precision p, const struct shape *s,
                         int64_t n, struct err *e)
{
    const size_t value = act_bytes(p), panels = (size_t)(s->in * s->out) * value;
    const size_t x = (size_t)(n * s->in) * value, y = (size_t)(n * s->out) * value;
    const size_t dw = (size_t)(s->in * s->out) * sizeof(float);
    *o = (struct operands){.precision = p, .n = n, .bytes = 2 * panels + x + y + dw + 5 * 64};
    if (!(o->memory = mem_map(o->bytes, "operands", e)))
        return -1;
    char *at = o->memory;
    o->W = (struct weight){s->out, s->in, take(&at, panels), take(&at, panels)};
    o->x = take(&at, x);
    o->y = take(&at, y);
    o->dw = take(&at, dw);
    fill_act(p, o->x, n, s->in, o->dw);
    fill_act(p, o->y, n, s->out, o->dw);
    fill_gaussian(o->dw, BLOCK * s->in, 3);
    for (int64_t i = BLOCK; i < s->out; i += BLOCK)
        memcpy(o->dw + i * s->in, o->dw, (size_t)(BLOCK * s->in) * sizeof(float));
    weight_pack(p, &o->W, o->dw, s->out, 0, 1);
    return 0;
}

static void multiply(const struct operands *o, enum kind kind)
{
    if (kind == FORWARD)
        linear_forward(o->precision, &o->W, o->x, o->y, o->n);
    else if (kind == BACKWARD)
        linear_backward(o->precision, &o->W, o->y, o->x, o->n);
    else
        linear_gradient(o->precision, o->y, o->x, o->dw, o->n, o->W.out, o->W.in);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* FLOP/s of the median repetition. The gradient is measured first: the others change x and y. */
static double measure(const struct operands *o, enum kind kind)
{
    const double flops = 2.0 * (double)o->n * (double)o->W.in * (double)o->W.out;
    static double took[REPEATS_MAX];
    double begin = log_seconds();
    int n = 0;
    while (n < REPEATS || (n < REPEATS_MAX && log_seconds() - begin < SECONDS)) {
        double start = log_seconds();
        multiply(o, kind);
        took[n++] = log_seconds() - start;
    }
    qsort(took, (size_t)n, sizeof(*took), compare);
    return flops / took[n / 2];
}

/* --- all of a model ------------------------------------------------------------------ */

static void put_result(struct bench_output *o, const char *model, const struct shape *s, int64_t n,
                       const double *flops, double peak)
{
    if (!o->json) {
        printf("%-12s %-8s %6" PRId64 " %6" PRId64 " %6" PRId64, model, s->name, n, s->in, s->out);
        for (int k = 0; k < KINDS; k++)
            printf("  %7.3f %3.0f %%", 1e-12 * flops[k], 100 * flops[k] / peak);
        putchar('\n');
        return;
    }
    printf("%s", o->count++ ? ", " : "");
    struct bench_output row = {.json = true};
    bench_put_text(&row, "model", NULL, model);
    bench_put_text(&row, "weight", NULL, s->name);
    bench_put_count(&row, "tokens", NULL, n);
    bench_put_count(&row, "in", NULL, s->in);
    bench_put_count(&row, "out", NULL, s->out);
    for (int k = 0; k < KINDS; k++) {
        char key[32];
        snprintf(key, sizeof(key), "%s_tflops", kind_names[k]);
        bench_put_number(&row, key, NULL, 1e-12 * flops[k], NULL);
        snprintf(key, sizeof(key), "%s_share", kind_names[k]);
        bench_put_number(&row, key, NULL, flops[k] / peak, NULL);
    }
    putchar('}');
}

static int bench_shape(struct bench_output *o, enum kernel_precision p, const char *model,
                       const struct shape *s, int64_t n, double peak, struct err *e)
{
    struct operands operands;
    double flops[KINDS];
    if (operands_init(&operands, p, s, n, e))
        return -1;
    for (int k = KINDS - 1; k >= 0; k--)
        flops[k] = measure(&operands, (enum kind)k);
    mem_unmap(operands.memory, operands.bytes);
    put_result(o, model, s, n, flops, peak);
    return 0;
}

static int bench_model(struct bench_output *o, enum kernel_precision p, const char *name,
                       int weight, int64_t n, double peak, struct err *e)
{
    struct settings s;
    settings_init(&s);
    free(s.config);
    s.config = mem_strdup(name);
    int r = settings_resolve(&s, e);
    settings_vocab(&s, 32000);
    const struct model_config *c = &s.model;
    const int64_t C = block_up(c->hidden_size), F = block_up(c->intermediate_size);
    const int64_t D = c->hidden_size / c->num_attention_heads;
    const struct shape shapes[] = {
        {"qkv", C, C + 2 * block_up(c->num_key_value_heads * D)},
        {"o", C, C},
        {"gate+up", C, 2 * F},
        {"down", F, C},
        {"head", C, block_up(c->vocab_size)},
    };
    for (int i = 0; !r && i < (int)(sizeof(shapes) / sizeof(*shapes)); i++)
        if (!weight || i == weight - 1)
            r = bench_shape(o, p, name, &shapes[i], n, peak, e);
    settings_release(&s);
    return r;
}

static int bench_models(const struct gemm_options *options, struct err *e)
{
    static char *const usual[] = {"german120m", "german1b"};
    const struct settings s = {.compute = options->compute};
    const enum kernel_precision p = settings_precision(&s);
    const struct config_list *given = &options->configs;
    char *const *names = given->count ? given->items : usual;
    struct bench_output o = {.json = options->json}, products = {.json = options->json};
    double peak = peak_flops(peak_unit_real(p), PEAK_SECONDS);
    bench_put_machine(&o);
    bench_put_text(&o, "precision", "precision", p == KERNEL_BF16 ? "bf16" : "fp32");
    bench_put_number(&o, "peak_tflops", "peak with real numbers", 1e-12 * peak, "TFLOP/s");
    if (o.json) {
        bench_put_key(&o, "products");
        putchar('[');
    } else {
        printf("\n%-12s %-8s %6s %6s %6s  %-13s  %-13s  %s\n", "model", "weight", "tokens", "in",
               "out", "TFLOP/s fwd", "backward", "gradient");
    }
    int r = 0;
    for (size_t i = 0; !r && i < (given->count ? given->count : 2); i++)
        r = bench_model(&products, p, names[i], options->weight, block_up(options->rows), peak, e);
    if (o.json)
        putchar(']');
    bench_put_end(&o);
    return r;
}

int bench_gemm(int argc, char **argv)
{
    struct gemm_options options;
    struct err e;
    config_init(rows, &options);
    int r = config_args(rows, &options, &usage, NULL, argc, argv, &e);
    if (r)
        return r > 0 ? 0 : command_fail(usage.name, &e, 2);
    threads_init_cores((int)options.threads);
    r = kernels_init(&e) || bench_models(&options, &e) ? command_fail(usage.name, &e, 1) : 0;
    config_release(rows, &options);
    return r;
}
