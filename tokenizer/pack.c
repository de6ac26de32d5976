/* Owns packing: encodes documents on all threads, writes them in order. */
#include "tokenizer/pack.h"

#include "common/fs.h"
#include "common/hash.h"
#include "common/threads.h"
#include "tokenizer/shard.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

struct packed_doc {
    size_t id_len, token_count;
    uint64_t bytes;
};

/* The documents of one block of lines, one after the other. */
struct packed_block {
    struct packed_doc *docs;
    size_t count, capacity;
    uint64_t empty;
    struct ids tokens;
    struct buf ids;
};

struct packer {
    struct encoder **encoders; /* one a worker */
    struct buf *texts, *ids;   /* likewise */
    int workers;
    struct packed_block *blocks; /* (CORPUS_BLOCKS_MAX) */
    struct shard_writer *train, *valid;
    double valid_share;
    struct pack_stats *stats;
};

bool pack_holds_out(const char *id, size_t id_len, double valid_share)
{
    /* 53 bits, so that the comparison is exact in double. */
    return (double)(hash64(id, id_len) >> 11) < valid_share * 0x1p53;
}

static int encode_document(void *context, int worker, size_t block, const struct corpus *c,
                           const struct corpus_batch *b, struct corpus_line *line, struct err *e)
{
    struct packer *p = context;
    struct packed_block *out = &p->blocks[block];
    struct buf *id = &p->ids[worker];
    const char *text;
    size_t len, before = out->tokens.count;
    if (!corpus_text(c, b, line, &p->texts[worker], &text, &len, id))
        return 0;
    if (!line->json)
        len = corpus_line_len(text, len);
    if (!len) {
        out->empty++;
        return 0;
    }
    /* .ids holds one id a line. */
    if (memchr(id->data, '\n', id->len)) {
        line->bad = "the id has a line break in it";
        return 0;
    }
    if (encoder_encode(p->encoders[worker], text, len, ENCODE_BOS | ENCODE_EOS, &out->tokens, e))
        return -1;
    out->docs = mem_grow(out->docs, &out->capacity, out->count + 1, sizeof(*out->docs));
    out->docs[out->count++] = (struct packed_doc){id->len, out->tokens.count - before, len};
    buf_add(&out->ids, id->data, id->len);
    return 0;
}

static int write_block(struct packer *p, struct packed_block *b, struct err *e)
{
    const char *id = b->ids.data;
    const uint32_t *tokens = b->tokens.v;
    for (size_t i = 0; i < b->count; i++) {
        const struct packed_doc *d = &b->docs[i];
        bool held_out = pack_holds_out(id, d->id_len, p->valid_share);
        struct pack_part *part = held_out ? &p->stats->valid : &p->stats->train;
        if (shard_writer_add(held_out ? p->valid : p->train, id, d->id_len, tokens, d->token_count,
                             d->bytes, e))
            return -1;
        part->documents++;
        part->tokens += d->token_count;
        part->bytes += d->bytes;
        id += d->id_len;
        tokens += d->token_count;
    }
    p->stats->empty += b->empty;
    b->empty = b->count = b->tokens.count = 0;
    buf_clear(&b->ids);
    return 0;
}

static int write_batch(void *context, const struct corpus *c, const struct corpus_batch *b,
                       struct err *e)
{
    struct packer *p = context;
    (void)c;
    for (size_t i = 0; i < corpus_block_count(b); i++)
        if (write_block(p, &p->blocks[i], e))
            return -1;
    return 0;
}

static void packer_init(struct packer *p, const struct tokenizer *t)
{
    memset(p, 0, sizeof(*p));
    p->workers = threads_count();
    p->encoders = mem_alloc((size_t)p->workers * sizeof(struct encoder *));
    p->texts = mem_zalloc((size_t)p->workers, sizeof(*p->texts));
    p->ids = mem_zalloc((size_t)p->workers, sizeof(*p->ids));
    p->blocks = mem_zalloc(CORPUS_BLOCKS_MAX, sizeof(*p->blocks));
    for (int i = 0; i < p->workers; i++)
        p->encoders[i] = encoder_new(t);
}

static void packer_release(struct packer *p)
{
    for (int i = 0; i < p->workers; i++) {
        encoder_free(p->encoders[i]);
        buf_release(&p->texts[i]);
        buf_release(&p->ids[i]);
    }
    for (size_t i = 0; i < CORPUS_BLOCKS_MAX; i++) {
        free(p->blocks[i].docs);
        ids_release(&p->blocks[i].tokens);
        buf_release(&p->blocks[i].ids);
    }
    free(p->encoders);
    free(p->texts);
    free(p->ids);
    free(p->blocks);
}

