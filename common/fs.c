/* Owns paths, folders and whole small files. */
#include "common/fs.h"

#include "common/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void list_add(struct fs_list *list, char *path)
{
    list->paths = mem_grow(list->paths, &list->capacity, list->count + 1, sizeof(*list->paths));
    list->paths[list->count++] = path;
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void fs_list_release(struct fs_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->paths[i]);
    free(list->paths);
    *list = (struct fs_list){0};
}

int fs_list_folder(struct fs_list *list, const char *path, struct err *e)
{
    DIR *d = opendir(path);
    if (!d)
        return err_set(e, "cannot open folder %s: %s", path, strerror(errno));
    struct dirent *entry;
    errno = 0;
    while ((entry = readdir(d))) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            list_add(list, mem_strdup(entry->d_name));
        errno = 0;
    }
    int failed = errno;
    closedir(d);
    if (failed)
        return err_set(e, "cannot read folder %s: %s", path, strerror(failed));
    if (list->count)
        qsort(list->paths, list->count, sizeof(*list->paths), by_bytes);
    return 0;
}

/* Adds the files under one path. Depth is bounded by the length of a path name. */
static int walk(struct fs_list *list, const char *path, bool named, struct err *e)
{
    struct stat st;
    struct stat link;
    if (stat(path, &st) || lstat(path, &link))
        return err_set(e, "cannot open %s: %s", path, strerror(errno));
    if (!named && S_ISLNK(link.st_mode) && S_ISDIR(st.st_mode))
        return 0;
    if (S_ISREG(st.st_mode)) {
        list_add(list, mem_strdup(path));
        return 0;
    }
    if (!S_ISDIR(st.st_mode))
        return named ? err_set(e, "%s is neither a file nor a folder", path) : 0;
    struct fs_list names = {0};
    int failed = fs_list_folder(&names, path, e);
    for (size_t i = 0; !failed && i < names.count; i++) {
        if (names.paths[i][0] == '.')
            continue;
        char *inner = fs_join(path, "%s", names.paths[i]);
        failed = walk(list, inner, false, e);
        free(inner);
    }
    fs_list_release(&names);
    return failed;
}

int fs_list_files(struct fs_list *list, char *const *paths, size_t count, struct err *e)
{
    for (size_t i = 0; i < count; i++)
        if (walk(list, paths[i], true, e))
            return -1;
    if (list->count)
        qsort(list->paths, list->count, sizeof(*list->paths), by_bytes);
    size_t kept = 0;
    for (size_t i = 0; i < list->count; i++) {
        if (kept && !strcmp(list->paths[kept - 1], list->paths[i]))
            free(list->paths[i]);
        else
            list->paths[kept++] = list->paths[i];
    }
    list->count = kept;
    return 0;
}

bool fs_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

bool fs_is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

int fs_size(const char *path, uint64_t *bytes, struct err *e)
{
    struct stat st;
    if (stat(path, &st))
        return err_set(e, "cannot open %s: %s", path, strerror(errno));
    *bytes = (uint64_t)st.st_size;
    return 0;
}

int fs_mkdirs(const char *path, struct err *e)
{
    char *partial = mem_strdup(path);
    int failed = 0;
    for (char *p = partial + 1; !failed; p++) {
        if (*p != '/' && *p != '\0')
            continue;
        char kept = *p;
        *p = '\0';
        if (mkdir(partial, 0777) && errno != EEXIST)
            failed = err_set(e, "cannot make folder %s: %s", partial, strerror(errno));
        *p = kept;
        if (kept == '\0')
            break;
    }
    free(partial);
    if (!failed && !fs_is_folder(path))
        return err_set(e, "%s is not a folder", path);
    return failed;
}

int fs_remove_tree(const char *path, struct err *e)
{
    struct stat st;
    if (lstat(path, &st)) {
        if (errno == ENOENT)
            return 0;
        return err_set(e, "cannot open %s: %s", path, strerror(errno));
    }
    if (!S_ISDIR(st.st_mode)) {
        if (unlink(path))
            return err_set(e, "cannot remove %s: %s", path, strerror(errno));
        return 0;
    }
    struct fs_list names = {0};
    int failed = fs_list_folder(&names, path, e);
    for (size_t i = 0; !failed && i < names.count; i++) {
        char *inner = fs_join(path, "%s", names.paths[i]);
        failed = fs_remove_tree(inner, e);
        free(inner);
    }
    fs_list_release(&names);
    if (!failed && rmdir(path))
        return err_set(e, "cannot remove folder %s: %s", path, strerror(errno));
    return failed;
}

int fs_sync_folder(const char *path, struct err *e)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_set(e, "cannot open folder %s: %s", path, strerror(errno));
    int failed = fsync(fd) ? errno : 0;
    close(fd);
    if (failed)
        return err_set(e, "cannot sync folder %s: %s", path, strerror(failed));
    return 0;
}

