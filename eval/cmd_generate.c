/*
 * The command line of generation: prompt to ids, ids one by one to text on stdout.
 *
 * A token may be part of a character, and a small model may write bytes that are
 * no character at all. What goes out is always UTF-8: an unfinished character waits
 * for its rest, an impossible byte becomes U+FFFD.
 */
#include "eval/cmd_generate.h"

#include "common/config.h"
#include "common/log.h"
#include "common/threads.h"
#include "common/utf8.h"
#include "eval/choose.h"
#include "eval/load.h"
#include "model/generate.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const char name[] = "mundwerk generate";

struct options {
    char *checkpoint;
    int64_t max_tokens, top_k, seed, threads;
    double temperature, top_p, min_p, top_nsigma;
    bool greedy, echo;
    int precision; /* enum kernel_precision */
};

/* A constant as the text of a default. */
#define NUMBER_TEXT(x) #x
#define NUMBER(x)      NUMBER_TEXT(x)

static const struct config_row rows[] = {
    CONFIG_STR(struct options, checkpoint, "checkpoint", NULL, "DIR",
               "Hugging Face folder of a Llama, e.g. runs/NAME/checkpoints/step-0001000"),
    CONFIG_I64(struct options, max_tokens, "max-tokens", "200", 1, 1 << 24,
               "tokens to write at most; fewer if the model ends the text with </s>"),
    CONFIG_F64(struct options, temperature, "temperature", NUMBER(CHOOSE_TEMPERATURE), 0, 1000,
               "logits are divided by it; 0 = the most probable token each time"),
    CONFIG_BOOL(struct options, greedy, "greedy", "false", "the same as --temperature 0"),
    CONFIG_F64(struct options, top_nsigma, "top-nsigma", NUMBER(CHOOSE_TOP_NSIGMA), 0, 1000,
               "keep logits within so many standard deviations of the largest; 0 = off"),
    CONFIG_I64(struct options, top_k, "top-k", "0", 0, 1 << 24,
               "keep so many of the most probable tokens; 0 = off"),
    CONFIG_F64(struct options, top_p, "top-p", "0", 0, 1,
               "keep the smallest set of at least this probability; 0 = off"),
    CONFIG_F64(struct options, min_p, "min-p", "0", 0, 1,
               "keep tokens of at least this share of the largest probability; 0 = off"),
    CONFIG_I64(struct options, seed, "seed", "1", 0, INT64_MAX / 2,
               "the same seed gives the same text"),
    CONFIG_BOOL(struct options, echo, "echo", "true", "print the prompt before its continuation"),
    CONFIG_ENUM(struct options, precision, "precision", "fp32", "fp32|bf16",
                "of the operands of matrix products"),
    CONFIG_I64(struct options, threads, "threads", "0", 0, 4096, "threads to use; 0 = all CPUs"),
    CONFIG_END,
};

static const struct config_usage usage = {
    name,
    "--checkpoint DIR [options] PROMPT",
    "Continues PROMPT with the model of a checkpoint folder and prints the text as it is written.\n"
    "Filters apply to the logits in this order: top-nsigma, top-k, then temperature, top-p, min-p.",
    "mundwerk generate --checkpoint runs/german-mini/checkpoints/step-0001000 \"Der Sinn des\"\n"
    "mundwerk generate --checkpoint DIR --greedy --max-tokens 40 \"Die Hauptstadt von Bayern "
    "ist\"\n"
    "mundwerk generate --checkpoint DIR --temperature 0.8 --top-nsigma 0 --top-p 0.95 --seed 7 "
    "\"Es war einmal\"",
};

/* --- text out ------------------------------------------------------------------ */

/* Bytes at s that one U+FFFD stands for: the longest beginning of a character, or one byte, as
 * Unicode (chapter 3.9) recommends and other decoders do. */
static size_t broken_length(const char *s, size_t len)
{
    size_t n = 1;
    while (n < 3 && n < len && utf8_complete_prefix(s, n + 1) == 0)
        n++;
    return n;
}

/* Prints the bytes of b that are decided and removes them; at the end all are. */
static int print_text(struct buf *b, bool at_end, struct err *e)
{
    if (!b->len) /* a special token has no text */
        return 0;
    size_t ready = at_end ? b->len : utf8_complete_prefix(b->data, b->len), at = 0;
    while (at < ready) {
        size_t good = utf8_invalid_at(b->data + at, ready - at);
        fwrite(b->data + at, 1, good, stdout);
        at += good;
        if (at < ready) {
            fputs("\xEF\xBF\xBD", stdout); /* U+FFFD */
            at += broken_length(b->data + at, ready - at);
        }
    }
    memmove(b->data, b->data + ready, b->len - ready + 1);
    b->len -= ready;
    if (fflush(stdout) || ferror(stdout))
        return err_set(e, "cannot write the text: %s", strerror(errno));
    return 0;
}

/* --- the loop -------------------------------------------------------------------- */