static int open_writers(struct packer *p, const struct tokenizer *t, const char *prefix,
                        struct err *e)
{
    struct buf valid = {0};
    int failed = shard_writer_open(&p->train, prefix, tokenizer_vocab_size(t), tokenizer_hash(t),
                                   e);
    if (!failed && p->valid_share > 0) {
        buf_printf(&valid, "%s.valid", prefix);
        failed = shard_writer_open(&p->valid, valid.data, tokenizer_vocab_size(t),
                                   tokenizer_hash(t), e);
        buf_release(&valid);
    }
    return failed;
}

static int remove_valid(const char *prefix, struct err *e)
{
    struct buf valid = {0};
    buf_printf(&valid, "%s.valid", prefix);
    int failed = shard_remove(valid.data, e);
    buf_release(&valid);
    return failed;
}

static int finish(struct packer *p, const struct corpus *c, const char *prefix, struct err *e)
{
    int failed = 0;
    if (p->stats->train.documents + p->stats->valid.documents == 0)
        return err_set(e, "no text in %s: %llu bad lines, %llu empty ones", c->files.paths[0],
                       (unsigned long long)c->bad, (unsigned long long)p->stats->empty);
    if (!p->stats->train.documents)
        return err_set(e,
                       "all %llu documents are held out; a smaller --valid-share leaves some "
                       "for training",
                       (unsigned long long)p->stats->valid.documents);
    if (p->valid && !p->stats->valid.documents) {
        shard_writer_abort(p->valid);
        p->valid = NULL;
    }
    /* No name changes before all lies on the disk. */
    if ((p->valid && shard_writer_finish(p->valid, e)) || shard_writer_finish(p->train, e))
        return -1;
    /* Validation first: whoever finds PREFIX.idx may count on all else being there. */
    if (p->valid) {
        failed = shard_writer_commit(p->valid, e);
        p->valid = NULL;
    } else {
        failed = remove_valid(prefix, e);
    }
    if (!failed) {
        failed = shard_writer_commit(p->train, e);
        p->train = NULL;
    }
    return failed;
}

/* --- one at a time --------------------------------------------------------------- */

/* Takes the lock of the file at path; *gone: it was removed before we had it. */
static int lock_file(const char *path, int *fd, bool *gone, struct err *e)
{
    struct stat ours, there;
    *gone = false;
    *fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (*fd < 0)
        return err_set(e, "cannot open %s: %s", path, strerror(errno));
    if (flock(*fd, LOCK_EX | LOCK_NB)) {
        int why = errno;
        close(*fd);
        return why == EWOULDBLOCK
                   ? err_set(e, "%s is held: another program packs to this prefix", path)
                   : err_set(e, "cannot lock %s: %s", path, strerror(why));
    }
    *gone = fstat(*fd, &ours) || stat(path, &there) || ours.st_ino != there.st_ino ||
            ours.st_dev != there.st_dev;
    if (*gone)
        close(*fd);
    return 0;
}

/* Two packings to one prefix would remove each other's files. */
static int lock(const char *path, int *fd, struct err *e)
{
    size_t len = (size_t)(fs_base(path) - path);
    char *folder = len ? mem_strndup(path, len) : mem_strdup(".");
    bool gone = true;
    int failed = fs_mkdirs(folder, e);
    while (!failed && gone)
        failed = lock_file(path, fd, &gone, e);
    free(folder);
    return failed;
}

/* Removed while it is still held, so that nobody else's lock is. */
static void unlock(const char *path, int fd)
{
    unlink(path);
    close(fd);
}

static int pack_locked(const struct tokenizer *t, struct corpus *c, const char *prefix,
                       double valid_share, struct pack_stats *stats, struct err *e)
{
    struct packer p;
    struct corpus_job job = {&p, encode_document, write_batch};
    memset(stats, 0, sizeof(*stats));
    packer_init(&p, t);
    p.valid_share = valid_share;
    p.stats = stats;
    int failed = open_writers(&p, t, prefix, e) || corpus_run(c, "packing", &job, e) ||
                 finish(&p, c, prefix, e);
    if (p.valid)
        shard_writer_abort(p.valid);
    if (p.train)
        shard_writer_abort(p.train);
    packer_release(&p);
    return failed ? -1 : 0;
}

int pack_corpus(const struct tokenizer *t, struct corpus *c, const char *prefix, double valid_share,
                struct pack_stats *stats, struct err *e)
{
    struct buf path = {0};
    int fd;
    buf_printf(&path, "%s.lock", prefix);
    int failed = lock(path.data, &fd, e);
    if (!failed) {
        failed = pack_locked(t, c, prefix, valid_share, stats, e);
        unlock(path.data, fd);
    }
    buf_release(&path);
    return failed;
}
