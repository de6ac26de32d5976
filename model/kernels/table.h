/*
 * What the levels offer, inside model/kernels/ only.
 *
 * kernels_init() lets the plain C files fill every slot of the table and then each faster
 * level, while the machine has it, overwrite what it does better. The drivers (gemm.c,
 * linear.c, heads.c, blocks.c, rows.c, update.c) own threads, tasks and the order of sums
 * and call the slots, which are serial.
 */
#ifndef MODEL_KERNELS_TABLE_H
#define MODEL_KERNELS_TABLE_H

#include "model/kernels/kernels.h"
#include "model/kernels/update.h"

/* A matrix product of packed panels. An operand is cut into panels of `mr` rows of A or `nr`
 * columns of B, k_step values of k deep; a panel's layout is the engine's own secret, only
 * its size is known. */
struct gemm_engine {
    int mr, nr;
    int k_step; /* deepest panel; k is padded to k_pad */
    int k_pad;
    size_t element_bytes; /* of packed values */
    /* Packs `width` rows of A (columns of B), panel after panel; the last one is filled up with
     * zeros. Value (i, k) lies at src[i * ld + k] if k_near, at src[k * ld + i] otherwise. */
    void (*pack_a)(void *panels, const float *src, int64_t ld, bool k_near, int64_t width,
                   int64_t depth);
    void (*pack_b)(void *panels, const float *src, int64_t ld, bool k_near, int64_t width,
                   int64_t depth);
    /* c (rows, cols) = or += panels of a times panels of b. */
    void (*block)(const void *a, const void *b, int64_t depth, float *c, int64_t ldc, int64_t rows,
                  int64_t cols, bool add);
};

/* A product with few rows, without packing: c (M, N) = or += a · b. Value (m, k) of A lies at
 * a[m * a_row + k * a_col]. */
struct gemm_few_args {
    int64_t M, N, K;
    const float *a;
    int64_t a_row, a_col;
    const float *b;
    int64_t ldb;
    bool k_near; /* B is (N, K) and a_col is 1; otherwise B is (K, N) */
    float *c;
    int64_t ldc;
    bool add;
    bool round; /* operands to bf16 */
};

/* --- products on matrices in blocks (linear.c drives, linear_*.c multiply) --- */
enum product_epilogue {
    PRODUCT_STORE,           /* c act = A B */
    PRODUCT_ADD,             /* c fp32 += A B */
    PRODUCT_SWIGLU,          /* c act = A B (may be NULL), y act (n, N/2) = silu(even) * odd */
    PRODUCT_SWIGLU_BACKWARD, /* with gu (n, 2N) and d = A B: c (n, 2N) = d gu, y (n, N) */
    PRODUCT_SOFTMAX          /* c act = exp(l - max) (may be NULL), stats */
};

/* C (n, N) = A (n, K) B (K, N): A in blocks, B in panels. All multiples of 32. */
struct product {
    int64_t n, N, K;
    const void *a, *b;
    enum product_epilogue epilogue;
    void *c;
    void *y;        /* SWIGLU, SWIGLU_BACKWARD (there it may be NULL) */
    const void *gu; /* SWIGLU_BACKWARD; may be c */
    /* SOFTMAX: */
    const uint32_t *targets;
    int64_t V;
    struct softmax_stats stats;
    /* Where the thread's next task begins, in blocks of C, so that an engine can fetch its operands
     * ahead; next_i -1 = there is none. */
    int64_t next_i, next_j;
};

/* dW (out, in) fp32 blocks += dyᵀ x over rows [0, n). */
struct gradient {
    int64_t n, out, in;
    const void *dy, *x;
    float *dw;
};