/* Everything between the prompt and the last token. */
struct generation {
    const struct loaded *loaded;
    struct sampler sampler;
    struct rng rng;
    struct generator *generator;
    struct candidate *candidates; /* (V) */
    struct ids prompt;
    struct buf text; /* not yet printed */
};

static void generation_release(struct generation *g)
{
    generator_free(g->generator);
    free(g->candidates);
    ids_release(&g->prompt);
    buf_release(&g->text);
}

static int encode_prompt(struct generation *g, const char *prompt, struct err *e)
{
    struct encoder *enc = encoder_new(g->loaded->tokenizer);
    int rc = encoder_encode(enc, prompt, strlen(prompt), ENCODE_BOS, &g->prompt, e);
    encoder_free(enc);
    int64_t limit = g->loaded->model.config.max_position_embeddings;
    if (!rc && (int64_t)g->prompt.count > limit)
        rc = err_set(e,
                     "the prompt has %zu tokens with <s>, but the model sees at most %lld; "
                     "shorten it",
                     g->prompt.count, (long long)limit);
    return rc;
}

static int generation_init(struct generation *g, const struct loaded *loaded,
                           const struct options *o, const char *prompt, struct err *e)
{
    const struct model_config *c = &loaded->model.config;
    g->loaded = loaded;
    g->sampler = (struct sampler){.temperature = o->greedy ? 0 : o->temperature,
                                  .top_k = o->top_k,
                                  .top_p = o->top_p,
                                  .min_p = o->min_p,
                                  .top_nsigma = o->top_nsigma};
    rng_init(&g->rng, (uint64_t)o->seed, 0);
    if (encode_prompt(g, prompt, e))
        return -1;
    int64_t context = (int64_t)g->prompt.count + o->max_tokens;
    if (context > c->max_position_embeddings)
        context = c->max_position_embeddings;
    g->candidates = mem_zalloc((size_t)c->vocab_size, sizeof(*g->candidates));
    return generator_init(&g->generator, &loaded->model, context,
                          (enum kernel_precision)o->precision, e);
}

static int generate(struct generation *g, int64_t max_tokens, bool echo, const char *prompt,
                    int64_t *written, struct err *e)
{
    const struct tokenizer *t = g->loaded->tokenizer;
    *written = 0;
    if (echo) {
        buf_puts(&g->text, prompt);
        if (print_text(&g->text, true, e))
            return -1;
    }
    float *logits = generator_feed(g->generator, g->prompt.v, g->prompt.count);
    while (logits && *written < max_tokens) {
        uint32_t id;
        if (choose_token(&id, logits, g->loaded->model.config.vocab_size, t, &g->sampler,
                         g->candidates, &g->rng, e))
            return -1;
        if (id == TOKEN_EOS)
            break;
        ++*written;
        if (tokenizer_decode(t, &id, 1, true, &g->text, e) || print_text(&g->text, false, e))
            return -1;
        logits = *written < max_tokens ? generator_feed(g->generator, &id, 1) : NULL;
    }
    if (!logits && *written < max_tokens)
        log_warn("stopped after %lld tokens: the model sees at most %lld", (long long)*written,
                 (long long)g->loaded->model.config.max_position_embeddings);
    buf_putc(&g->text, '\n');
    return print_text(&g->text, true, e);
}

static int run(const struct options *o, const char *prompt, struct err *e)
{
    struct loaded loaded;
    struct generation g = {0};
    int64_t written = 0;
    if (load_checkpoint(&loaded, o->checkpoint, e))
        return -1;
    int rc = generation_init(&g, &loaded, o, prompt, e);
    double start = log_seconds();
    if (!rc)
        rc = generate(&g, o->max_tokens, o->echo, prompt, &written, e);
    if (!rc)
        log_info("%lld tokens after %zu of the prompt, %.1f tokens/s", (long long)written,
                 g.prompt.count, (double)written / fmax(log_seconds() - start, 1e-9));
    generation_release(&g);
    loaded_release(&loaded);
    return rc;
}

int cmd_generate(int argc, char **argv)
{
    struct options o;
    struct config_list prompts = {0};
    struct err e;
    config_init(rows, &o);
    log_name(name);
    int rc = config_args(rows, &o, &usage, &prompts, argc, argv, &e);
    if (rc > 0)
        rc = 0;
    else if (rc < 0)
        rc = command_fail(name, &e, 2);
    else if (!*o.checkpoint) {
        err_set(&e, "--checkpoint is missing; see --help");
        rc = command_fail(name, &e, 2);
    } else if (prompts.count != 1) {
        err_set(&e, "%s; put it in quotes: \"Es war einmal\"",
                prompts.count ? "there is more than one prompt" : "the prompt is missing");
        rc = command_fail(name, &e, 2);
    } else {
        threads_init((int)o.threads);
        rc = kernels_init(&e) || run(&o, prompts.items[0], &e) ? command_fail(name, &e, 1) : 0;
    }
    config_release(rows, &o);
    config_list_release(&prompts);
    return rc;
}