/* The folder a path lies in; caller frees. */
static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return mem_strdup(".");
    return slash == path ? mem_strdup("/") : mem_strndup(path, (size_t)(slash - path));
}

static int rename_path(const char *from, const char *to, struct err *e)
{
    return rename(from, to) ? err_set(e, "cannot rename %s to %s: %s", from, to, strerror(errno))
                            : 0;
}

/* What fails is turned back as far as possible. */
int fs_replace_folder(const char *fresh, const char *to, const char *old, struct err *e)
{
    char *parent = folder_of(to);
    bool replaces = fs_exists(to);
    int failed = 0;
    if (replaces && !renameat2(AT_FDCWD, fresh, AT_FDCWD, to, RENAME_EXCHANGE)) {
        failed = rename_path(fresh, old, e);
        if (failed)
            renameat2(AT_FDCWD, fresh, AT_FDCWD, to, RENAME_EXCHANGE);
    } else {
        if (replaces)
            failed = rename_path(to, old, e) || fs_sync_folder(parent, e);
        if (!failed)
            failed = rename_path(fresh, to, e);
        if (failed && replaces)
            rename(old, to);
    }
    if (!failed)
        failed = fs_sync_folder(parent, e);
    struct err left; /* the new one stands; what could not be removed is only in the way */
    if (!failed && replaces && fs_remove_tree(old, &left))
        log_warn("%s", left.msg);
    free(parent);
    return failed ? -1 : 0;
}

static int write_all(int fd, const char *data, size_t len)
{
    while (len) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

int fs_copy(const char *from, const char *to, struct err *e)
{
    int in = open(from, O_RDONLY | O_CLOEXEC);
    if (in < 0)
        return err_set(e, "cannot open %s: %s", from, strerror(errno));
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (out < 0) {
        err_set(e, "cannot write %s: %s", to, strerror(errno));
        close(in);
        return -1;
    }
    char chunk[1 << 16];
    ssize_t n;
    int failed = 0;
    while (!failed && ((n = read(in, chunk, sizeof(chunk))) > 0 || (n < 0 && errno == EINTR)))
        if (n > 0 && write_all(out, chunk, (size_t)n))
            failed = err_set(e, "cannot write %s: %s", to, strerror(errno));
    if (!failed && n < 0)
        failed = err_set(e, "cannot read %s: %s", from, strerror(errno));
    if (!failed && fsync(out))
        failed = err_set(e, "cannot sync %s: %s", to, strerror(errno));
    close(in);
    if (close(out) && !failed)
        failed = err_set(e, "cannot write %s: %s", to, strerror(errno));
    return failed;
}

int fs_read(struct buf *out, const char *path, size_t limit, struct err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_set(e, "cannot open %s: %s", path, strerror(errno));
    buf_clear(out);
    int failed = 0;
    for (;;) {
        buf_reserve(out, 1 << 16);
        ssize_t n = read(fd, out->data + out->len, out->capacity - out->len - 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            failed = err_set(e, "cannot read %s: %s", path, strerror(errno));
        if (n <= 0)
            break;
        out->len += (size_t)n;
        if (out->len > limit) {
            failed = err_set(e, "%s is larger than %zu bytes", path, limit);
            break;
        }
    }
    close(fd);
    out->data[out->len] = '\0';
    return failed;
}

int fs_write(const char *path, const void *data, size_t len, struct err *e)
{
    struct buf name = {0};
    buf_printf(&name, "%s.tmp-%ld", path, (long)getpid());
    int failed = 0;
    int fd = open(name.data, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (fd < 0) {
        err_set(e, "cannot write %s: %s", path, strerror(errno));
        buf_release(&name);
        return -1;
    }
    if (write_all(fd, data, len) || fsync(fd))
        failed = err_set(e, "cannot write %s (%zu bytes): %s", path, len, strerror(errno));
    if (close(fd) && !failed)
        failed = err_set(e, "cannot write %s: %s", path, strerror(errno));
    if (!failed && rename(name.data, path))
        failed = err_set(e, "cannot rename to %s: %s", path, strerror(errno));
    if (failed)
        unlink(name.data);
    buf_release(&name);
    if (failed)
        return -1;
    char *folder = folder_of(path);
    failed = fs_sync_folder(folder, e);
    free(folder);
    return failed;
}

char *fs_join(const char *folder, const char *fmt, ...)
{
    struct buf path = {0};
    buf_puts(&path, folder);
    while (path.len > 1 && path.data[path.len - 1] == '/')
        path.len--;
    if (path.len && path.data[path.len - 1] != '/')
        buf_putc(&path, '/');
    va_list ap;
    va_start(ap, fmt);
    int len = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    MW_ASSERT(len >= 0);
    buf_reserve(&path, (size_t)len);
    va_start(ap, fmt);
    vsnprintf(path.data + path.len, (size_t)len + 1, fmt, ap);
    va_end(ap);
    return path.data;
}

const char *fs_base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}
