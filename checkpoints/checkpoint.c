/*
 * Owns the folder runs/NAME/checkpoints: saving by the protocol of
 * reliability.md §5, verifying, finding, pruning, and the lock that keeps a
 * second writer out. Only names and renames decide what exists: a step-*
 * folder is whole, tmp-* and dead-* are nobody's and may be removed.
 */
#include "checkpoints/checkpoint.h"

#include "checkpoints/manifest.h"
#include "common/fs.h"
#include "common/hash.h"
#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static const char *const tokenizer_files[] = {"tokenizer.json", "tokenizer_config.json",
                                              "special_tokens_map.json"};
#define TOKENIZER_FILES (sizeof(tokenizer_files) / sizeof(*tokenizer_files))

/* --- names ------------------------------------------------------------------ */

static char *checkpoints_of(const char *run)
{
    return fs_join(run, "checkpoints");
}

/* "step-0001000", "tmp-0001000", "dead-0001000"; caller frees. */
static char *name_path(const char *run, const char *kind, uint64_t step)
{
    return fs_join(run, "checkpoints/%s-%07llu", kind, (unsigned long long)step);
}

/* Reads "KIND-NNNNNNN" as name_path() writes it; false for anything else. */
static bool name_parse(const char *name, const char *kind, uint64_t *step)
{
    size_t len = strlen(kind);
    if (strncmp(name, kind, len) != 0 || name[len] != '-')
        return false;
    const char *digits = name + len + 1;
    size_t count = strlen(digits);
    if (count < 7 || count > 18 || (count > 7 && digits[0] == '0'))
        return false;
    *step = 0;
    for (; *digits; digits++) {
        if (*digits < '0' || *digits > '9')
            return false;
        *step = *step * 10 + (uint64_t)(*digits - '0');
    }
    return true;
}

static int rename_path(const char *from, const char *to, struct err *e)
{
    return rename(from, to) ? err_set(e, "cannot rename %s to %s: %s", from, to, strerror(errno))
                            : 0;
}

/* --- the lock ---------------------------------------------------------------- */

static int lock_refused(const char *path, int fd, struct err *e)
{
    char pid[32];
    ssize_t n = pread(fd, pid, sizeof(pid) - 1, 0);
    size_t len = 0;
    while (n > 0 && len < (size_t)n && pid[len] >= '0' && pid[len] <= '9')
        len++;
    pid[len] = '\0';
    return err_set(e, "%s is held by process %s: another program writes to this run", path,
                   len ? pid : "(unknown)");
}

int run_lock(const char *run, int *fd, struct err *e)
{
    char pid[32], *path = fs_join(run, "run.lock"), *parent = fs_join(run, "..");
    bool fresh = !fs_is_folder(run);
    int r = fs_mkdirs(run, e);
    *fd = -1;
    if (!r && fresh)
        r = fs_sync_folder(parent, e);
    if (!r) {
        *fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666);
        if (*fd < 0)
            r = err_set(e, "cannot open %s: %s", path, strerror(errno));
        else if (flock(*fd, LOCK_EX | LOCK_NB))
            r = errno == EWOULDBLOCK ? lock_refused(path, *fd, e)
                                     : err_set(e, "cannot lock %s: %s", path, strerror(errno));
    }
    if (!r) {
        /* only for the other's message: a failure here does not weaken the lock */
        int len = snprintf(pid, sizeof(pid), "%ld\n", (long)getpid());
        if (ftruncate(*fd, 0) || pwrite(*fd, pid, (size_t)len, 0) != len)
            log_warn("cannot write the process number to %s", path);
    } else if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
    free(path);
    free(parent);
    return r;
}

void run_unlock(int fd)
{
    if (fd >= 0)
        close(fd); /* the file stays: removing it would race with the next holder */
}

/* --- saving ------------------------------------------------------------------ */

/* A save under way. */
struct save {
    const struct checkpoint_content *c;
    char *tmp; /* the folder that will become step-NNNNNNN */
    struct manifest manifest;
    struct file_out file; /* the one being written */
};

