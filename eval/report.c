/*
 * Owns what stands on the page and in which order. Numbers come from files that
 * other commands wrote; nothing is measured here.
 */
#include "eval/report.h"

#include "checkpoints/checkpoint.h"
#include "common/config.h"
#include "common/fs.h"
#include "common/log.h"
#include "data/ledger.h"
#include "eval/chart.h"
#include "eval/report_data.h"
#include "eval/report_page.h"
#include "model/model.h"
#include "tokenizer/shard.h"
#include "tokenizer/tokenizer.h"

#include <math.h>
#include <string.h>

enum {
    CURVE_POINTS = 700,   /* of the loss curve: about one a pixel */
    SAMPLE_COLUMNS = 6,   /* snapshots shown side by side */
    TEXT_LIMIT = 4 << 20, /* of config.yaml and build.txt */
    TASKS_MAX = CHART_SERIES_MAX
};

#define SMOOTHING 0.03 /* half-life of the smoothed loss, as a share of the steps so far */

/* Everything the page is made of. */
struct report {
    const struct report_options *options;
    const char *name; /* last part of the run's path */
    struct results metrics, bpb, tasks, samples;
    struct buf config, build, data_prefix;
    struct model_config model;
    bool has_model;
    struct shard train, valid;
    bool has_train, has_valid;
    struct tokenizer *tokenizer;
    struct ledger ledger;
    bool has_ledger;
};

/* --- gathering -------------------------------------------------------------- */

static void read_text(struct buf *out, const char *run, const char *name)
{
    struct err ignored; /* an absent file is a section less */
    char *path = fs_join(run, "%s", name);
    if (fs_read(out, path, TEXT_LIMIT, &ignored))
        buf_clear(out);
    free(path);
}

/* The newest snapshot folder of the run; caller frees, NULL if there is none. */
static char *newest_snapshot(const char *run)
{
    struct err why;
    struct checkpoint_list list;
    char *newest = NULL;
    if (checkpoint_find(&list, run, &why))
        log_warn("%s", why.msg);
    else if (list.count)
        newest = mem_strdup(list.entries[list.count - 1].path); /* by step, oldest first */
    checkpoint_list_release(&list);
    return newest;
}

static void read_model(struct report *r, const char *snapshot)
{
    struct err why;
    char *path = fs_join(snapshot, "config.json");
    r->has_model = !model_config_read_json(&r->model, path, &why);
    if (!r->has_model)
        log_warn("%s", why.msg);
    free(path);
    if (tokenizer_load(&r->tokenizer, snapshot, &why)) {
        log_warn("%s", why.msg);
        r->tokenizer = NULL;
    }
}

static bool open_shard(struct shard *s, const char *prefix, const char *suffix)
{
    struct err why;
    char whole[4096];
    snprintf(whole, sizeof(whole), "%s%s", prefix, suffix);
    if (!shard_exists(whole))
        return false;
    if (!shard_open(s, whole, &why))
        return true;
    log_warn("%s", why.msg);
    return false;
}

/* The ledger lies in the folder that was named, or beside the shards, or in `corpus` next to
 * their folder, which is where the README and the quickstart put it. */
static void find_ledger(struct report *r)
{
    struct err why;
    char *tries[3] = {NULL};
    if (r->options->corpus) {
        tries[0] = fs_join(r->options->corpus, "ledger.json");
    } else if (r->data_prefix.len) {
        const char *slash = strrchr(r->data_prefix.data, '/');
        char *folder = slash
                           ? mem_strndup(r->data_prefix.data, (size_t)(slash - r->data_prefix.data))
                           : mem_strdup(".");
        tries[0] = fs_join(folder, "ledger.json");
        tries[1] = fs_join(folder, "corpus/ledger.json");
        tries[2] = fs_join(folder, "../corpus/ledger.json");
        free(folder);
    }
    for (int i = 0; i < 3; i++) {
        if (tries[i] && !r->has_ledger && fs_exists(tries[i])) {
            r->has_ledger = !ledger_read(&r->ledger, tries[i], &why) &&
                            !ledger_check(&r->ledger, &why);
            if (!r->has_ledger)
                log_warn("%s: %s", tries[i], why.msg);
        }
        free(tries[i]);
    }
}

