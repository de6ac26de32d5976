/*
 * oneDNN 3 as a peer: its matmul primitive, bf16 in and out (dW: fp32 out). See README.md.
 *
 * Variants: "plain", all matrices row-major as a caller has them; "packed", operands in the layout
 * the primitive asks for (format_tag any). Weights are packed beforehand, as one does once a step;
 * the operands of dW are both new in each step, so their packing is timed.
 */
#include "peer_gemm.h"

#include <omp.h>
#include <oneapi/dnnl/dnnl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OK(call) check((call), #call)

static void check(dnnl_status_t status, const char *call)
{
    if (status == dnnl_success)
        return;
    fprintf(stderr, "oneDNN: %s fails with status %d\n", call, (int)status);
    exit(1);
}

static dnnl_engine_t engine;
static dnnl_stream_t stream;

/* A matrix in the caller's layout and, where the primitive wants another, in that. */
struct operand {
    void *data;
    dnnl_memory_t plain, packed; /* packed may be plain */
    dnnl_primitive_t reorder;    /* NULL where there is nothing to reorder */
};

static struct {
    struct operand a, b, c;
    int pack_each_time;
    dnnl_data_type_t out;
    int64_t n;
    dnnl_primitive_t matmul;
} job;

static dnnl_memory_desc_t describe(int64_t rows, int64_t columns, dnnl_data_type_t type,
                                   dnnl_format_tag_t tag)
{
    dnnl_memory_desc_t d;
    const dnnl_dims_t dims = {rows, columns};
    OK(dnnl_memory_desc_create_with_tag(&d, 2, dims, type, tag));
    return d;
}

static void reorder(const struct operand *o)
{
    const dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, o->plain}, {DNNL_ARG_TO, o->packed}};
    OK(dnnl_primitive_execute(o->reorder, stream, 2, args));
}

/* Takes over data, which lies as plain describes it, and the description. */
static struct operand operand(void *data, dnnl_memory_desc_t plain, const_dnnl_memory_desc_t wanted)
{
    struct operand o = {.data = data};
    OK(dnnl_memory_create(&o.plain, plain, engine, data));
    o.packed = o.plain;
    if (!dnnl_memory_desc_equal(plain, wanted)) {
        dnnl_primitive_desc_t d;
        OK(dnnl_memory_create(&o.packed, wanted, engine, DNNL_MEMORY_ALLOCATE));
        OK(dnnl_reorder_primitive_desc_create(&d, plain, engine, wanted, engine, NULL));
        OK(dnnl_primitive_create(&o.reorder, d));
        OK(dnnl_primitive_desc_destroy(d));
        reorder(&o);
        OK(dnnl_stream_wait(stream));
    }
    OK(dnnl_memory_desc_destroy(plain));
    return o;
}

static void operand_release(struct operand *o)
{
    if (o->reorder) {
        OK(dnnl_primitive_destroy(o->reorder));
        OK(dnnl_memory_destroy(o->packed));
    }
    OK(dnnl_memory_destroy(o->plain));
    free(o->data);
    *o = (struct operand){0};
}

static uint16_t *rounded(const float *x, int64_t n)
{
    uint16_t *y = peer_alloc((size_t)n * sizeof(*y));
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof(bits));
        y[i] = (uint16_t)(bits >> 16);
    }
    return y;
}

enum { PLAIN, PACKED };

static void prepare(const struct product *p, int variant)
{
    int dw = p->kind == DW, pack_a = variant == PACKED && dw, pack_b = variant == PACKED;
    const dnnl_format_tag_t tag_a = p->trans_a ? dnnl_ba : dnnl_ab;
    const dnnl_format_tag_t tag_b = p->trans_b ? dnnl_ba : dnnl_ab;
    job.pack_each_time = dw;
    job.out = dw ? dnnl_f32 : dnnl_bf16;
    job.n = p->n;

    dnnl_memory_desc_t a = describe(p->m, p->k, dnnl_bf16, pack_a ? dnnl_format_tag_any : tag_a);
    dnnl_memory_desc_t b = describe(p->k, p->n, dnnl_bf16, pack_b ? dnnl_format_tag_any : tag_b);
    dnnl_memory_desc_t c = describe(p->m, p->n, job.out, dnnl_ab);
    dnnl_primitive_desc_t d;
    OK(dnnl_matmul_primitive_desc_create(&d, engine, a, b, NULL, c, NULL));
    OK(dnnl_primitive_create(&job.matmul, d));
    job.a = operand(rounded(p->a, p->m * p->k), describe(p->m, p->k, dnnl_bf16, tag_a),
                    dnnl_primitive_desc_query_md(d, dnnl_query_src_md, 0));
    job.b = operand(rounded(p->b, p->k * p->n), describe(p->k, p->n, dnnl_bf16, tag_b),
                    dnnl_primitive_desc_query_md(d, dnnl_query_weights_md, 0));
    size_t size = (size_t)(p->m * p->n) * dnnl_data_type_size(job.out);
    job.c = operand(peer_alloc(size), c, dnnl_primitive_desc_query_md(d, dnnl_query_dst_md, 0));
    OK(dnnl_primitive_desc_destroy(d));
    OK(dnnl_memory_desc_destroy(a));
    OK(dnnl_memory_desc_destroy(b));
}

static void run(void)
{
    const dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, job.a.packed},
                                    {DNNL_ARG_WEIGHTS, job.b.packed},
                                    {DNNL_ARG_DST, job.c.packed}};
    if (job.pack_each_time && job.a.reorder)
        reorder(&job.a);
    if (job.pack_each_time && job.b.reorder)
        reorder(&job.b);
    OK(dnnl_primitive_execute(job.matmul, stream, 3, args));
    OK(dnnl_stream_wait(stream));
}

static double result(int64_t row, int64_t column)
{
    int64_t i = row * job.n + column;
    if (job.out == dnnl_f32)
        return ((const float *)job.c.data)[i];
    uint32_t bits = (uint32_t)((const uint16_t *)job.c.data)[i] << 16;
    float x;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

static void finish(void)
{
    OK(dnnl_primitive_destroy(job.matmul));
    operand_release(&job.a);
    operand_release(&job.b);
    operand_release(&job.c);
}

static void init(struct peer *self, int threads)
{
    const dnnl_version_t *v = dnnl_version();
    snprintf(self->name, sizeof(self->name), "onednn-%d.%d.%d", v->major, v->minor, v->patch);
    omp_set_num_threads(threads);
    OK(dnnl_engine_create(&engine, dnnl_cpu, 0));
    OK(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags));
}

int main(int argc, char **argv)
{
    static const char *const variants[] = {"plain", "packed"};
    struct peer peer = {.variants = 2,
                        .variant_names = variants,
                        .init = init,
                        .prepare = prepare,
                        .run = run,
                        .result = result,
                        .finish = finish};
    return peer_gemm_main(&peer, argc, argv);
}
