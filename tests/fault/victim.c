/*
 * What the fault tests kill, starve and lie to: a small writer and reader of snapshots and
 * of token shards.
 *
 *   victim save RUN STEP [VALUES]   saves a snapshot of VALUES (default 3000, in hundreds)
 *                                   weights
 *   victim latest RUN               prints the step a run would go on from, or "none"
 *   victim pack PREFIX DOCS         packs DOCS documents of 1000 tokens
 *   victim count PREFIX             prints how many documents a shard holds, all of it read,
 *                                   or "none" if there is no shard
 */
#include "checkpoints/checkpoint.h"
#include "tokenizer/shard.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

/* Made up row by row, as training's are gathered; ROW values in each row. */
enum { ROW = 100 };

static void get_rows(const void *owner, size_t index, int64_t row, int64_t count, float *rows)
{
    const uint64_t *step = owner;
    for (int64_t i = 0; i < count * ROW; i++)
        rows[i] = (float)(*step + index) + (float)((row * ROW + i) % 1000) / 8;
}

static int save(const char *run, uint64_t step, int64_t count, struct err *e)
{
    int lock;
    const struct tensor weights = {.name = "w",
                                   .dtype = TENSOR_BF16,
                                   .rank = 2,
                                   .shape = {count / ROW, ROW},
                                   .get = get_rows,
                                   .owner = &step};
    struct tensor state = weights;
    state.dtype = TENSOR_F32;
    state.index = 1;
    const struct checkpoint_file files[] = {{"config.json", "{}\n", 3},
                                            {"trainer/state.json", "{\"seed\": 1}\n", 12}};
    const struct checkpoint_content c = {.step = step,
                                         .files = files,
                                         .file_count = 2,
                                         .weights = &weights,
                                         .weight_count = 1,
                                         .state = &state,
                                         .state_count = 1};
    int r = run_lock(run, &lock, e);
    if (!r)
        r = checkpoint_save(run, &c, e);
    run_unlock(lock);
    return r;
}

static int latest(const char *run, struct err *e)
{
    char *path;
    uint64_t step;
    int r = checkpoint_latest(run, &path, &step, e);
    if (r > 0)
        printf("%llu\n", (unsigned long long)step);
    else if (!r)
        puts("none");
    free(path);
    return r < 0 ? -1 : 0;
}

static int pack(const char *prefix, uint64_t docs, struct err *e)
{
    struct shard_writer *w;
    uint32_t tokens[1000];
    if (shard_writer_open(&w, prefix, 1000, 1, e))
        return -1;
    for (uint64_t d = 0; d < docs; d++) {
        for (uint32_t i = 0; i < 1000; i++)
            tokens[i] = (uint32_t)((d * 31 + i * 7) % 1000);
        if (shard_writer_add(w, "doc", 3, tokens, 1000, 4000, e)) {
            shard_writer_abort(w);
            return -1;
        }
    }
    return shard_writer_commit(w, e);
}

static int count(const char *prefix, struct err *e)
{
    struct shard s;
    uint32_t tokens[1000];
    int r = 0;
    if (!shard_exists(prefix)) {
        puts("none");
        return 0;
    }
    if (shard_open(&s, prefix, e))
        return -1;
    for (uint64_t at = 0; at < s.token_count && !r; at += 1000)
        r = shard_tokens(&s, at, 1000, tokens, e);
    if (!r)
        printf("%llu\n", (unsigned long long)s.doc_count);
    shard_close(&s);
    return r;
}

int main(int argc, char **argv)
{
    struct err e = {0};
    int r;
    signal(SIGXFSZ, SIG_IGN); /* as train does: a file size limit is an error, not a death */
    if (argc >= 4 && !strcmp(argv[1], "save"))
        r = save(argv[2], strtoull(argv[3], NULL, 10), argc > 4 ? strtoll(argv[4], NULL, 10) : 3000,
                 &e);
    else if (argc == 3 && !strcmp(argv[1], "latest"))
        r = latest(argv[2], &e);
    else if (argc == 4 && !strcmp(argv[1], "pack"))
        r = pack(argv[2], strtoull(argv[3], NULL, 10), &e);
    else if (argc == 3 && !strcmp(argv[1], "count"))
        r = count(argv[2], &e);
    else
        return 2;
    if (r)
        fprintf(stderr, "victim: %s\n", e.msg);
    return r ? 1 : 0;
}