static int gather(struct report *r, struct err *e)
{
    const char *run = r->options->run;
    if (!fs_is_folder(run))
        return err_set(e, "there is no run folder %s", run);
    struct {
        struct results *to;
        const char *name;
    } files[] = {{&r->metrics, "metrics.jsonl"},
                 {&r->bpb, "eval/bpb.jsonl"},
                 {&r->tasks, "eval/tasks.jsonl"},
                 {&r->samples, "eval/samples.jsonl"}};
    for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
        char *path = fs_join(run, "%s", files[i].name);
        int failed = results_read(files[i].to, path, e);
        if (!failed && files[i].to->bad_lines)
            log_warn("%s: %zu damaged lines left out", path, files[i].to->bad_lines);
        free(path);
        if (failed)
            return -1;
    }
    read_text(&r->config, run, "config.yaml");
    read_text(&r->build, run, "build.txt");
    char *snapshot = newest_snapshot(run);
    if (snapshot)
        read_model(r, snapshot);
    free(snapshot);
    if (!r->metrics.count && !snapshot && !r->bpb.count)
        return err_set(e, "%s holds neither metrics.jsonl nor checkpoints/: it is not a run folder",
                       run);
    if (r->options->data) {
        buf_puts(&r->data_prefix, r->options->data);
    } else {
        struct err ignored;
        char *path = fs_join(run, "config.yaml");
        if (config_peek(path, "data.prefix", &r->data_prefix, &ignored) != 1)
            buf_clear(&r->data_prefix);
        free(path);
    }
    if (r->data_prefix.len) {
        r->has_train = open_shard(&r->train, r->data_prefix.data, "");
        r->has_valid = open_shard(&r->valid, r->data_prefix.data, ".valid");
    }
    find_ledger(r);
    return 0;
}

static void report_release(struct report *r)
{
    results_release(&r->metrics);
    results_release(&r->bpb);
    results_release(&r->tasks);
    results_release(&r->samples);
    buf_release(&r->config);
    buf_release(&r->build);
    buf_release(&r->data_prefix);
    if (r->has_train)
        shard_close(&r->train);
    if (r->has_valid)
        shard_close(&r->valid);
    tokenizer_free(r->tokenizer);
    ledger_release(&r->ledger);
}

/* --- curves ----------------------------------------------------------------- */

/* Smoothed by an exponential mean that is corrected for its start (as Adam's moments are). Its
 * half-life grows with the steps, so that it looks the same everywhere on a logarithmic axis. */
static void smooth(const struct results *m, double *out)
{
    double mean = 0, weight = 0;
    for (size_t i = 0; i < m->count; i++) {
        double keep = exp2(-1 / fmax(1, SMOOTHING * (double)i));
        if (isfinite(m->v[i].loss)) {
            mean = keep * mean + (1 - keep) * m->v[i].loss;
            weight = keep * weight + (1 - keep);
        }
        out[i] = weight > 0 ? mean / weight : NAN;
    }
}

/* Points at most one a pixel of the logarithmic axis, the mean of what falls into one. */
static size_t thin(const struct results *m, const double *values, struct chart_point *out)
{
    size_t count = 0, inside = 0;
    double first = 0, last_x = m->count ? m->v[m->count - 1].tokens : 0, sum = 0, sum_x = 0;
    long bin_now = -1;
    for (size_t i = 0; i < m->count; i++) {
        double x = m->v[i].tokens;
        if (!(x > 0) || !isfinite(values[i]))
            continue;
        if (first == 0)
            first = x;
        double share = last_x > first ? log(x / first) / log(last_x / first) : 0;
        long bin = (long)(share * (CURVE_POINTS - 1));
        if (bin != bin_now && inside) {
            out[count++] = (struct chart_point){.x = sum_x / (double)inside,
                                                .y = sum / (double)inside};
            inside = 0;
            sum = sum_x = 0;
        }
        bin_now = bin;
        inside++;
        sum += values[i];
        sum_x += x;
    }
    if (inside)
        out[count++] = (struct chart_point){.x = sum_x / (double)inside, .y = sum / (double)inside};
    return count;
}

