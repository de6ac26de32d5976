/*
 * The word rule, case by case.
 */
#include "eval/wordcut.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

static void words_of_texts(void **state)
{
    (void)state;
    static const struct {
        const char *text, *words;
    } cases[] = {
        {"", ""},
        {" \t\n", ""},
        {"Guten Morgen", " Guten Morgen"},
        {"  Hallo,  Welt!  ", " Hallo , Welt !"},
        {"Das war's. Ende.", " Das war's . Ende ."},
        {"Das ist z.B. so, bzw. anders", " Das ist z.B. so , bzw . anders"},
        {"am 3. Mai, Platz 3.", " am 3. Mai , Platz 3 ."},
        {"3,5 Mio. E-Mails", " 3,5 Mio . E-Mails"},
        {"Na ja ... oder?!", " Na ja ... oder ?!"},
        {"Ende...", " Ende ..."},
        {"@ein_name #Tag", " @ ein _ name # Tag"},
        {"„Größe“ – Maß", " „ Größe “ – Maß"},
        {"geht’s gut", " geht’s gut"},
        {"x\xC2\xA0y", " x y"},                  /* no-break space */
        {"gut 👍🏽!", " gut 👍🏽!"},     /* a run of symbols is one word */
        {"Cafe\xCC\x81 zu", " Cafe\xCC\x81 zu"}, /* combining accent stays */
    };
    struct err e;
    struct wordcut *w;
    struct buf out = {0};
    assert_int_equal(wordcut_new(&w, &e), 0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(wordcut_run(w, cases[i].text, strlen(cases[i].text), &out, &e), 0);
        assert_string_equal(out.data ? out.data : "", cases[i].words);
    }
    buf_release(&out);
    wordcut_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_of_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