/* Makes tmp/a for "a/b". */
static int make_folder_of(const struct save *s, const char *name, struct err *e)
{
    const char *slash = strchr(name, '/');
    if (!slash)
        return 0;
    MW_ASSERT(!strchr(slash + 1, '/'));
    char *path = fs_join(s->tmp, "%.*s", (int)(slash - name), name);
    int r = mkdir(path, 0777) && errno != EEXIST
                ? err_set(e, "cannot make folder %s: %s", path, strerror(errno))
                : 0;
    free(path);
    return r;
}

static int begin_file(struct save *s, const char *name, struct err *e)
{
    MW_ASSERT(!manifest_find(&s->manifest, name));
    if (make_folder_of(s, name, e))
        return -1;
    char *path = fs_join(s->tmp, "%s", name);
    int r = file_create(&s->file, path, e);
    free(path);
    return r;
}

/* `r` is what writing gave; a file that could not be written is removed. */
static int end_file(struct save *s, const char *name, int r, struct err *e)
{
    uint64_t hash, bytes = s->file.bytes;
    if (r) {
        file_abort(&s->file);
        return -1;
    }
    if (file_finish(&s->file, &hash, e))
        return -1;
    manifest_add(&s->manifest, name, bytes, hash);
    return 0;
}

static int save_bytes(struct save *s, const char *name, const void *data, size_t len, struct err *e)
{
    if (begin_file(s, name, e))
        return -1;
    return end_file(s, name, file_write(&s->file, data, len, e), e);
}

static int save_tensors(struct save *s, const char *name, const struct tensor *tensors,
                        size_t count, struct err *e)
{
    if (!count)
        return 0;
    if (begin_file(s, name, e))
        return -1;
    return end_file(s, name, safetensors_put(&s->file, tensors, count, e), e);
}

static int save_copy(struct save *s, const char *name, struct err *e)
{
    char *from = fs_join(s->c->copy_folder, "%s", name);
    struct file_map map;
    int r = file_map(&map, from, e);
    free(from);
    if (r)
        return -1;
    r = save_bytes(s, name, map.data, map.bytes, e);
    file_unmap(&map);
    return r;
}

/* The folders inside tmp: their entries must be on the disk before the manifest counts. */
static int sync_folders(const struct save *s, struct err *e)
{
    for (size_t i = 0; i < s->manifest.count; i++) {
        const char *name = s->manifest.files[i].path, *slash = strchr(name, '/');
        bool again = false; /* of the same folder as an earlier file */
        for (size_t k = 0; slash && k < i && !again; k++)
            again = !strncmp(s->manifest.files[k].path, name, (size_t)(slash + 1 - name));
        if (!slash || again)
            continue;
        char *path = fs_join(s->tmp, "%.*s", (int)(slash - name), name);
        int r = fs_sync_folder(path, e);
        free(path);
        if (r)
            return -1;
    }
    return 0;
}

static int save_manifest(struct save *s, struct err *e)
{
    struct buf text = {0};
    manifest_print(&s->manifest, s->c->manifest_extra, &text);
    int r = save_bytes(s, MANIFEST_NAME, text.data, text.len, e);
    buf_release(&text);
    return r;
}

static int save_all(struct save *s, struct err *e)
{
    const struct checkpoint_content *c = s->c;
    for (size_t i = 0; i < c->file_count; i++)
        if (save_bytes(s, c->files[i].name, c->files[i].data, c->files[i].len, e))
            return -1;
    for (size_t i = 0; c->copy_folder && i < TOKENIZER_FILES; i++)
        if (save_copy(s, tokenizer_files[i], e))
            return -1;
    if (save_tensors(s, "model.safetensors", c->weights, c->weight_count, e) ||
        save_tensors(s, "trainer/state.safetensors", c->state, c->state_count, e) ||
        sync_folders(s, e) || save_manifest(s, e))
        return -1;
    return fs_sync_folder(s->tmp, e);
}

int checkpoint_check_tokenizer(const char *folder, struct err *e)
{
    for (size_t i = 0; i < TOKENIZER_FILES; i++) {
        char *path = fs_join(folder, "%s", tokenizer_files[i]);
        bool there = access(path, R_OK) == 0;
        int why = errno;
        free(path);
        if (!there)
            return err_set(e,
                           "the tokenizer %s is not complete: %s: %s; every snapshot takes a copy "
                           "along, 'mundwerk tokenizer train' writes it",
                           folder, tokenizer_files[i], strerror(why));
    }
    return 0;
}