static void put_loss(struct buf *out, const struct report *r)
{
    const struct results *m = &r->metrics;
    double *raw = mem_zalloc(m->count, sizeof(*raw));
    double *smoothed = mem_zalloc(m->count, sizeof(*smoothed));
    struct chart_point *points[3];
    for (int i = 0; i < 2; i++)
        points[i] = mem_zalloc(CURVE_POINTS + 1, sizeof(**points));
    points[2] = mem_zalloc(m->count, sizeof(**points));
    size_t valid = 0;
    for (size_t i = 0; i < m->count; i++) {
        raw[i] = m->v[i].loss;
        if (isfinite(m->v[i].valid_loss))
            points[2][valid++] = (struct chart_point){.x = m->v[i].tokens, .y = m->v[i].valid_loss};
    }
    smooth(m, smoothed);
    struct chart_series series[3] = {
        {.name = "smoothed", .points = points[0], .count = thin(m, smoothed, points[0])},
        {.name = "each step", .points = points[1], .faint = true, .count = thin(m, raw, points[1])},
        {.name = "held-out", .points = points[2], .count = valid, .markers = true},
    };
    struct chart chart = {.title = "Training loss",
                          .y_label = "nats per token",
                          .series = series,
                          .series_count = valid ? 3 : 2};
    chart_put(out, &chart);
    for (int i = 0; i < 3; i++)
        free(points[i]);
    free(raw);
    free(smoothed);
}

static void put_bpb(struct buf *out, const struct report *r)
{
    const struct results *b = &r->bpb;
    struct chart_point *points = mem_zalloc(b->count, sizeof(*points));
    size_t count = 0;
    for (size_t i = 0; i < b->count; i++) {
        /* Of several lines for one step the last one counts. */
        if (count && i && b->v[i].step == b->v[i - 1].step)
            count--;
        points[count++] = (struct chart_point){
            .x = b->v[i].tokens, .y = b->v[i].bits_per_byte, .stderr = b->v[i].stderr};
    }
    struct chart_series series = {
        .name = "held-out", .points = points, .count = count, .markers = true};
    struct chart chart = {.title = "Bits per byte, held-out documents (bars: ± 1 standard error)",
                          .y_label = "bits per byte",
                          .series = &series,
                          .series_count = 1};
    chart_put(out, &chart);
    free(points);
}

/* Scores of one task: the mean over seeds at each step; the bar is the standard error over
 * seeds, or over items where there is only one seed. */
static struct chart_point *task_points(const struct results *t, const char *task, size_t *count)
{
    struct chart_point *points = mem_zalloc(t->count, sizeof(*points));
    *count = 0;
    for (size_t i = 0; i < t->count;) {
        double step = t->v[i].step, tokens = 0, sum = 0, squares = 0, items = NAN;
        size_t n = 0;
        for (; i < t->count && t->v[i].step == step; i++) {
            const struct result *one = &t->v[i];
            if (!one->task || strcmp(one->task, task) != 0 || !isfinite(one->score))
                continue;
            tokens = one->tokens;
            sum += one->score;
            squares += one->score * one->score;
            items = one->stderr;
            n++;
        }
        if (!n)
            continue;
        double mean = sum / (double)n, spread = squares / (double)n - mean * mean;
        double error = n > 1 ? sqrt(fmax(0, spread) / (double)(n - 1)) : items;
        points[(*count)++] = (struct chart_point){
            .x = tokens, .y = mean, .stderr = isfinite(error) ? error : 0};
    }
    return points;
}

