/*
 * Blocks, frames, files, and the folder's change of name; see output.h.
 */
#include "data/output.h"

#include "common/fs.h"
#include "common/hash.h"
#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define OUTPUT_NAMES "documents-*.jsonl.zst"

/* --- the folder ---------------------------------------------------------- */

/* Whether a folder may be replaced: nothing in it but what this program wrote. */
static int check_target(const char *folder, bool force, bool *replace, struct err *e)
{
    struct fs_list names = {0};
    bool ledger = false;
    const char *stranger = NULL;
    *replace = false;
    if (!fs_exists(folder))
        return 0;
    if (!fs_is_folder(folder))
        return err_set(e, "%s exists and is not a folder", folder);
    if (fs_list_folder(&names, folder, e))
        return -1;
    for (size_t i = 0; i < names.count; i++) {
        if (!strcmp(names.paths[i], LEDGER_NAME))
            ledger = true;
        else if (fnmatch(OUTPUT_NAMES, names.paths[i], 0))
            stranger = names.paths[i];
    }
    int failed = 0;
    if (names.count && !ledger)
        failed = err_set(e, "%s is not empty and holds no %s; name a new folder", folder,
                         LEDGER_NAME);
    else if (ledger && !force)
        failed = err_set(e,
                         "%s holds a finished corpus (see 'mundwerk data report %s'); name "
                         "another folder, or replace it with --force",
                         folder, folder);
    else if (ledger && stranger)
        failed = err_set(e, "%s holds %s, which is not of a corpus; nothing was replaced", folder,
                         stranger);
    *replace = ledger;
    fs_list_release(&names);
    return failed;
}

static int lock_folder(const char *path, struct err *e)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_set(e, "cannot open %s: %s", path, strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB)) {
        close(fd);
        return err_set(e, "another run is writing to %s", path);
    }
    return fd;
}

/* Whether a ledger and all files it names lie there. */
static bool is_whole(const char *folder)
{
    struct ledger l = {0};
    struct err ignored;
    char *path = fs_join(folder, "%s", LEDGER_NAME);
    bool whole = !ledger_read(&l, path, &ignored);
    free(path);
    for (size_t i = 0; i < l.output_count && whole; i++) {
        uint64_t bytes;
        path = fs_join(folder, "%s", l.outputs[i].name);
        whole = !fs_size(path, &bytes, &ignored) && bytes == l.outputs[i].bytes;
        free(path);
    }
    ledger_release(&l);
    return whole;
}

/* The corpus a killed run was replacing: it goes, or comes back if nothing has its place. */
static int settle_old(const struct output *o, struct err *e)
{
    if (!fs_exists(o->folder_old))
        return 0;
    int fd = lock_folder(o->folder_old, e);
    if (fd < 0)
        return -1;
    int failed = 0;
    if (fs_exists(o->folder) || !is_whole(o->folder_old))
        failed = fs_remove_tree(o->folder_old, e);
    else if (rename(o->folder_old, o->folder))
        failed = err_set(e, "cannot rename %s to %s: %s", o->folder_old, o->folder,
                         strerror(errno));
    else
        log_warn("put back the corpus %s, which an interrupted run had moved away", o->folder);
    close(fd);
    return failed ? err_add(e, "leftovers of an interrupted run") : 0;
}

/* A fresh, locked folder_tmp. */
static int make_folder(struct output *o, struct err *e)
{
    if (fs_exists(o->folder_tmp)) {
        int fd = lock_folder(o->folder_tmp, e);
        if (fd < 0)
            return -1;
        int failed = fs_remove_tree(o->folder_tmp, e);
        close(fd);
        if (failed)
            return err_add(e, "leftovers of an interrupted run");
    }
    if (fs_mkdirs(o->folder_tmp, e))
        return -1;
    o->lock = lock_folder(o->folder_tmp, e);
    return o->lock < 0 ? -1 : 0;
}

int output_open(struct output *o, const char *folder, bool force, uint64_t file_bytes,
                struct ledger *l, struct err *e)
{
    memset(o, 0, sizeof(*o));
    o->lock = -1;
    o->file_bytes = file_bytes;
    o->ledger = l;
    size_t len = strlen(folder);
    while (len > 1 && folder[len - 1] == '/')
        len--;
    struct buf name = {0};
    buf_add(&name, folder, len);
    o->folder = mem_strdup(name.data);
    buf_puts(&name, ".tmp");
    o->folder_tmp = mem_strdup(name.data);
    name.len = len;
    buf_puts(&name, ".old.tmp");
    o->folder_old = name.data;
    if (settle_old(o, e) || check_target(o->folder, force, &o->replace, e))
        return -1;
    return make_folder(o, e);
}