struct linear_engine {
    /* Blocks [i0, i1) x [j0, j1) of C; j0 and j1 are even with SWIGLU. Serial. */
    void (*product)(const struct product *p, int64_t i0, int64_t i1, int64_t j0, int64_t j1,
                    void *scratch);
    /* Adds to blocks [i0, i1) x [j0, j1) of dW, in one fixed order of rows. */
    void (*gradient)(const struct gradient *g, int64_t i0, int64_t i1, int64_t j0, int64_t j1,
                     void *scratch);
    /* If not 0, gradient() rearranges operands itself: it wants all rows at once, and tasks as
     * large as can be, of so many block rows of dW at most. */
    int gradient_rows;
    size_t scratch_bytes; /* per thread */
};

/* --- the engine's other kernels (blocks.c drives, blocks_*.c work on one block row) --- */

/* norm_backward() of one block row; dw (block_up(C)) += or NULL. */
struct norm_gradient {
    const void *saved, *dh;
    const float *w, *rstd;
    float *dx, *dw;
    void *dx_act;
    bool add;
    int64_t C;
};

/* softmax_finish() of the block row that begins with row `first`. */
struct softmax_row {
    const struct softmax_stats *stats;
    const uint32_t *targets; /* of the first row, like e and losses */
    void *e;
    float *losses;
    int64_t first, n, out, V;
    float scale, z_loss;
};

/* Matrices begin at the block row's first value, vectors at its first row. */
struct blocks_engine {
    void (*norm_forward)(enum kernel_precision p, const float *x, const float *w, void *h,
                         void *saved, float *rstd, int64_t C, float eps);
    void (*norm_again)(enum kernel_precision p, const void *saved, const float *w,
                       const float *rstd, void *h, int64_t C);
    void (*norm_backward)(enum kernel_precision p, const struct norm_gradient *g);
    /* Rows [0, rows) of `heads` heads that begin at a block; cosine, sine: those of row 0. */
    void (*rotate)(enum kernel_precision p, void *x, const float *cosine, const float *sine,
                   int64_t rows, int64_t heads, int64_t D, bool inverse);
    void (*softmax)(enum kernel_precision p, const struct softmax_row *s);
    void (*embed_forward)(const struct embedding *table, const uint32_t *ids, float *x, int64_t C);
    /* Block columns [j0, j1) of all n rows. */
    void (*embed_backward)(const float *dx, const uint32_t *ids, float *dtable, int64_t n,
                           int64_t C, int64_t j0, int64_t j1);
    void (*from_rows)(enum kernel_precision p, void *blocks, const float *src, int64_t ld,
                      int64_t rows, int64_t cols);
    void (*to_rows)(enum kernel_precision p, const void *blocks, float *dst, int64_t ld,
                    int64_t rows, int64_t cols);
};

/* The weight gradient of a norm is summed over at most so many blocks of rows. */
enum { NORM_BLOCKS = 64, NORM_WIDTH_MAX = 16 * 1024 };

enum { ATTENTION_D_MAX = 128 };

/* Scratch of one thread for attention on blocks, bytes: for the longest sequence. A page that is
 * never touched takes no memory. */
#define HEADS_SCRATCH ((size_t)48 * 1024 * 1024)

/* Loops to measure peaks with, serial. Those of arithmetic return the operations they did; NULL =
 * this level has no such unit. */
struct peak_engine {
    double (*fp32)(int64_t rounds);
    double (*amx_nominal)(int64_t rounds);
    double (*amx_gaussian)(int64_t rounds);
    float (*load)(const float *p, int64_t n);                                    /* sum of n */
    void (*triad)(float *a, const float *b, const float *c, float s, int64_t n); /* a = b + s c */
};

/* What heads_forward() and heads_backward() were asked. */
struct heads_job {
    enum kernel_precision p;
    struct heads_shape s;
    int64_t rows;         /* of a sequence: block_up(T) */
    int64_t q_cols, cols; /* of out and of qkv */
    int64_t k_col, v_col; /* first columns of keys and values */
    const void *qkv, *dout;
    void *out, *d_qkv; /* out: written forward, read backward */
    float *lse;        /* likewise */
};

/* First position that query t of sequence b sees; 0 for what fills up. */
static inline int64_t heads_start(const struct heads_job *job, int64_t b, int64_t t)
{
    return job->s.starts && t < job->s.T ? job->s.starts[b * job->rows + t] : 0;
}