/* Whether the disk has room, asked before anything is written: a full disk found
 * after an hour of writing would hurt other programs too. */
static int check_space(const char *folder, const struct checkpoint_content *c, struct err *e)
{
    struct statvfs fs;
    uint64_t need = 64 << 10; /* manifest and folders */
    for (size_t i = 0; i < c->file_count; i++)
        need += c->files[i].len;
    for (size_t i = 0; c->copy_folder && i < TOKENIZER_FILES; i++) {
        char *from = fs_join(c->copy_folder, "%s", tokenizer_files[i]);
        uint64_t bytes = 0;
        int r = fs_size(from, &bytes, e);
        free(from);
        if (r)
            return -1;
        need += bytes;
    }
    if (c->weight_count)
        need += safetensors_bytes(c->weights, c->weight_count);
    if (c->state_count)
        need += safetensors_bytes(c->state, c->state_count);
    if (statvfs(folder, &fs) || !fs.f_blocks) /* the file system does not tell: writing will */
        return 0;
    uint64_t have;
    if (__builtin_mul_overflow((uint64_t)fs.f_bavail, (uint64_t)fs.f_frsize, &have) || have >= need)
        return 0;
    return err_set(e,
                   "%s: no room for step %llu: it takes %llu bytes (%s), the disk has %llu (%s) "
                   "free; remove old snapshots with 'mundwerk checkpoints prune'",
                   folder, (unsigned long long)c->step, (unsigned long long)need, log_bytes(need),
                   (unsigned long long)have, log_bytes(have));
}

/* tmp becomes step; checkpoint_clean() knows what a crash leaves. */
static int replace(const char *run, const char *tmp, uint64_t step, struct err *e)
{
    char *to = name_path(run, "step", step), *dead = name_path(run, "dead", step);
    int r = fs_replace_folder(tmp, to, dead, e);
    free(to);
    free(dead);
    return r;
}

int checkpoint_save(const char *run, const struct checkpoint_content *c, struct err *e)
{
    struct save s = {.c = c, .tmp = name_path(run, "tmp", c->step)};
    char *folder = checkpoints_of(run);
    bool fresh = !fs_is_folder(folder);
    int r = fs_mkdirs(folder, e);
    if (!r && fresh)
        r = fs_sync_folder(run, e);
    if (!r)
        r = checkpoint_clean(run, e) || check_space(folder, c, e);
    if (!r && mkdir(s.tmp, 0777))
        r = err_set(e, "cannot make folder %s: %s", s.tmp, strerror(errno));
    s.manifest.step = c->step;
    if (!r && save_all(&s, e)) {
        struct err second; /* the first one is what happened */
        r = -1;
        fs_remove_tree(s.tmp, &second);
    }
    if (!r)
        r = replace(run, s.tmp, c->step, e);
    manifest_release(&s.manifest);
    free(s.tmp);
    free(folder);
    return r ? err_add(e, "snapshot of step %llu", (unsigned long long)c->step) : 0;
}

/* --- verifying ---------------------------------------------------------------- */

static int verify_file(const char *folder, const struct manifest_file *f, struct err *e)
{
    char *path = fs_join(folder, "%s", f->path);
    struct stat st;
    uint64_t hash = 0, bytes = 0;
    int r = 0;
    if (lstat(path, &st))
        r = err_set(e, "%s: %s, but the manifest names it", path, strerror(errno));
    else if (!S_ISREG(st.st_mode))
        r = err_set(e, "%s is not a regular file", path);
    else if ((uint64_t)st.st_size != f->bytes)
        r = err_set(e, "%s has %llu bytes, the manifest says %llu", path,
                    (unsigned long long)st.st_size, (unsigned long long)f->bytes);
    else if (hash_file(path, &hash, &bytes, e))
        r = -1;
    else if (hash != f->hash)
        r = err_set(e, "%s is damaged: its hash is %016llx, the manifest says %016llx", path,
                    (unsigned long long)hash, (unsigned long long)f->hash);
    free(path);
    return r;
}

