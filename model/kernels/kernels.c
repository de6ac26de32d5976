/*
 * The table of kernels: filled once, level upon level, with the scratch memory they need.
 */
#include "model/kernels/table.h"

#include "common/mem.h"
#include "common/threads.h"

#include <omp.h>

enum {
    SHARED_ROWS = 1024, /* rows and columns packed at a time by all threads together … */
    SHARED_COLUMNS = 2048,
    NESTED_ROWS = 128, /* … and by one thread alone, inside a parallel region */
    NESTED_COLUMNS = 256,
    PARTIALS = NORM_BLOCKS * NORM_WIDTH_MAX /* floats */
};

struct kernels kernels;

static struct scratch {
    int threads;
    char *memory;
    size_t bytes;
    struct gemm_scratch shared;
    struct gemm_scratch *nested; /* one per thread */
    char *linear;                /* linear_bytes() per thread */
    float *partials;             /* PARTIALS */
    char *heads;                 /* HEADS_SCRATCH per thread */
} scratch;

enum cpu_level kernels_level(void)
{
    return kernels.level;
}

size_t kernels_bytes(void)
{
    return scratch.bytes;
}

int kernels_threads(void)
{
    return omp_in_parallel() ? 1 : scratch.threads;
}

struct gemm_scratch *kernels_gemm_scratch(void)
{
    if (!omp_in_parallel())
        return &scratch.shared;
    MW_ASSERT(omp_get_thread_num() < scratch.threads);
    return &scratch.nested[omp_get_thread_num()];
}

static size_t round_up(size_t x, size_t step)
{
    return (x + step - 1) / step * step;
}

static size_t linear_bytes(void)
{
    size_t fp32 = kernels.linear[KERNEL_FP32].scratch_bytes;
    size_t bf16 = kernels.linear[KERNEL_BF16].scratch_bytes;
    return round_up(fp32 > bf16 ? fp32 : bf16, 4096);
}

void *kernels_linear_scratch(void)
{
    MW_ASSERT(omp_get_thread_num() < scratch.threads);
    return scratch.linear + (size_t)omp_get_thread_num() * linear_bytes();
}

float *kernels_heads_scratch(void)
{
    MW_ASSERT(omp_get_thread_num() < scratch.threads);
    return (float *)(void *)(scratch.heads + (size_t)omp_get_thread_num() * HEADS_SCRATCH);
}

float *kernels_partials(void)
{
    MW_ASSERT(!omp_in_parallel());
    return scratch.partials;
}

/* Bytes of the deepest panels for so many rows (or columns), for either engine. */
static size_t panel_bytes(int64_t rows)
{
    size_t a = (size_t)kernels.fp32.k_step * kernels.fp32.element_bytes;
    size_t b = (size_t)kernels.bf16.k_step * kernels.bf16.element_bytes;
    return round_up((size_t)rows * (a > b ? a : b), 4096);
}

/* Largest multiple of both engines' panels up to `limit`, at least one of each. */
static int64_t whole_panels(int64_t limit, int one, int other)
{
    int64_t step = one;
    while (step % other)
        step += one;
    return limit / step > 0 ? limit / step * step : step;
}

static char *take(char **at, size_t bytes)
{
    char *p = *at;
    *at += bytes;
    return p;
}

static int reserve(struct err *e)
{
    int threads = threads_count();
    int64_t shared_rows = whole_panels(SHARED_ROWS, kernels.fp32.mr, kernels.bf16.mr);
    int64_t shared_cols = whole_panels(SHARED_COLUMNS, kernels.fp32.nr, kernels.bf16.nr);
    int64_t nested_rows = whole_panels(NESTED_ROWS, kernels.fp32.mr, kernels.bf16.mr);
    int64_t nested_cols = whole_panels(NESTED_COLUMNS, kernels.fp32.nr, kernels.bf16.nr);
    size_t partials = PARTIALS * sizeof(float);
    size_t nested = panel_bytes(nested_rows) + panel_bytes(nested_cols);
    size_t bytes = panel_bytes(shared_rows) + panel_bytes(shared_cols) + partials +
                   (size_t)threads * (nested + linear_bytes() + HEADS_SCRATCH);
    char *memory = mem_map(bytes, "scratch memory of the kernels", e);
    if (!memory)
        return -1;
    mem_unmap(scratch.memory, scratch.bytes);
    free(scratch.nested);
    scratch.memory = memory;
    scratch.bytes = bytes;
    scratch.threads = threads;
    scratch.nested = mem_zalloc((size_t)threads, sizeof(*scratch.nested));
    scratch.shared = (struct gemm_scratch){take(&memory, panel_bytes(shared_rows)),
                                           take(&memory, panel_bytes(shared_cols)), shared_rows,
                                           shared_cols};
    for (int t = 0; t < threads; t++)
        scratch.nested[t] = (struct gemm_scratch){take(&memory, panel_bytes(nested_rows)),
                                                  take(&memory, panel_bytes(nested_cols)),
                                                  nested_rows, nested_cols};
    scratch.partials = (float *)(void *)take(&memory, partials);
    scratch.linear = take(&memory, (size_t)threads * linear_bytes());
    scratch.heads = take(&memory, (size_t)threads * HEADS_SCRATCH);
    return 0;
}

int kernels_init(struct err *e)
{
    enum cpu_level level = cpu_level();
    if (scratch.memory && kernels.level == level && scratch.threads == threads_count())
        return 0;
    kernels.level = level;
    gemm_fill_c(&kernels);
    linear_fill_c(&kernels);
    heads_fill_c(&kernels);
    rows_fill_c(&kernels);
    peak_fill_c(&kernels);
    blocks_fill_c(&kernels);
    update_fill_c(&kernels);
#if defined(__x86_64__)
    if (level >= CPU_AVX2) {
        gemm_fill_avx2(&kernels);
        linear_fill_avx2(&kernels);
        heads_fill_avx2(&kernels);
        rows_fill_avx2(&kernels);
        peak_fill_avx2(&kernels);
        blocks_fill_avx2(&kernels);
        update_fill_avx2(&kernels);
    }
    if (level >= CPU_AVX512) {
        gemm_fill_avx512(&kernels);
        linear_fill_avx512(&kernels);
        heads_fill_avx512(&kernels);
        rows_fill_avx512(&kernels);
        peak_fill_avx512(&kernels);
        blocks_fill_avx512(&kernels);
        update_fill_avx512(&kernels);
    }
    if (level >= CPU_AMX) {
        gemm_fill_amx(&kernels);
        linear_fill_amx(&kernels);
        heads_fill_amx(&kernels);
        peak_fill_amx(&kernels);
        blocks_fill_amx(&kernels);
    }
#endif
    return reserve(e);
}