static size_t task_names(const struct results *t, const char *names[TASKS_MAX],
                         const char *metrics[TASKS_MAX])
{
    size_t count = 0;
    for (size_t i = 0; i < t->count; i++) {
        size_t known = 0;
        while (known < count && t->v[i].task && strcmp(names[known], t->v[i].task) != 0)
            known++;
        if (!t->v[i].task || known < count || count == TASKS_MAX)
            continue;
        names[count] = t->v[i].task;
        metrics[count++] = t->v[i].metric ? t->v[i].metric : "score";
    }
    return count;
}

static void put_tasks(struct buf *out, const struct report *r)
{
    const char *names[TASKS_MAX], *metrics[TASKS_MAX];
    size_t count = task_names(&r->tasks, names, metrics);
    if (!count) {
        buf_puts(out, "<figure><figcaption>Task scores (SuperGLEBer)</figcaption><p>No task was "
                      "run: task data is not part of this program. To get it and add the curve:</p>"
                      "<pre>git clone https://github.com/LSX-UniWue/SuperGLEBer\n"
                      "mundwerk eval run --run ");
        html_puts(out, r->options->run);
        buf_puts(out, " --tasks offensive_lang --task-data SuperGLEBer/data\n"
                      "mundwerk eval report --run ");
        html_puts(out, r->options->run);
        buf_puts(out, "</pre></figure>\n");
        return;
    }
    struct chart_series series[TASKS_MAX];
    struct chart chart = {.title = "Task scores (bars: ± 1 standard error)",
                          .y_label = metrics[0],
                          .series = series,
                          .series_count = count};
    for (size_t i = 0; i < count; i++) {
        series[i] = (struct chart_series){.name = names[i], .markers = true};
        series[i].points = task_points(&r->tasks, names[i], &series[i].count);
    }
    chart_put(out, &chart);
    for (size_t i = 0; i < count; i++)
        free(series[i].points);
}

/* One number of metrics.jsonl over tokens. */
static void put_metric(struct buf *out, const struct report *r, const char *title,
                       const char *label, const char *name, size_t offset, bool from_zero)
{
    const struct results *m = &r->metrics;
    double *values = mem_zalloc(m->count, sizeof(*values));
    struct chart_point *points = mem_zalloc(CURVE_POINTS + 1, sizeof(*points));
    for (size_t i = 0; i < m->count; i++)
        memcpy(&values[i], (const char *)&m->v[i] + offset, sizeof(*values));
    struct chart_series series = {.name = name, .points = points};
    series.count = thin(m, values, points);
    struct chart chart = {.title = title,
                          .y_label = label,
                          .series = &series,
                          .series_count = 1,
                          .y_from_zero = from_zero};
    chart_put(out, &chart);
    free(values);
    free(points);
}

static void put_curves(struct buf *out, const struct report *r)
{
    page_section(out, "curves", "Learning curves");
    buf_puts(out, "<div class=\"charts\">\n");
    put_loss(out, r);
    put_bpb(out, r);
    put_tasks(out, r);
    put_metric(out, r, "Learning rate", "learning rate", "lr", offsetof(struct result, lr), true);
    put_metric(out, r, "Gradient norm before clipping", "norm", "norm",
               offsetof(struct result, grad_norm), true);
    put_metric(out, r, "Speed", "tokens per second", "tokens/s",
               offsetof(struct result, tokens_per_s), true);
    buf_puts(out, "</div>\n");
    page_section_end(out);
}

/* --- head ------------------------------------------------------------------- */

