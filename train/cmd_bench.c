/*
 * `mundwerk bench`: what this machine can do at most, and what we make of it. Needs no data.
 */
#include "train/cmd_bench.h"

#include "common/json.h"
#include "common/log.h"
#include "common/threads.h"
#include "train/bench.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

/* --- output: a JSON object, or a line for each of its numbers -------------------- */

void bench_put_key(struct bench_output *o, const char *key)
{
    struct buf b = {0};
    json_put_cstring(&b, key);
    printf("%s%s: ", o->count++ ? ", " : "{", b.data);
    buf_release(&b);
}

void bench_put_text(struct bench_output *o, const char *key, const char *name, const char *text)
{
    struct buf b = {0};
    if (o->json) {
        bench_put_key(o, key);
        json_put_cstring(&b, text);
        fputs(b.data, stdout);
        buf_release(&b);
    } else {
        printf("%-34s%s\n", name, text);
    }
}

/* 0 = the machine has no such thing. */
void bench_put_number(struct bench_output *o, const char *key, const char *name, double x,
                      const char *unit)
{
    if (o->json) {
        struct buf b = {0};
        bench_put_key(o, key);
        json_put_f64(&b, x > 0 ? x : NAN);
        fputs(b.data, stdout);
        buf_release(&b);
    } else if (x > 0) {
        printf("%-34s%.4g %s\n", name, x, unit);
    } else {
        printf("%-34snone\n", name);
    }
}

void bench_put_count(struct bench_output *o, const char *key, const char *name, int64_t n)
{
    if (o->json) {
        bench_put_key(o, key);
        printf("%" PRId64, n);
    } else {
        printf("%-34s%" PRId64 "\n", name, n);
    }
}

void bench_put_end(const struct bench_output *o)
{
    if (o->json)
        puts("}");
}

void bench_put_machine(struct bench_output *o)
{
    bench_put_text(o, "cpu", "CPU", cpu_name());
    bench_put_text(o, "cpu_level", "level", cpu_level_name(kernels_level()));
    bench_put_count(o, "threads", "threads", threads_count());
}

/* --- the command ---------------------------------------------------------------------- */

static const struct command commands[] = {
    {"peak", bench_peak, "what this machine can do at most: FLOP/s and bytes/s"},
    {"gemm", bench_gemm, "matrix products of the models, and their share of that"},
    {"step", bench_step, "whole training steps on random tokens: tokens/s and MFU"},
    {NULL, NULL, NULL},
};

int cmd_bench(int argc, char **argv)
{
    log_name("mundwerk bench");
    return command_run(commands, "mundwerk bench", argc, argv);
}