static int verify_nothing_else(const char *folder, const struct manifest *m, struct err *e)
{
    struct fs_list files = {0};
    char *paths[] = {(char *)(uintptr_t)folder};
    int r = fs_list_files(&files, paths, 1, e);
    for (size_t i = 0; i < files.count && !r; i++) {
        const char *name = files.paths[i] + strlen(folder) + 1;
        if (strcmp(name, MANIFEST_NAME) != 0 && !manifest_find(m, name))
            r = err_set(e, "%s: %s is not named in the manifest", folder, name);
    }
    fs_list_release(&files);
    return r;
}

static bool is_pruned(const char *folder)
{
    char *trainer = fs_join(folder, "trainer");
    bool pruned = !fs_exists(trainer);
    free(trainer);
    return pruned;
}

static int verify_all(const char *folder, const struct manifest *m, struct err *e)
{
    bool pruned = is_pruned(folder);
    uint64_t step;
    if (name_parse(fs_base(folder), "step", &step) && step != m->step)
        return err_set(e, "%s: %s is that of step %llu", folder, MANIFEST_NAME,
                       (unsigned long long)m->step);
    for (size_t i = 0; i < m->count; i++) {
        bool of_trainer = !strncmp(m->files[i].path, "trainer/", 8);
        if (of_trainer && pruned)
            continue;
        if (verify_file(folder, &m->files[i], e)) {
            /* The run that writes here may have pruned it since: trainer/ goes as a whole. */
            pruned = of_trainer && is_pruned(folder);
            if (!pruned)
                return -1;
        }
    }
    if (!verify_nothing_else(folder, m, e))
        return 0;
    return !pruned && is_pruned(folder) ? verify_nothing_else(folder, m, e) : -1;
}

int checkpoint_verify(const char *folder, struct err *e)
{
    struct manifest m;
    size_t len = strlen(folder);
    while (len > 1 && folder[len - 1] == '/')
        len--;
    char *trimmed = mem_strndup(folder, len), *path = fs_join(trimmed, MANIFEST_NAME);
    int r = manifest_read(&m, path, e);
    if (!r) {
        r = verify_all(trimmed, &m, e);
        manifest_release(&m);
    }
    free(path);
    free(trimmed);
    return r;
}

int checkpoint_bytes(const char *folder, uint64_t *bytes, struct err *e)
{
    struct fs_list files = {0};
    char *paths[] = {(char *)(uintptr_t)folder};
    int r = fs_list_files(&files, paths, 1, e);
    *bytes = 0;
    for (size_t i = 0; i < files.count && !r; i++) {
        uint64_t one = 0;
        r = fs_size(files.paths[i], &one, e);
        *bytes += one;
    }
    fs_list_release(&files);
    return r;
}

/* --- finding ------------------------------------------------------------------ */

static int by_step(const void *a, const void *b)
{
    const struct checkpoint_entry *x = a, *y = b;
    return x->step < y->step ? -1 : x->step > y->step;
}

int checkpoint_find(struct checkpoint_list *list, const char *run, struct err *e)
{
    struct fs_list names = {0};
    char *folder = checkpoints_of(run);
    memset(list, 0, sizeof(*list));
    int r = fs_is_folder(folder) ? fs_list_folder(&names, folder, e) : 0;
    for (size_t i = 0; i < names.count && !r; i++) {
        uint64_t step;
        if (!name_parse(names.paths[i], "step", &step))
            continue;
        char *path = fs_join(folder, "%s", names.paths[i]), *trainer = fs_join(path, "trainer");
        list->entries = mem_grow(list->entries, &list->capacity, list->count + 1,
                                 sizeof(*list->entries));
        list->entries[list->count++] = (struct checkpoint_entry){
            .step = step, .path = path, .has_trainer = fs_is_folder(trainer)};
        free(trainer);
    }
    if (list->count)
        qsort(list->entries, list->count, sizeof(*list->entries), by_step);
    fs_list_release(&names);
    free(folder);
    return r;
}

void checkpoint_list_release(struct checkpoint_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->entries[i].path);
    free(list->entries);
    memset(list, 0, sizeof(*list));
}