static void put_head(struct buf *out, const struct report *r)
{
    const struct results *m = &r->metrics;
    const struct result *last = m->count ? &m->v[m->count - 1] : NULL;
    char text[64];
    buf_puts(out, "<h1>");
    html_puts(out, r->name);
    buf_puts(out, "</h1>\n<p class=\"lead\">What this model learned, and when. One page, made by "
                  "<code>mundwerk eval report</code> from the files of the run.</p>\n"
                  "<div class=\"tiles\">\n");
    if (r->has_model)
        page_tile(out, log_count((double)model_param_count(&r->model)), "parameters");
    if (last) {
        page_tile(out, log_count(last->tokens), "training tokens");
        page_tile(out, page_grouped((unsigned long long)last->step), "steps");
        double *smoothed = mem_zalloc(m->count, sizeof(*smoothed));
        smooth(m, smoothed);
        snprintf(text, sizeof(text), "%.3f", smoothed[m->count - 1]);
        free(smoothed);
        page_tile(out, text, "loss, nats per token");
    }
    if (r->bpb.count) {
        const struct result *b = &r->bpb.v[r->bpb.count - 1];
        snprintf(text, sizeof(text), "%.3f ± %.3f", b->bits_per_byte, b->stderr);
        page_tile(out, text, "bits per byte, held out");
    }
    if (last && isfinite(last->seconds)) {
        page_tile(out, log_duration(last->seconds), "of training");
        page_tile(out, log_count(last->tokens / last->seconds), "tokens per second");
    }
    buf_puts(out, "</div>\n");
}

static void put_snapshot_table(struct buf *out, const struct report *r)
{
    const struct results *b = &r->bpb;
    if (!b->count)
        return;
    buf_puts(out, "<details><summary>Bits per byte as a table</summary><table><tr><th class=\"n\">"
                  "step</th><th class=\"n\">tokens</th><th class=\"n\">bits per byte</th>"
                  "<th class=\"n\">± standard error</th><th class=\"n\">documents</th>"
                  "<th class=\"n\">bytes</th></tr>\n");
    for (size_t i = 0; i < b->count; i++) {
        const struct result *one = &b->v[i];
        buf_printf(out,
                   "<tr><td class=\"n\">%s</td><td class=\"n\">%s</td><td class=\"n\">%.4f</td>"
                   "<td class=\"n\">%.4f</td><td class=\"n\">%s</td><td class=\"n\">%s</td></tr>\n",
                   page_grouped((unsigned long long)one->step),
                   page_grouped((unsigned long long)one->tokens), one->bits_per_byte, one->stderr,
                   page_grouped((unsigned long long)(one->documents > 0 ? one->documents : 0)),
                   page_grouped((unsigned long long)(one->bytes > 0 ? one->bytes : 0)));
    }
    buf_puts(out, "</table></details>\n");
}

/* --- samples ---------------------------------------------------------------- */

/* Steps that have samples, thinned to the columns that fit: first and last always. */
static size_t sample_steps(const struct results *s, double steps[SAMPLE_COLUMNS])
{
    size_t count = 0, capacity = 0;
    double *all = NULL;
    for (size_t i = 0; i < s->count; i++)
        if (!count || all[count - 1] != s->v[i].step) {
            all = mem_grow(all, &capacity, count + 1, sizeof(*all));
            all[count++] = s->v[i].step;
        }
    size_t shown = count < SAMPLE_COLUMNS ? count : SAMPLE_COLUMNS;
    for (size_t i = 0; i < shown; i++)
        steps[i] = all[shown > 1 ? i * (count - 1) / (shown - 1) : 0];
    free(all);
    return shown;
}

static const struct result *find_sample(const struct results *s, double step,
                                        const struct result *like)
{
    const struct result *found = NULL;
    for (size_t i = 0; i < s->count; i++) {
        const struct result *one = &s->v[i];
        if (one->step == step && one->prompt && one->text && !strcmp(one->prompt, like->prompt) &&
            !strcmp(one->mode ? one->mode : "", like->mode ? like->mode : ""))
            found = one; /* the last one counts */
    }
    return found;
}