int output_commit(struct output *o, struct err *e)
{
    struct buf text = {0};
    MW_ASSERT(!o->writing && !o->full_count && !o->open);
    ledger_format(o->ledger, &text);
    char *path = fs_join(o->folder_tmp, "%s", LEDGER_NAME);
    int failed = fs_write(path, text.data, text.len, e);
    free(path);
    buf_release(&text);
    if (failed)
        return -1;
    int old_lock = o->replace ? lock_folder(o->folder, e) : -1;
    if (o->replace && old_lock < 0)
        return -1;
    failed = fs_replace_folder(o->folder_tmp, o->folder, o->folder_old, e);
    if (old_lock >= 0)
        close(old_lock);
    if (!failed) {
        close(o->lock);
        o->lock = -1;
    }
    return failed;
}

/* --- blocks -------------------------------------------------------------- */

static void block_free(struct output_block *b)
{
    if (!b)
        return;
    buf_release(&b->lines);
    buf_release(&b->frame);
    free(b);
}

static void close_block(struct output *o)
{
    o->full = mem_grow(o->full, &o->full_capacity, o->full_count + 1,
                       sizeof(struct output_block *));
    o->full[o->full_count++] = o->open;
    o->open = NULL;
}

void output_add(struct output *o, const char *lines, size_t len)
{
    while (len) {
        const char *nl = memchr(lines, '\n', len);
        MW_ASSERT(nl);
        size_t n = (size_t)(nl + 1 - lines);
        if (!o->open) {
            o->open = mem_zalloc(1, sizeof(*o->open));
            buf_reserve(&o->open->lines, OUTPUT_BLOCK_BYTES);
        }
        buf_add(&o->open->lines, lines, n);
        o->open->documents++;
        if (o->open->lines.len >= OUTPUT_BLOCK_BYTES)
            close_block(o);
        lines += n;
        len -= n;
    }
}

void output_flush(struct output *o)
{
    if (o->open)
        close_block(o);
}

void output_block_pack(struct output_block *b)
{
    stream_zstd_frame(&b->frame, b->lines.data, b->lines.len);
}

/* --- files --------------------------------------------------------------- */

static int start_file(struct output *o, struct err *e)
{
    struct buf name = {0};
    buf_printf(&name, "documents-%05zu.jsonl.zst", o->ledger->output_count);
    char *path = fs_join(o->folder_tmp, "%s", name.data);
    int failed = writer_open_packed(&o->writer, path, e);
    free(path);
    memset(&o->now, 0, sizeof(o->now));
    o->now.name = name.data;
    o->hash = hash_new();
    o->writing = !failed;
    return failed;
}

static int end_file(struct output *o, struct err *e)
{
    o->writing = false;
    o->now.hash = hash_end(o->hash);
    hash_free(o->hash);
    o->hash = NULL;
    if (writer_commit(&o->writer, e))
        return -1;
    o->ledger->written_bytes += o->now.bytes;
    struct ledger_output *out = ledger_add_output(o->ledger, NULL);
    *out = o->now;
    o->now.name = NULL;
    return 0;
}

int output_write(struct output *o, size_t count, struct err *e)
{
    MW_ASSERT(count <= o->full_count);
    for (size_t i = 0; i < count; i++) {
        struct output_block *b = o->full[i];
        if (!o->writing && start_file(o, e))
            return -1;
        if (writer_write(&o->writer, b->frame.data, b->frame.len, e))
            return -1;
        hash_add(o->hash, b->frame.data, b->frame.len);
        o->now.documents += b->documents;
        o->now.text_bytes += b->lines.len;
        o->now.bytes += b->frame.len;
        if (o->now.text_bytes >= o->file_bytes && end_file(o, e))
            return -1;
    }
    for (size_t i = 0; i < count; i++)
        block_free(o->full[i]);
    o->full_count -= count;
    memmove(o->full, o->full + count, o->full_count * sizeof(struct output_block *));
    return 0;
}

int output_finish_files(struct output *o, struct err *e)
{
    MW_ASSERT(!o->full_count && !o->open);
    return o->writing ? end_file(o, e) : 0;
}

void output_release(struct output *o)
{
    struct err ignored;
    if (o->writing)
        writer_abort(&o->writer);
    if (o->lock >= 0) {
        fs_remove_tree(o->folder_tmp, &ignored);
        close(o->lock);
    }
    block_free(o->open);
    for (size_t i = 0; i < o->full_count; i++)
        block_free(o->full[i]);
    free(o->full);
    hash_free(o->hash);
    free(o->now.name);
    free(o->folder);
    free(o->folder_tmp);
    free(o->folder_old);
    memset(o, 0, sizeof(*o));
    o->lock = -1;
}