/* Serial; scratch: HEADS_SCRATCH bytes. */
struct heads_engine {
    int queries; /* of a task, a multiple of 32 */
    /* queries [t0, t0 + queries) of the heads of group g of sequence b */
    void (*forward)(const struct heads_job *j, int64_t b, int64_t g, int64_t t0, float *scratch);
    /* all gradients of group g of sequence b */
    void (*backward)(const struct heads_job *j, int64_t b, int64_t g, float *scratch);
};

/* What is done with each block: UPDATE_PACK needs no rule. */
enum update_pass { UPDATE_ADAMW, UPDATE_MOMENTUM, UPDATE_APPLY, UPDATE_PACK };

struct kernels {
    enum cpu_level level;
    struct peak_engine peak;
    struct gemm_engine fp32, bf16;
    struct linear_engine linear[2]; /* by enum kernel_precision */
    struct blocks_engine blocks;
    struct heads_engine heads;      /* both precisions, any D */
    struct heads_engine heads_bf16; /* KERNEL_BF16, D a multiple of 32; may be missing */
    void (*gemm_few)(const struct gemm_few_args *g);
    void (*rmsnorm_forward)(const float *x, const float *w, float *y, float *rstd, int64_t n,
                            int64_t C, float eps);
    /* one position: heads (heads, D) and the row of the tables for it */
    void (*rope)(float *x, const float *cos, const float *sin, int64_t heads, int64_t D,
                 bool inverse);
    void (*swiglu_forward)(const float *gate, const float *up, float *y, int64_t n);
    void (*vector_add)(float *x, const float *y, int64_t n); /* x += y */
    void (*adamw)(float *p, const float *g, float *m, float *v, int64_t n,
                  const struct adamw_constants *k);
    double (*sum_squares)(const float *x, int64_t n);
    /* blocks [begin, end) */
    void (*update)(const struct update *u, enum update_pass pass, const struct update_rule *rule,
                   int64_t begin, int64_t end);
};

extern struct kernels kernels;

/* Scratch memory of one caller of gemm(): room for so many panels. */
struct gemm_scratch {
    void *a, *b;
    int64_t a_rows, b_cols; /* rows and columns that fit, at k_step deep */
};

int kernels_threads(void); /* threads a parallel kernel may use here: 1 when nested */
struct gemm_scratch *kernels_gemm_scratch(void);
void *kernels_linear_scratch(void); /* the larger scratch_bytes of linear[], of the caller */
float *kernels_heads_scratch(void); /* HEADS_SCRATCH bytes of the calling thread */
float *kernels_partials(void);      /* NORM_BLOCKS x NORM_WIDTH_MAX floats, shared: only
                                              outside parallel regions */

void gemm_fill_c(struct kernels *k);
void gemm_fill_avx2(struct kernels *k);
void gemm_fill_avx512(struct kernels *k);
void gemm_fill_amx(struct kernels *k);
void linear_fill_c(struct kernels *k);
void linear_fill_avx2(struct kernels *k);
void linear_fill_avx512(struct kernels *k);
void linear_fill_amx(struct kernels *k);
void blocks_fill_c(struct kernels *k);
void blocks_fill_avx2(struct kernels *k);
void blocks_fill_avx512(struct kernels *k);
void blocks_fill_amx(struct kernels *k);
void heads_fill_c(struct kernels *k);
void heads_fill_avx2(struct kernels *k);
void heads_fill_avx512(struct kernels *k);
void heads_fill_amx(struct kernels *k);
void rows_fill_c(struct kernels *k);
void rows_fill_avx2(struct kernels *k);
void rows_fill_avx512(struct kernels *k);
void peak_fill_c(struct kernels *k);
void peak_fill_avx2(struct kernels *k);
void peak_fill_avx512(struct kernels *k);
void peak_fill_amx(struct kernels *k);
void update_fill_c(struct kernels *k);
void update_fill_avx2(struct kernels *k);
void update_fill_avx512(struct kernels *k);

#endif
