/*
 * Continuations of fixed prompts; see samples.h.
 */
#include "eval/samples.h"

#include "common/rng.h"
#include "common/utf8.h"
#include "eval/choose.h"

#include <stdlib.h>
#include <string.h>

/* News, story, encyclopedia, letter, instruction, dialogue, list, reasoning. */
const char *const samples_prompts[SAMPLES_PROMPTS] = {
    "Der Bundestag hat am Donnerstag",
    "Es war einmal eine alte Frau, die lebte",
    "Die Elbe ist ein Fluss in",
    "Sehr geehrte Damen und Herren,",
    "Um ein Programm zu installieren, müssen Sie",
    "»Wohin gehst du?«, fragte er.",
    "Für den Kuchen brauchen wir Mehl,",
    "Wenn es morgen regnet,",
};

const char *sample_mode_name(enum sample_mode mode)
{
    return mode == SAMPLE_GREEDY ? "greedy" : "sampled";
}

const struct sampler *sample_sampler(enum sample_mode mode)
{
    static const struct sampler samplers[SAMPLE_MODES] = {
        [SAMPLE_GREEDY] = {.temperature = 0},
        [SAMPLE_SAMPLED] = {.temperature = CHOOSE_TEMPERATURE, .top_nsigma = CHOOSE_TOP_NSIGMA},
    };
    return &samplers[mode];
}

void samples_clean(struct buf *out, const char *bytes, size_t len)
{
    len = utf8_complete_prefix(bytes, len);
    while (len > 0) {
        size_t good = utf8_invalid_at(bytes, len);
        buf_add(out, bytes, good);
        if (good == len)
            return;
        buf_puts(out, "\xEF\xBF\xBD");
        bytes += good + 1;
        len -= good + 1;
    }
}

/* What one run over the prompts needs. */
struct sampling {
    const struct model *model;
    const struct tokenizer *tokenizer;
    const struct samples_options *options;
    struct encoder *encoder;
    struct generator *generator;
    struct candidate *scratch; /* (V) */
    struct ids ids;            /* of the prompt, then of the continuation */
    struct buf bytes;
};

/* Continues one prompt into s->text. */
static int continue_prompt(struct sampling *g, struct sample *s, struct err *e)
{
    int64_t context = g->model->config.max_position_embeddings;
    struct rng rng;
    g->ids.count = 0;
    if (encoder_encode(g->encoder, s->prompt, strlen(s->prompt), ENCODE_BOS, &g->ids, e))
        return -1;
    if ((int64_t)g->ids.count >= context) { /* a toy: half its context for the prompt's end */
        size_t kept = (size_t)context / 2;
        memmove(g->ids.v, g->ids.v + g->ids.count - kept, kept * sizeof(*g->ids.v));
        g->ids.v[0] = TOKEN_BOS;
        g->ids.count = kept;
    }
    rng_init(&rng, s->seed, (uint64_t)(s->mode + 1));
    generator_reset(g->generator);
    float *logits = generator_feed(g->generator, g->ids.v, g->ids.count);
    g->ids.count = 0;
    while (logits && (int64_t)s->tokens < g->options->max_tokens) {
        uint32_t id;
        if (choose_token(&id, logits, g->model->config.vocab_size, g->tokenizer,
                         sample_sampler(s->mode), g->scratch, &rng, e))
            return -1;
        s->ended = id == TOKEN_EOS;
        if (s->ended)
            break;
        ids_add(&g->ids, id);
        s->tokens++;
        logits = generator_feed(g->generator, &id, 1); /* NULL when the context is full */
    }
    buf_clear(&g->bytes);
    if (tokenizer_decode(g->tokenizer, g->ids.v, g->ids.count, true, &g->bytes, e))
        return -1;
    samples_clean(&s->text, g->bytes.data, g->bytes.len);
    return 0;
}

static int run_all(struct sampling *g, struct sample *out, struct progress *p, struct err *e)
{
    uint64_t done = p ? p->done : 0;
    for (int i = 0; i < SAMPLES_PROMPTS * SAMPLE_MODES; i++) {
        out[i].prompt = samples_prompts[i / SAMPLE_MODES];
        out[i].mode = (enum sample_mode)(i % SAMPLE_MODES);
        out[i].seed = out[i].mode == SAMPLE_GREEDY ? 0 : g->options->seed;
        if (continue_prompt(g, &out[i], e))
            return -1;
        if (p)
            progress_update(p, ++done, NULL);
    }
    return 0;
}

int samples_run(struct sample *out, const struct model *m, const struct tokenizer *t,
                const struct samples_options *o, struct progress *p, struct err *e)
{
    struct sampling g = {.model = m, .tokenizer = t, .options = o};
    memset(out, 0, SAMPLES_PROMPTS * SAMPLE_MODES * sizeof(*out));
    if (generator_init(&g.generator, m, m->config.max_position_embeddings, o->precision, e))
        return -1;
    g.encoder = encoder_new(t);
    g.scratch = mem_alloc((size_t)m->config.vocab_size * sizeof(*g.scratch));
    int r = run_all(&g, out, p, e);
    if (r)
        samples_release(out);
    generator_free(g.generator);
    encoder_free(g.encoder);
    free(g.scratch);
    ids_release(&g.ids);
    buf_release(&g.bytes);
    return r;
}

void samples_release(struct sample *samples)
{
    for (int i = 0; i < SAMPLES_PROMPTS * SAMPLE_MODES; i++)
        buf_release(&samples[i].text);
}
