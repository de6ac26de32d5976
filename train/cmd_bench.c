/*
 * `mundwerk bench`: what this machine can do at most, and what we make of it. Needs no data.
 */
#include "train/cmd_bench.h"

#include "common/config.h"
#include "common/json.h"
#include "common/log.h"
#include "common/threads.h"
#include "model/kernels/peak.h"

#include <math.h>
#include <stdio.h>

static const double PEAK_SECONDS = 0.2; /* of each measurement of arithmetic */

/* --- output: a JSON object, or a line for each of its numbers -------------------- */

struct output {
    bool json;
    int count; /* of members so far */
};

static void put_key(struct output *o, const char *key)
{
    struct buf b = {0};
    json_put_cstring(&b, key);
    printf("%s%s: ", o->count++ ? ", " : "{", b.data);
    buf_release(&b);
}

static void put_text(struct output *o, const char *key, const char *name, const char *text)
{
    struct buf b = {0};
    if (o->json) {
        put_key(o, key);
        json_put_cstring(&b, text);
        fputs(b.data, stdout);
        buf_release(&b);
    } else {
        printf("%-34s%s\n", name, text);
    }
}

/* 0 = the machine has no such thing. */
static void put_number(struct output *o, const char *key, const char *name, double x,
                       const char *unit)
{
    if (o->json) {
        struct buf b = {0};
        put_key(o, key);
        json_put_f64(&b, x > 0 ? x : NAN);
        fputs(b.data, stdout);
        buf_release(&b);
    } else if (x > 0) {
        printf("%-34s%.4g %s\n", name, x, unit);
    } else {
        printf("%-34snone\n", name);
    }
}

static void put_end(const struct output *o)
{
    if (o->json)
        puts("}");
}

static void put_machine(struct output *o)
{
    put_text(o, "cpu", "CPU", cpu_name());
    put_text(o, "cpu_level", "level", cpu_level_name(kernels_level()));
    put_number(o, "threads", "threads", threads_count(), "");
}

/* --- peak ------------------------------------------------------------------------- */

struct peak_options {
    bool json;
    int64_t threads;
};

static const struct config_row peak_rows[] = {
    CONFIG_BOOL(struct peak_options, json, "json", "false", "one JSON object instead of lines"),
    CONFIG_I64(struct peak_options, threads, "threads", "0", 0, 4096,
               "threads to use; 0 = all CPUs"),
    CONFIG_END,
};

static const struct config_usage peak_usage = {
    .name = "mundwerk bench peak",
    .synopsis = "[--json] [--threads N]",
    .about = "Measures what this machine can do at most: operations of its arithmetic units, bytes "
             "of its caches and memory, all threads together. A bf16 tile unit is measured twice: "
             "with zeros in registers (nominal) and with gaussian numbers, which is as fast as it "
             "gets at work. Takes some seconds; what else runs on the machine shows.",
    .examples = "  mundwerk bench peak\n"
                "  mundwerk bench peak --json --threads 1\n",
};

static int bench_peak(int argc, char **argv)
{
    struct peak_options options;
    struct peak_bandwidth bandwidth;
    struct err e;
    config_init(peak_rows, &options);
    int r = config_args(peak_rows, &options, &peak_usage, NULL, argc, argv, &e);
    if (r)
        return r > 0 ? 0 : command_fail(peak_usage.name, &e, 2);
    threads_init((int)options.threads);
    if (kernels_init(&e) || peak_bandwidth(&bandwidth, &e))
        return command_fail(peak_usage.name, &e, 1);
    struct output o = {.json = options.json};
    put_machine(&o);
    put_number(&o, "amx_bf16_nominal_tflops", "AMX bf16, nominal",
               1e-12 * peak_flops(PEAK_AMX_NOMINAL, PEAK_SECONDS), "TFLOP/s");
    put_number(&o, "amx_bf16_gaussian_tflops", "AMX bf16, gaussian numbers",
               1e-12 * peak_flops(PEAK_AMX_GAUSSIAN, PEAK_SECONDS), "TFLOP/s");
    put_number(&o, "fp32_tflops", "fp32 multiply-adds", 1e-12 * peak_flops(PEAK_FP32, PEAK_SECONDS),
               "TFLOP/s");
    put_number(&o, "triad_nt_gbs", "triad, stores past the caches", 1e-9 * bandwidth.triad, "GB/s");
    put_number(&o, "load_l2_gbs", "loads from L2", 1e-9 * bandwidth.load_l2, "GB/s");
    put_number(&o, "load_l3_gbs", "loads from L3", 1e-9 * bandwidth.load_l3, "GB/s");
    put_number(&o, "load_dram_gbs", "loads from memory", 1e-9 * bandwidth.load_dram, "GB/s");
    put_end(&o);
    config_release(peak_rows, &options);
    return 0;
}

/* --- the command ---------------------------------------------------------------------- */

static const struct command commands[] = {
    {"peak", bench_peak, "what this machine can do at most: FLOP/s and bytes/s"},
    {NULL, NULL, NULL},
};

int cmd_bench(int argc, char **argv)
{
    log_name("mundwerk bench");
    return command_run(commands, "mundwerk bench", argc, argv);
}
