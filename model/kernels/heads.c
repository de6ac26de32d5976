/*
 * The drivers of attention on blocks: which queries and keys come when, and on which thread.
 *
 * Forward, a task is a stretch of queries of all heads of one group: independent of the others,
 * and what is prepared of keys and values serves them all. Backward, a task is a group of one
 * sequence, for there every query adds to the gradients of keys, and every key to those of
 * queries; its scratch memory holds the sums of the whole sequence in fp32.
 */
#include "model/kernels/profile.h"
#include "model/kernels/table.h"

#include <string.h>

static struct heads_job job_init(enum kernel_precision p, const struct heads_shape *s,
                                 const void *qkv)
{
    MW_ASSERT(s->D > 0 && s->D % 8 == 0 && s->D <= ATTENTION_D_MAX);
    MW_ASSERT(s->G > 0 && s->H % s->G == 0);
    MW_ASSERT(s->T > 0 && s->T <= HEADS_T_MAX);
    struct heads_job job = {.p = p, .s = *s, .rows = block_up(s->T), .qkv = qkv};
    job.q_cols = block_up(s->H * s->D);
    job.k_col = job.q_cols;
    job.v_col = job.k_col + block_up(s->G * s->D);
    job.cols = job.v_col + block_up(s->G * s->D);
    return job;
}

static const struct heads_engine *engine_for(const struct heads_job *job)
{
    if (job->p == KERNEL_BF16 && job->s.D % BLOCK == 0 && kernels.heads_bf16.forward)
        return &kernels.heads_bf16;
    MW_ASSERT(kernels.heads.forward);
    return &kernels.heads;
}

static int threads_for(const struct heads_shape *s)
{
    return s->B * s->H * s->T * s->T * s->D < 64 * 64 * 64 ? 1 : kernels_threads();
}

/* Columns [from, to) of a matrix in blocks become zero in all rows of the job. */
static void clear_columns(const struct heads_job *job, void *act, int64_t cols, int64_t from,
                          int64_t to)
{
    const size_t bytes = act_bytes(job->p);
    for (int64_t row = 0; row < job->s.B * job->rows && from < to; row++)
        memset((char *)act + (size_t)block_at(row, from, cols) * bytes, 0,
               (size_t)(to - from) * bytes);
}

/* Operations of `products` products, half of each being in the past. */
static double causal_flops(const struct heads_shape *s, int products)
{
    return (double)products * (double)(s->B * s->H * s->D) * (double)s->T * (double)s->T;
}

void heads_forward(enum kernel_precision p, const struct heads_shape *s, const void *qkv, void *out,
                   float *lse)
{
    const double start = profile_start();
    struct heads_job job = job_init(p, s, qkv);
    const struct heads_engine *e = engine_for(&job);
    const int64_t groups = s->B * s->G, blocks = (job.rows + e->queries - 1) / e->queries;
    job.out = out;
    job.lse = lse;
    clear_columns(&job, out, job.q_cols, s->H * s->D, job.q_cols);
    /* The last queries see most keys: start with them, so that threads end together. */
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads_for(s))
    for (int64_t i = 0; i < blocks * groups; i++)
        e->forward(&job, i % groups / s->G, i % s->G, (blocks - 1 - i / groups) * e->queries,
                   kernels_heads_scratch());
    profile_stop(PROFILE_ATTENTION_FORWARD, start, causal_flops(s, 2),
                 (double)(s->B * job.rows) * (double)(job.cols + job.q_cols) *
                     (double)act_bytes(p));
}

void heads_backward(enum kernel_precision p, const struct heads_shape *s, const void *qkv,
                    const void *out, const float *lse, const void *dout, void *d_qkv)
{
    const double start = profile_start();
    struct heads_job job = job_init(p, s, qkv);
    const struct heads_engine *e = engine_for(&job);
    /* The job serves both directions; out and lse are only read in this one. */
    job.out = (void *)(uintptr_t)out;
    job.lse = (float *)(uintptr_t)lse;
    job.dout = dout;
    job.d_qkv = d_qkv;
    clear_columns(&job, d_qkv, job.cols, s->H * s->D, job.k_col);
    clear_columns(&job, d_qkv, job.cols, job.k_col + s->G * s->D, job.v_col);
    clear_columns(&job, d_qkv, job.cols, job.v_col + s->G * s->D, job.cols);
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads_for(s))
    for (int64_t i = 0; i < s->B * s->G; i++)
        e->backward(&job, i / s->G, i % s->G, kernels_heads_scratch());
    profile_stop(PROFILE_ATTENTION_BACKWARD, start, causal_flops(s, 5),
                 (double)(s->B * job.rows) * (double)(2 * job.cols + 2 * job.q_cols) *
                     (double)act_bytes(p));
}
