/* Owns the contents of trainer/ in a snapshot, and the comparison with what a run goes on with. */
#include "train/snapshot.h"

#include "checkpoints/checkpoint.h"
#include "common/cpu.h"
#include "common/fs.h"
#include "common/json.h"
#include "common/log.h"
#include "tokenizer/tokenizer.h"

#include <inttypes.h>
#include <string.h>

enum { STATE_FORMAT = 1, STATE_BYTES_MAX = 1 << 20 };

/* --- saving ----------------------------------------------------------------- */

/* The parts of the optimiser that make up the state, and how their tensors are called. */
static const char *const parts[] = {
    [OPTIMIZER_MASTER] = "weight", [OPTIMIZER_MEAN] = "exp_avg", [OPTIMIZER_SQUARE] = "exp_avg_sq"};
enum { PART_COUNT = 3 };

/* Tensors of the state are numbered through: part by part, the model's tensors in each. Those the
 * optimiser does not keep are not saved. */
static bool is_kept(const struct trainer *t, size_t index)
{
    const size_t tensors = t->model.tensor_count;
    return optimizer_keeps(&t->optimizer, (enum optimizer_part)(index / tensors), index % tensors);
}

static void get_rows(const void *trainer, size_t index, int64_t row, int64_t count, float *rows)
{
    const struct trainer *t = trainer;
    const size_t tensors = t->model.tensor_count;
    optimizer_get(&t->optimizer, (enum optimizer_part)(index / tensors), index % tensors, row,
                  count, rows);
}

static void put_rows(void *trainer, size_t index, int64_t row, int64_t count, const float *rows)
{
    struct trainer *t = trainer;
    const size_t tensors = t->model.tensor_count;
    optimizer_put(&t->optimizer, (enum optimizer_part)(index / tensors), index % tensors, row,
                  count, rows);
}

static struct tensor describe(const struct trainer *t, size_t index, const char *name,
                              enum tensor_dtype dtype)
{
    const struct model_tensor *p = &t->model.tensors[index % t->model.tensor_count];
    struct tensor out = {
        .name = name,
        .dtype = dtype,
        .rank = p->is_norm ? 1 : 2,
        .shape = {p->rows, p->cols},
        .get = get_rows,
        .owner = t,
        .index = index,
    };
    if (p->is_norm)
        out.shape[0] = p->cols;
    return out;
}

static void put_hex(struct buf *out, const char *key, uint64_t x)
{
    buf_printf(out, "  \"%s\": \"%016" PRIx64 "\",\n", key, x);
}

static void put_u64(struct buf *out, const char *key, uint64_t x)
{
    buf_printf(out, "  \"%s\": %" PRIu64 ",\n", key, x);
}

static void put_state(const struct trainer *t, const struct record *r,
                      const struct snapshot_source *src, struct buf *out)
{
    buf_puts(out, "{\n");
    put_u64(out, "format", STATE_FORMAT);
    put_u64(out, "step", t->step);
    put_u64(out, "updates", t->updates);
    put_u64(out, "tokens", t->tokens);
    put_u64(out, "position", t->loader.position);
    put_u64(out, "skipped", t->skipped);
    put_u64(out, "skipped_row", t->skipped_row);
    put_hex(out, "data", src->data_fingerprint);
    put_hex(out, "tokenizer", src->tokenizer_hash);
    buf_printf(out, "  \"cpu_level\": \"%s\",\n", cpu_level_name(kernels_level()));
    buf_puts(out, "  \"config\": {");
    settings_put_identity(t->settings, out);
    buf_puts(out, "},\n");
    put_u64(out, "metrics_bytes", r->metrics.bytes);
    put_u64(out, "data_log_bytes", r->data.bytes);
    put_u64(out, "events_bytes", r->events.bytes);
    buf_puts(out, "  \"seconds\": ");
    json_put_f64(out, t->seconds);
    buf_puts(out, "\n}\n");
}

static void put_generation_config(struct buf *out)
{
    buf_printf(out,
               "{\n  \"bos_token_id\": %d,\n  \"eos_token_id\": %d,\n  \"pad_token_id\": %d\n}\n",
               TOKEN_BOS, TOKEN_EOS, TOKEN_PAD);
}

static void put_name(struct snapshot_name *out, int part, const struct model_tensor *p)
{
    snprintf(out->text, sizeof(out->text), "%s.%s", parts[part], p->name);
}

static void add_state(struct snapshot *s, const struct trainer *t, size_t index)
{
    const size_t count = t->model.tensor_count, at = s->state_count++;
    const int part = (int)(index / count);
    bool bf16 = optimizer_in_bf16(&t->optimizer, (enum optimizer_part)part, index % count);
    put_name(&s->names[at], part, &t->model.tensors[index % count]);
    s->state[at] = describe(t, index, s->names[at].text, bf16 ? TENSOR_BF16 : TENSOR_F32);
    s->bytes += tensor_bytes(&s->state[at]);
}

