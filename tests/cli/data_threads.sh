# The same bytes for any number of threads, on a corpus of several blocks and kinds of files.
. "$ROOT/tests/cli/lib.sh"

mkdir -p in/sub
# Sentences out of a few words: many paragraphs come twice, some documents too.
awk 'BEGIN {
    srand(5)
    n = split("Haus Garten Himmel Wasser Strasse Gesetz Schule Arbeit Freund Sprache Ordnung Zeit", w, " ")
    m = split("steht liegt kommt geht bleibt wird war ist", v, " ")
    for (d = 0; d < 9000; d++) {
        printf "{\"id\":\"d%d\",\"language\":\"%s\",\"text\":\"", d, d % 17 ? "de" : "en"
        p = 1 + int(rand() * 9)
        for (i = 0; i < p; i++) {
            k = 2 + int(rand() * 12)
            for (j = 0; j < k; j++)
                printf "%s %s ", w[1 + int(rand() * n)], v[1 + int(rand() * m)]
            printf d % 40 == 7 ? "\\nx-y-z/%d/%d/%d/q_r_s/t.u.v\\n" : "\\n", d, i, k
        }
        printf "\"}\n"
        if (d % 1000 == 999)
            printf "{\"text\":\"Kaputt %d\n", d
    }
}' >all.jsonl
split -l 3000 all.jsonl in/part.
gzip -c in/part.aa >in/a.jsonl.gz
zstd -qc in/part.ab >in/sub/b.jsonl.zst
mv in/part.ac in/c.jsonl
rm in/part.aa in/part.ab
cp in/sub/b.jsonl.zst in/again.zst
for i in $(seq 30); do echo "Der $i. Brief kam heute an, mit Grüßen aus Nummer $((i * i))" >in/sub/$i.txt; done
for threads in 1 2 3; do
    run 0 mundwerk data prepare --in in --out out$threads --threads $threads --set prepare.file_bytes=1M
    grep -v 'threads\?$\|merging\|preparing\|counting' err | sed "s/out$threads//" >err$threads
    [ $threads = 1 ] || diff -r out1 out$threads || fail "$threads threads give other bytes"
    [ $threads = 1 ] || diff err1 err$threads || fail "$threads threads say other things"
done
[ -f out1/documents-00001.jsonl.zst ] || fail "one file only"
run 0 mundwerk data report out1 --verify
says out "duplicate_document"
says out "malformed_json"

# The rule of 1.4 with a tokenizer of the user's.
run 0 mundwerk tokenizer train --in out1 --out tok --vocab-size 1000
run 0 mundwerk data prepare --in in --out given1 --threads 1 --ratio-tokenizer tok
run 0 mundwerk data prepare --in in --out given2 --threads 2 --ratio-tokenizer tok
diff -r given1 given2 || fail "threads change what a given tokenizer measures"
says given1/ledger.json '"tokenizer": "tok", "pattern": "llama3"'
run 1 mundwerk data prepare --in in --out given3 --ratio-tokenizer absent
says err "absent"

# What the bootstrap tokenizer learns from ends at the same paragraph for any number of threads,
# also where little of the text is fit to learn from and the files end in different rounds.
mkdir long
awk 'BEGIN {
    srand(9)
    for (f = 0; f < 8; f++)
        for (d = 0; d < 400; d++) {
            printf "{\"text\":\"" >("long/" f ".jsonl")
            for (i = 0; i < 5; i++) {
                for (j = 0; j < 40; j++) {
                    k = i > 1 ? 14 : 4
                    w = ""
                    while (k--)
                        w = w sprintf("%c", 97 + int(26 * rand() * rand()))
                    printf "%s ", w >("long/" f ".jsonl")
                }
                printf "\\n" >("long/" f ".jsonl")
            }
            printf "\"}\n" >("long/" f ".jsonl")
        }
}'
for threads in 1 2 3; do
    run 0 mundwerk data prepare --in long --out long$threads --threads $threads --set prepare.bootstrap_bytes=400k --set prepare.max_token_word_ratio=6
    run 0 mundwerk data prepare --in long --out tok$threads --threads $threads --ratio-tokenizer tok
    diff -r long1 long$threads || fail "$threads threads train another bootstrap tokenizer"
    diff -r tok1 tok$threads || fail "$threads threads calibrate a given tokenizer otherwise"
done
says_not long1/ledger.json '"token_word_ratio": 0,'
says long1/ledger.json '"trained_on_bytes": 400000,'

# The bar moves within a file; a terminal is wanted to see it.
if command -v script >/dev/null; then
    for i in 1 2 3 4 5 6 7 8; do cat all.jsonl; done >one.jsonl
    script -qec "mundwerk data prepare --in one.jsonl --out one --threads 1 --set prepare.max_token_word_ratio=0" /dev/null >bar </dev/null
    # a machine so fast that nothing is drawn has nothing to show
    grep -q '\] *[0-9]*% ' bar && ! grep -q '\] *[1-9][0-9]*% ' bar &&
        fail "a single file stays at 0 %: $(cat bar)"
fi

# Killed in the middle, then run again.
mundwerk data prepare --in in --out killed --threads 1 >/dev/null 2>&1 &
pid=$!
i=0
while [ ! -e killed.tmp ] && [ $i -lt 200 ]; do
    sleep 0.01
    i=$((i + 1))
done
kill -9 $pid
wait $pid
[ ! -e killed ] || [ -f killed/ledger.json ] || fail "half a corpus looks whole"
run 0 mundwerk data prepare --in in --out killed --force
cmp killed/ledger.json out1/ledger.json >/dev/null && fail "file_bytes is not in the ledger"
run 0 mundwerk data report killed