/* The first line of each prompt and mode, which gives the rows their order. */
static bool is_new_row(const struct results *s, size_t i)
{
    if (!s->v[i].prompt || !s->v[i].text)
        return false;
    for (size_t k = 0; k < i; k++)
        if (s->v[k].prompt && s->v[k].text && !strcmp(s->v[k].prompt, s->v[i].prompt) &&
            !strcmp(s->v[k].mode ? s->v[k].mode : "", s->v[i].mode ? s->v[i].mode : ""))
            return false;
    return true;
}

static bool is_greedy(const struct result *one)
{
    return one->mode && !strcmp(one->mode, "greedy");
}

static void put_sample_row(struct buf *out, const struct results *s, const struct result *first,
                           const double *steps, size_t columns)
{
    buf_puts(out, "<tr><td>");
    html_puts(out, first->prompt);
    if (first->mode) {
        buf_puts(out, "<br><span class=\"none\">");
        html_puts(out, first->mode);
        buf_puts(out, "</span>");
    }
    buf_puts(out, "</td>");
    for (size_t c = 0; c < columns; c++) {
        const struct result *one = find_sample(s, steps[c], first);
        buf_puts(out, "<td class=\"t\">");
        if (one)
            html_puts(out, one->text);
        buf_puts(out, "</td>");
    }
    buf_puts(out, "</tr>\n");
}

/* How the newest sampled text was drawn; nothing if its line does not say. */
static void put_sampler(struct buf *out, const struct results *s)
{
    for (size_t i = s->count; i-- > 0;)
        if (!is_greedy(&s->v[i]) && s->v[i].temperature > 0 && s->v[i].top_nsigma >= 0) {
            buf_printf(out, " Sampled text was drawn at temperature %g", s->v[i].temperature);
            if (s->v[i].top_nsigma > 0)
                buf_printf(out, " and top-nσ %g", s->v[i].top_nsigma);
            buf_puts(out, ", greedy text is the most probable token each time.");
            return;
        }
}

/* Sampled text comes first: the greedy text of a small model soon turns in circles. */
static void put_samples(struct buf *out, const struct report *r)
{
    const struct results *s = &r->samples;
    double steps[SAMPLE_COLUMNS];
    size_t columns = sample_steps(s, steps);
    page_section(out, "samples", "Samples");
    if (!columns) {
        buf_puts(out, "<p>No samples yet: <code>mundwerk eval run --run ");
        html_puts(out, r->options->run);
        buf_puts(out, " --tasks samples</code></p>\n");
        page_section_end(out);
        return;
    }
    buf_puts(out, "<p>The same prompts at each snapshot. What the model wrote follows the prompt "
                  "in the first column.");
    put_sampler(out, s);
    buf_puts(out, "</p>\n<div class=\"wide\"><table class=\"samples\"><tr><th>prompt</th>");
    for (size_t c = 0; c < columns; c++)
        buf_printf(out, "<th>step %s</th>", page_grouped((unsigned long long)steps[c]));
    buf_puts(out, "</tr>\n");
    for (int greedy = 0; greedy < 2; greedy++)
        for (size_t i = 0; i < s->count; i++)
            if (is_new_row(s, i) && is_greedy(&s->v[i]) == (greedy == 1))
                put_sample_row(out, s, &s->v[i], steps, columns);
    buf_puts(out, "</table></div>\n");
    page_section_end(out);
}

/* --- corpus, tokenizer, run --------------------------------------------------- */

static void put_share(struct buf *out, const char *name, uint64_t count, uint64_t whole, bool kept)
{
    double share = whole ? (double)count / (double)whole : 0;
    buf_puts(out, "<tr><td>");
    html_puts(out, name);
    buf_printf(
        out,
        "</td><td class=\"n\">%s</td><td class=\"n\">%.2f %%</td><td><span class=\"share%s\" "
        "style=\"width:%.1fpx\"></span></td></tr>\n",
        page_grouped(count), 100 * share, kept ? "" : " out", 200 * share);
}