static void describe_all(struct snapshot *s, const struct trainer *t)
{
    const struct model *m = &t->model;
    const size_t count = m->tensor_count;
    s->weight_count = count;
    s->weights = mem_zalloc(count, sizeof(*s->weights));
    s->state = mem_zalloc(PART_COUNT * count, sizeof(*s->state));
    s->names = mem_zalloc(PART_COUNT * count, sizeof(*s->names));
    for (size_t i = 0; i < s->weight_count; i++) {
        s->weights[i] = describe(t, i, m->tensors[i].name, TENSOR_BF16);
        s->bytes += tensor_bytes(&s->weights[i]);
    }
    for (size_t i = 0; i < PART_COUNT * count; i++)
        if (is_kept(t, i))
            add_state(s, t, i);
}

void snapshot_take(struct snapshot *s, const struct trainer *t, const struct record *r,
                   const struct snapshot_source *src)
{
    *s = (struct snapshot){.step = t->step, .source = src};
    describe_all(s, t);
    model_config_put_json(&t->model.config, &s->config);
    put_generation_config(&s->generation);
    put_state(t, r, src, &s->progress);
    buf_printf(&s->manifest, "\"tokenizer\": \"%016" PRIx64 "\", \"data\": \"%016" PRIx64 "\"",
               src->tokenizer_hash, src->data_fingerprint);
}

void snapshot_release(struct snapshot *s)
{
    buf_release(&s->config);
    buf_release(&s->generation);
    buf_release(&s->progress);
    buf_release(&s->manifest);
    free(s->weights);
    free(s->state);
    free(s->names);
    *s = (struct snapshot){0};
}

int snapshot_write(const struct snapshot *s, struct err *e)
{
    const struct checkpoint_file files[] = {
        {"config.json", s->config.data, s->config.len},
        {"generation_config.json", s->generation.data, s->generation.len},
        {"trainer/state.json", s->progress.data, s->progress.len},
    };
    const struct checkpoint_content content = {
        .step = s->step,
        .files = files,
        .file_count = sizeof(files) / sizeof(*files),
        .copy_folder = s->source->tokenizer_dir,
        .weights = s->weights,
        .weight_count = s->weight_count,
        .state = s->state,
        .state_count = s->state_count,
        .manifest_extra = s->manifest.data,
    };
    return checkpoint_save(s->source->run, &content, e);
}

/* --- going on ---------------------------------------------------------------- */

/* state.json as read; `seen` collects the fields that were there. */
struct saved {
    uint64_t format, step, updates, tokens, position, skipped, skipped_row;
    uint64_t data, tokenizer;
    struct record_lengths lengths;
    double seconds;
    char cpu_level[16];
    uint64_t seen;
};

static int read_hex(struct json *j, uint64_t *out)
{
    struct buf text = {0};
    int r = json_string(j, &text);
    char *end = NULL;
    if (!r)
        *out = strtoull(text.data, &end, 16);
    if (!r && (text.len != 16 || *end))
        r = json_fail(j, "not a hash of 16 hexadecimal digits");
    buf_release(&text);
    return r;
}

static int read_word(struct json *j, char *out, size_t capacity)
{
    struct buf text = {0};
    int r = json_string(j, &text);
    if (!r)
        snprintf(out, capacity, "%s", text.data);
    buf_release(&text);
    return r;
}

/* Reads the "config" object and compares each key. A difference is put into e and returned as
 * 1; -1 is a fault of the JSON. */
static int read_identity(struct json *j, const struct settings *s, struct err *e)
{
    char key[64];
    struct buf value = {0};
    int r, differs = 0;
    if (json_object(j))
        return -1;
    while ((r = json_next_key(j, key, sizeof(key))) > 0) {
        if (json_string(j, &value))
            break;
        if (!differs && settings_same(s, key, value.data, e))
            differs = 1;
    }
    buf_release(&value);
    return r ? -1 : differs;
}

