/* Owns the text of manifest.json: printing it and reading it back strictly. */
#include "checkpoints/manifest.h"

#include "common/fs.h"
#include "common/hash.h"
#include "common/json.h"
#include "common/seal.h"

#include <string.h>

#define MANIFEST_FORMAT  "mundwerk-checkpoint"
#define MANIFEST_VERSION 1

void manifest_add(struct manifest *m, const char *path, uint64_t bytes, uint64_t hash)
{
    m->files = mem_grow(m->files, &m->capacity, m->count + 1, sizeof(*m->files));
    m->files[m->count++] = (struct manifest_file){
        .path = mem_strdup(path), .bytes = bytes, .hash = hash};
}

const struct manifest_file *manifest_find(const struct manifest *m, const char *path)
{
    for (size_t i = 0; i < m->count; i++)
        if (!strcmp(m->files[i].path, path))
            return &m->files[i];
    return NULL;
}

void manifest_release(struct manifest *m)
{
    for (size_t i = 0; i < m->count; i++)
        free(m->files[i].path);
    free(m->files);
    memset(m, 0, sizeof(*m));
}

void manifest_print(const struct manifest *m, const char *extra, struct buf *out)
{
    size_t start = out->len;
    buf_printf(out, "{\n  \"format\": \"%s\",\n  \"version\": %d,\n  \"step\": %llu,\n",
               MANIFEST_FORMAT, MANIFEST_VERSION, (unsigned long long)m->step);
    if (extra && *extra)
        buf_printf(out, "  %s,\n", extra);
    buf_puts(out, "  \"files\": [\n");
    for (size_t i = 0; i < m->count; i++) {
        buf_puts(out, "    {\"path\": ");
        json_put_cstring(out, m->files[i].path);
        buf_printf(out, ", \"bytes\": %llu, \"xxh3_64\": \"%016llx\"}%s\n",
                   (unsigned long long)m->files[i].bytes, (unsigned long long)m->files[i].hash,
                   i + 1 < m->count ? "," : "");
    }
    buf_puts(out, "  ],\n");
    seal_put(out, start);
}

/* A name that cannot lead out of the snapshot. */
static bool path_stays_inside(const char *path)
{
    if (!*path || strlen(path) > 255)
        return false;
    for (const char *p = path;; p++) {
        size_t part = strcspn(p, "/");
        if (part == 0 || (part == 1 && p[0] == '.') || (part == 2 && p[0] == '.' && p[1] == '.'))
            return false;
        p += part;
        if (!*p)
            return true;
    }
}

static int parse_file(struct json *j, struct manifest *m)
{
    struct buf path = {0}, hex = {0};
    uint64_t seen = 0, bytes = 0, hash = 0;
    char key[32];
    int r = json_object(j);
    while (!r && (r = json_next_key(j, key, sizeof(key))) > 0) {
        if (!strcmp(key, "path"))
            r = json_seen(j, &seen, 0) || json_string(j, &path);
        else if (!strcmp(key, "bytes"))
            r = json_seen(j, &seen, 1) || json_u64(j, &bytes);
        else if (!strcmp(key, "xxh3_64"))
            r = json_seen(j, &seen, 2) || json_string(j, &hex) ||
                (hash_parse(hex.data, hex.len, &hash) && json_fail(j, "not 16 hex digits"));
        else
            r = json_fail(j, "unknown key");
    }
    if (!r && seen != 7)
        r = json_fail(j, "file lacks path, bytes or xxh3_64");
    if (!r && (strlen(path.data) != path.len || !path_stays_inside(path.data)))
        r = json_fail(j, "path leads out of the snapshot");
    if (!r && manifest_find(m, path.data))
        r = json_fail(j, "file is named twice");
    if (!r)
        manifest_add(m, path.data, bytes, hash);
    buf_release(&path);
    buf_release(&hex);
    return r ? -1 : 0;
}

static int parse_files(struct json *j, struct manifest *m)
{
    int r = json_array(j);
    while (!r && (r = json_next(j)) > 0)
        r = m->count < MANIFEST_FILES_MAX ? parse_file(j, m) : json_fail(j, "too many files");
    return r;
}

static int parse_member(struct json *j, const char *key, struct manifest *m, uint64_t *seen)
{
    struct buf text = {0};
    uint64_t version = 0;
    int r;
    if (!strcmp(key, "format")) {
        r = json_seen(j, seen, 0) || json_string(j, &text);
        if (!r && strcmp(text.data, MANIFEST_FORMAT))
            r = json_fail(j, "format is not \"" MANIFEST_FORMAT "\"");
    } else if (!strcmp(key, "version")) {
        r = json_seen(j, seen, 1) || json_u64(j, &version);
        if (!r && version != MANIFEST_VERSION)
            r = json_fail(j, "version is not one this program reads (1)");
    } else if (!strcmp(key, "step")) {
        r = json_seen(j, seen, 2) || json_u64(j, &m->step);
    } else if (!strcmp(key, "files")) {
        r = json_seen(j, seen, 3) || parse_files(j, m);
    } else {
        r = json_skip(j);
    }
    buf_release(&text);
    return r ? -1 : 0;
}

int manifest_parse(struct manifest *m, const char *path, const char *text, size_t len,
                   struct err *e)
{
    struct json j;
    char key[64];
    uint64_t seen = 0;
    memset(m, 0, sizeof(*m));
    if (!seal_holds(text, len))
        return err_set(e, "%s is damaged: its last line does not fit the lines before", path);
    json_open(&j, text, len);
    int r = json_object(&j);
    while (!r && (r = json_next_key(&j, key, sizeof(key))) > 0)
        r = parse_member(&j, key, m, &seen);
    if (!r)
        r = json_end(&j);
    if (!r && seen != 15)
        r = json_fail(&j, "needs format, version, step and files");
    if (!r)
        return 0;
    manifest_release(m);
    return json_report(&j, path, e);
}

int manifest_read(struct manifest *m, const char *path, struct err *e)
{
    struct buf text = {0};
    memset(m, 0, sizeof(*m));
    int r = fs_read(&text, path, MANIFEST_BYTES_MAX, e);
    if (!r)
        r = manifest_parse(m, path, text.data, text.len, e);
    buf_release(&text);
    return r;
}