static void put_table_head(struct buf *out, const char *what)
{
    buf_puts(out, "<table><tr><th>");
    html_puts(out, what);
    buf_puts(out, "</th><th class=\"n\">count</th><th class=\"n\">share</th><th></th></tr>\n");
}

static void put_corpus(struct buf *out, const struct report *r)
{
    page_section(out, "corpus", "Corpus ledger");
    if (!r->has_ledger) {
        buf_puts(out, "<p>No ledger.json was found; name its folder with <code>--corpus DIR"
                      "</code>.</p>\n");
        page_section_end(out);
        return;
    }
    const struct ledger *l = &r->ledger;
    const struct ledger_counts *t = &l->total;
    buf_puts(out, "<p>Every input line is accounted for: what came in is what was kept plus what "
                  "was removed, by reason.</p>\n<div class=\"two\"><div>\n");
    put_table_head(out, "documents");
    put_share(out, "read", t->lines_in, t->lines_in, true);
    put_share(out, "kept", t->kept, t->lines_in, true);
    for (int i = 0; i < REMOVAL_COUNT; i++)
        if (t->removed[i])
            put_share(out, removal_names[i], t->removed[i], t->lines_in, false);
    buf_puts(out, "</table></div><div>\n");
    put_table_head(out, "paragraphs of the documents that passed");
    put_share(out, "read", l->paragraphs_in, l->paragraphs_in, true);
    for (int i = 0; i < FATE_COUNT; i++)
        if (l->paragraphs[i])
            put_share(out, fate_names[i], l->paragraphs[i], l->paragraphs_in, i == FATE_KEPT);
    buf_puts(out, "</table></div></div>\n");
    page_facts_open(out);
    page_fact_count(out, "files", l->file_count);
    page_fact(out, "text kept", "%s in %s words", log_bytes(l->kept_bytes),
              page_grouped(l->words_kept));
    page_fact(out, "token-to-word ratio", "paragraphs above %g removed, measured by %s",
              l->ratio.max, l->ratio.tokenizer ? l->ratio.tokenizer : "nothing");
    if (l->ratio.note)
        page_fact(out, "note", "%s", l->ratio.note);
    page_facts_close(out);
    page_section_end(out);
}

static size_t token_length(const struct tokenizer *t, uint32_t id)
{
    size_t len;
    tokenizer_token(t, id, &len);
    return len;
}

/* A token as people read it: blank and newline visible, halves of characters as U+FFFD. */
static void put_token(struct buf *out, const struct tokenizer *t, uint32_t id)
{
    struct buf text = {0};
    size_t len;
    const char *bytes = tokenizer_token(t, id, &len);
    for (size_t i = 0; i < len; i++)
        if (bytes[i] == ' ')
            buf_puts(&text, "␣");
        else if (bytes[i] == '\n')
            buf_puts(&text, "↵");
        else
            buf_putc(&text, bytes[i]);
    buf_puts(out, "<code>");
    html_put(out, text.data, text.len);
    buf_puts(out, "</code>");
    buf_release(&text);
}

static void put_longest_tokens(struct buf *out, const struct tokenizer *t)
{
    enum { SHOWN = 24 };
    uint32_t longest[SHOWN + 1]; /* longest first; the last place takes the newcomer */
    size_t count = 0;
    for (uint32_t id = TOKEN_SPECIAL_COUNT; id < tokenizer_vocab_size(t); id++) {
        size_t i = count;
        for (; i && token_length(t, longest[i - 1]) < token_length(t, id); i--)
            longest[i] = longest[i - 1];
        longest[i] = id;
        count += count < SHOWN;
    }
    buf_puts(out, "<p>Its longest tokens: ");
    for (size_t i = 0; i < count; i++) {
        buf_puts(out, i ? ", " : "");
        put_token(out, t, longest[i]);
    }
    buf_puts(out, "</p>\n");
}

