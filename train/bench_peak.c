/* `mundwerk bench peak`: what this machine can do at most. */
#include "common/threads.h"
#include "model/kernels/peak.h"
#include "train/bench.h"

static const double SECONDS = 0.2; /* of each measurement of arithmetic */

struct peak_options {
    bool json;
    int64_t threads;
};

static const struct config_row peak_rows[] = {
    CONFIG_BOOL(struct peak_options, json, "json", "false", "one JSON object instead of lines"),
    CONFIG_I64(struct peak_options, threads, "threads", "0", 0, 4096,
               "threads to use; 0 = one for each core"),
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

int bench_peak(int argc, char **argv)
{
    struct peak_options options;
    struct peak_bandwidth bandwidth;
    struct err e;
    config_init(peak_rows, &options);
    int r = config_args(peak_rows, &options, &peak_usage, NULL, argc, argv, &e);
    if (r)
        return r > 0 ? 0 : command_fail(peak_usage.name, &e, 2);
    threads_init_cores((int)options.threads);
    if (kernels_init(&e) || peak_bandwidth(&bandwidth, &e))
        return command_fail(peak_usage.name, &e, 1);
    struct bench_output o = {.json = options.json};
    bench_put_machine(&o);
    bench_put_number(&o, "amx_bf16_nominal_tflops", "AMX bf16, nominal",
                     1e-12 * peak_flops(PEAK_AMX_NOMINAL, SECONDS), "TFLOP/s");
    bench_put_number(&o, "amx_bf16_gaussian_tflops", "AMX bf16, gaussian numbers",
                     1e-12 * peak_flops(PEAK_AMX_GAUSSIAN, SECONDS), "TFLOP/s");
    bench_put_number(&o, "fp32_tflops", "fp32 multiply-adds",
                     1e-12 * peak_flops(PEAK_FP32, SECONDS), "TFLOP/s");
    bench_put_number(&o, "triad_nt_gbs", "triad, stores past the caches", 1e-9 * bandwidth.triad,
                     "GB/s");
    bench_put_number(&o, "load_l2_gbs", "loads from L2", 1e-9 * bandwidth.load_l2, "GB/s");
    bench_put_number(&o, "load_l3_gbs", "loads from L3", 1e-9 * bandwidth.load_l3, "GB/s");
    bench_put_number(&o, "load_dram_gbs", "loads from memory", 1e-9 * bandwidth.load_dram, "GB/s");
    bench_put_end(&o);
    config_release(peak_rows, &options);
    return 0;
}