static int read_fields(struct json *j, const struct settings *s, struct saved *out, int *differs,
                       struct err *e)
{
    struct {
        const char *name;
        uint64_t *value;
    } numbers[] = {
        {"format", &out->format},
        {"step", &out->step},
        {"updates", &out->updates},
        {"tokens", &out->tokens},
        {"position", &out->position},
        {"skipped", &out->skipped},
        {"skipped_row", &out->skipped_row},
        {"metrics_bytes", &out->lengths.metrics},
        {"data_log_bytes", &out->lengths.data},
        {"events_bytes", &out->lengths.events},
    };
    enum { NUMBERS = 10, DATA = 10, TOKENIZER, CPU_LEVEL, CONFIG, SECONDS, FIELDS };
    char key[64];
    int more;
    if (json_object(j))
        return -1;
    while ((more = json_next_key(j, key, sizeof(key))) > 0) {
        unsigned field = 0;
        int r;
        while (field < NUMBERS && strcmp(key, numbers[field].name))
            field++;
        if (field < NUMBERS) {
            r = json_u64(j, numbers[field].value);
        } else if (!strcmp(key, "data")) {
            field = DATA, r = read_hex(j, &out->data);
        } else if (!strcmp(key, "tokenizer")) {
            field = TOKENIZER, r = read_hex(j, &out->tokenizer);
        } else if (!strcmp(key, "cpu_level")) {
            field = CPU_LEVEL, r = read_word(j, out->cpu_level, sizeof(out->cpu_level));
        } else if (!strcmp(key, "config")) {
            field = CONFIG, r = *differs = read_identity(j, s, e);
        } else if (!strcmp(key, "seconds")) {
            field = SECONDS, r = json_f64(j, &out->seconds);
        } else {
            r = json_fail(j, "a field this version does not know");
        }
        if (r < 0 || json_seen(j, &out->seen, field))
            return -1;
    }
    if (more < 0 || json_end(j))
        return -1;
    if (out->seen != ((uint64_t)1 << FIELDS) - 1)
        return json_fail(j, "a field is missing");
    return out->format == STATE_FORMAT ? 0 : json_fail(j, "written by another version");
}

static int read_state(const char *folder, const struct settings *s, struct saved *out,
                      struct err *e)
{
    char *path = fs_join(folder, "trainer/state.json");
    struct buf text = {0};
    struct json j;
    int differs = 0;
    int r = fs_read(&text, path, STATE_BYTES_MAX, e);
    *out = (struct saved){0};
    if (!r) {
        json_open(&j, text.data, text.len);
        if (read_fields(&j, s, out, &differs, e))
            r = json_report(&j, path, e);
        else if (differs)
            r = err_add(e, "cannot go on from %s", folder);
    }
    buf_release(&text);
    free(path);
    return r;
}

static int check_fingerprints(const char *folder, const struct saved *at,
                              const struct snapshot_source *src, struct err *e)
{
    if (at->tokenizer != src->tokenizer_hash)
        return err_set(e,
                       "cannot go on from %s: it was made with another tokenizer (%016" PRIx64
                       ", this is %016" PRIx64 ")",
                       folder, at->tokenizer, src->tokenizer_hash);
    if (at->data != src->data_fingerprint)
        return err_set(e,
                       "cannot go on from %s: it was made with other training data (%016" PRIx64
                       ", this is %016" PRIx64 ")",
                       folder, at->data, src->data_fingerprint);
    if (strcmp(at->cpu_level, cpu_level_name(kernels_level())))
        log_warn("%s was made at CPU level %s, this is %s: the bits will differ from an "
                 "undisturbed run's",
                 folder, at->cpu_level, cpu_level_name(kernels_level()));
    return 0;
}

static int load_tensors(struct trainer *t, const char *folder, struct err *e)
{
    char *path = fs_join(folder, "trainer/state.safetensors");
    struct safetensors file;
    int r = safetensors_open(&file, path, e);
    const size_t count = t->model.tensor_count;
    free(path);
    if (r)
        return -1;
    for (size_t i = 0; i < PART_COUNT * count && !r; i++) {
        const struct model_tensor *p = &t->model.tensors[i % count];
        struct snapshot_name name;
        if (!is_kept(t, i))
            continue;
        put_name(&name, (int)(i / count), p);
        r = safetensors_stream_f32(&file, name.text, p->rows, p->cols, put_rows, t, i, e);
    }
    safetensors_close(&file);
    return r;
}

static int restore_from(struct trainer *t, const char *folder, const struct snapshot_source *src,
                        struct record_lengths *lengths, struct err *e)
{
    struct saved at;
    if (read_state(folder, t->settings, &at, e) || check_fingerprints(folder, &at, src, e) ||
        load_tensors(t, folder, e))
        return -1;
    t->step = at.step;
    t->updates = at.updates;
    t->tokens = at.tokens;
    t->loader.position = at.position;
    t->skipped = at.skipped;
    t->skipped_row = at.skipped_row;
    t->seconds = at.seconds;
    *lengths = at.lengths;
    optimizer_pack(&t->optimizer);
    return 1;
}

int snapshot_restore(struct trainer *t, const struct snapshot_source *src,
                     struct record_lengths *lengths, struct err *e)
{
    char *folder = NULL;
    uint64_t step;
    int found = checkpoint_latest(src->run, &folder, &step, e);
    *lengths = (struct record_lengths){0};
    if (found > 0)
        found = restore_from(t, folder, src, lengths, e);
    free(folder);
    return found;
}