int checkpoint_latest(const char *run, char **path, uint64_t *step, struct err *e)
{
    struct checkpoint_list list;
    struct err why;
    int found = 0;
    *path = NULL;
    if (checkpoint_find(&list, run, e))
        return -1;
    size_t tried = 0;
    for (size_t i = list.count; i-- && !found;) {
        const struct checkpoint_entry *entry = &list.entries[i];
        if (!entry->has_trainer)
            continue;
        tried++;
        if (checkpoint_verify(entry->path, &why)) {
            log_warn("snapshot of step %llu cannot be used: %s; trying the one before",
                     (unsigned long long)entry->step, why.msg);
            continue;
        }
        *path = mem_strdup(entry->path);
        *step = entry->step;
        found = 1;
    }
    checkpoint_list_release(&list);
    if (!found && tried)
        return err_set(e, "none of the %zu snapshots of %s with trainer state is whole: %s", tried,
                       run, why.msg);
    return found;
}

/* --- removing ------------------------------------------------------------------ */

/* Removes parent/name, by rename to dead-NNNNNNN-NAME, so that a crash halfway leaves no half
 * snapshot: both folders know of the rename before the first file goes. */
static int remove_path(const char *run, uint64_t step, const char *parent, const char *name,
                       struct err *e)
{
    char *folder = checkpoints_of(run), *path = fs_join(parent, "%s", name);
    char *dead = fs_join(folder, "dead-%07llu-%s", (unsigned long long)step, name);
    int r = fs_remove_tree(dead, e) || rename_path(path, dead, e) || fs_sync_folder(folder, e) ||
            fs_sync_folder(parent, e) || fs_remove_tree(dead, e);
    free(folder);
    free(path);
    free(dead);
    return r ? -1 : 0;
}

int checkpoint_prune(const char *run, uint64_t keep, struct err *e)
{
    struct checkpoint_list list;
    uint64_t with_trainer = 0;
    if (!keep)
        return 0;
    if (checkpoint_find(&list, run, e))
        return -1;
    int r = 0;
    for (size_t i = 0; i < list.count; i++)
        with_trainer += list.entries[i].has_trainer;
    for (size_t i = 0; i < list.count && with_trainer > keep && !r; i++)
        if (list.entries[i].has_trainer) {
            r = checkpoint_remove_trainer(run, list.entries[i].step, e);
            with_trainer--;
        }
    checkpoint_list_release(&list);
    return r;
}

int checkpoint_remove_trainer(const char *run, uint64_t step, struct err *e)
{
    char *path = name_path(run, "step", step);
    int r = remove_path(run, step, path, "trainer", e);
    free(path);
    return r;
}

int checkpoint_remove(const char *run, uint64_t step, struct err *e)
{
    char *folder = checkpoints_of(run), *path = name_path(run, "step", step);
    int r = fs_is_folder(path)
                ? remove_path(run, step, folder, fs_base(path), e)
                : err_set(e, "%s has no snapshot of step %llu", run, (unsigned long long)step);
    free(folder);
    free(path);
    return r;
}

/* dead-N without step-N, and whole: a save that replaced step N was killed between its two
 * renames. It comes back: 1 if so, 0 if not, -1 on error. */
static int put_back(const char *run, const char *dead, uint64_t step, struct err *e)
{
    char *path = name_path(run, "step", step);
    struct err ignored;
    int r = 0;
    if (!fs_exists(path) && !checkpoint_verify(dead, &ignored))
        r = rename_path(dead, path, e) ? -1 : 1;
    if (r == 1)
        log_warn("put back the snapshot of step %llu, which an interrupted save had moved away",
                 (unsigned long long)step);
    free(path);
    return r;
}

int checkpoint_clean(const char *run, struct err *e)
{
    struct fs_list names = {0};
    char *folder = checkpoints_of(run);
    int r = fs_is_folder(folder) ? fs_list_folder(&names, folder, e) : 0;
    for (size_t i = 0; i < names.count && !r; i++) {
        const char *name = names.paths[i];
        uint64_t step;
        if (strncmp(name, "tmp-", 4) != 0 && strncmp(name, "dead-", 5) != 0)
            continue;
        char *path = fs_join(folder, "%s", name);
        int back = name_parse(name, "dead", &step) ? put_back(run, path, step, e) : 0;
        if (back <= 0)
            r = back ? -1 : fs_remove_tree(path, e);
        free(path);
    }
    fs_list_release(&names);
    free(folder);
    return r;
}