static void put_tokenizer(struct buf *out, const struct report *r)
{
    page_section(out, "tokenizer", "Tokenizer");
    page_facts_open(out);
    if (r->tokenizer) {
        page_fact(out, "kind", "byte-level BPE, pattern %s", tokenizer_pattern_name(r->tokenizer));
        page_fact_count(out, "vocabulary", tokenizer_vocab_size(r->tokenizer));
        page_fact(out, "hash (XXH3-64)", "%016llx",
                  (unsigned long long)tokenizer_hash(r->tokenizer));
    }
    const struct {
        const struct shard *s;
        bool there;
        const char *name;
    } parts[] = {{&r->train, r->has_train, "training"}, {&r->valid, r->has_valid, "held out"}};
    for (int i = 0; i < 2; i++) {
        if (!parts[i].there)
            continue;
        const struct shard *s = parts[i].s;
        uint64_t text_tokens = s->token_count - 2 * s->doc_count; /* without <s> and </s> */
        page_fact(out, parts[i].name, "%s documents, %s tokens, %s of text, %.3f bytes per token",
                  page_grouped(s->doc_count), page_grouped(s->token_count), log_bytes(s->bytes),
                  text_tokens ? (double)s->bytes / (double)text_tokens : 0);
    }
    page_facts_close(out);
    if (r->tokenizer)
        put_longest_tokens(out, r->tokenizer);
    page_section_end(out);
}

static void put_run(struct buf *out, const struct report *r)
{
    page_section(out, "run", "The run");
    page_facts_open(out);
    if (r->has_model) {
        const struct model_config *c = &r->model;
        page_fact_count(out, "parameters", model_param_count(c));
        page_fact(out, "shape",
                  "%lld layers, hidden size %lld, %lld heads in %lld groups, feed-forward %lld, "
                  "context %lld",
                  (long long)c->num_hidden_layers, (long long)c->hidden_size,
                  (long long)c->num_attention_heads, (long long)c->num_key_value_heads,
                  (long long)c->intermediate_size, (long long)c->max_position_embeddings);
        page_fact(out, "work", "%.1f MFLOP per training token",
                  model_train_flops(c, c->max_position_embeddings) / 1e6);
    }
    if (r->has_train && r->metrics.count)
        page_fact(out, "epochs", "%.2f",
                  r->metrics.v[r->metrics.count - 1].tokens / (double)r->train.token_count);
    page_facts_close(out);
    if (r->build.len) {
        buf_puts(out, "<details><summary>build.txt: program and machine</summary><pre>");
        html_put(out, r->build.data, r->build.len);
        buf_puts(out, "</pre></details>\n");
    }
    if (r->config.len) {
        buf_puts(out, "<details><summary>config.yaml: every setting</summary><pre>");
        html_put(out, r->config.data, r->config.len);
        buf_puts(out, "</pre></details>\n");
    }
    page_section_end(out);
}

static void put_page(struct buf *out, const struct report *r)
{
    page_open(out, r->name);
    put_head(out, r);
    put_curves(out, r);
    put_snapshot_table(out, r);
    put_samples(out, r);
    put_corpus(out, r);
    put_tokenizer(out, r);
    put_run(out, r);
    page_close(out);
}

int report_write(const struct report_options *o, struct err *e)
{
    struct report r = {.options = o};
    char *run = mem_strdup(o->run);
    for (size_t n = strlen(run); n > 1 && run[n - 1] == '/'; n--)
        run[n - 1] = '\0';
    r.name = fs_base(run);
    int failed = gather(&r, e);
    if (!failed) {
        struct buf page = {0};
        put_page(&page, &r);
        char *path = o->out ? mem_strdup(o->out) : fs_join(run, "report.html");
        failed = fs_write(path, page.data, page.len, e);
        free(path);
        buf_release(&page);
    }
    report_release(&r);
    free(run);
    return failed;
}
