. "$ROOT/tests/cli/lib.sh"
golden=$ROOT/tests/golden/tokenizer
corpus=$golden/corpus.txt

# --- help and wrong use ------------------------------------------------------

for command in train encode decode pack; do
    run 0 mundwerk tokenizer $command --help
    says out "mundwerk tokenizer $command"
    says out "--threads"
done
run 2 tokenizer # through the link
says err "usage: mundwerk tokenizer COMMAND"
run 2 mundwerk tokenizer trian
says err "did you mean 'train'?"
run 2 mundwerk tokenizer train --out t
says err "--in is missing"
run 2 mundwerk tokenizer train --in "$corpus"
says err "--out is missing"
run 2 mundwerk tokenizer train --in "$corpus" --out t --vocab-size 259
says err "vocab-size"
run 2 mundwerk tokenizer train --in "$corpus" --out t --pattern lama3
says err "pattern"
run 2 mundwerk tokenizer encode
says err "--tokenizer is missing"
run 2 mundwerk tokenizer pack --tokenizer t --in a
says err "--out is missing"
run 2 mundwerk tokenizer pack --tokenizer t --in a --out b --valid-share 1.5
says err "valid-share"
[ ! -e t ] || fail "wrong use wrote something"

# --- train -------------------------------------------------------------------

run 0 mundwerk tokenizer train --in "$corpus" --out t --vocab-size 800
says err "wrote t: 800 tokens"
says t/tokenizer.json '"<s>": 1'
says t/tokenizer_config.json '"clean_up_tokenization_spaces": false'
says t/tokenizer_config.json '"model_input_names": ["input_ids", "attention_mask"]'
says t/special_tokens_map.json '"bos_token": "<s>"'
# The merges lines of the file are those of Hugging Face's trainer.
sed -n '/"merges": \[/,$s/^ *"\(.* .*\)",*$/\1/p' t/tokenizer.json |
    sed 's/\\\(["\\]\)/\1/g' >merges
same merges "$golden/merges_llama3_lines.txt"
grep -q replaced err && fail "something was replaced where nothing was"
for threads in 1 3; do
    run 0 mundwerk tokenizer train --in "$corpus" --out t$threads --vocab-size 800 --threads $threads
    same t$threads/tokenizer.json t/tokenizer.json
done
# What was there is named before it is replaced.
run 0 mundwerk tokenizer train --in "$corpus" --out tw --vocab-size 320
run 0 mundwerk tokenizer train --in "$corpus" --out tw --vocab-size 300
says err "tw holds a tokenizer of 320 tokens ("
says err "), which will be replaced"
echo '{}' >tw/tokenizer.json
run 0 mundwerk tokenizer train --in "$corpus" --out tw --vocab-size 300
says err "tw/tokenizer.json, which cannot be read as a tokenizer, will be replaced"
# Compressed files and JSON lines are recognised by content, whatever their names.
gzip -c "$corpus" >corpus.data
run 0 mundwerk tokenizer train --in corpus.data --out tz --vocab-size 800
same tz/tokenizer.json t/tokenizer.json
mkdir docs
printf '{"id":"eins","text":"ab ab ab\\n\\n"}\n{"raw_content":"ab cd","text":"cd"}\n' >docs/a
printf '{"raw_content":"ef","id":7}\n' | zstd -q -c >docs/b
printf '{"lines_in": 3,\n"kept": 3}\n' >docs/ledger.json
run 0 mundwerk tokenizer train --in docs --out td --pattern gpt2
says err "3 sequences"
says err "the text gives only 265 tokens, not 32000"
says td/tokenizer.json '"a b"'
says td/tokenizer.json '"Ġ ab"'
says td/tokenizer.json '"Ċ Ċ"'
run 0 mundwerk tokenizer train --in docs --out tm --pattern gpt2 --min-frequency 2
says err "2 merges, the last of a pair seen 2 times"

# --- encode and decode ---------------------------------------------------------

printf 'Das Gesetz über <s> gilt.\n\n  zwei  \tdrei' >text
run 0 mundwerk tokenizer encode --tokenizer t text
cp out ids
[ "$(wc -l <ids)" = 3 ] || fail "three lines of ids expected"
[ -z "$(sed -n 2p ids)" ] || fail "an empty line has no ids"
run 0 mundwerk tokenizer decode --tokenizer t ids
printf '\n' >>text
same out text
mundwerk tokenizer encode --tokenizer t <text >ids2 || fail "encode from standard input"
same ids ids2
run 0 mundwerk tokenizer encode --tokenizer t --bos --eos --allow-special text
[ "$(sed -n 2p out)" = "1 2" ] || fail "--bos --eos of an empty line"
sed -n 1p out | grep -q '^1 .* 1 .* 2$' || fail "--allow-special"
cp out ids3
run 0 mundwerk tokenizer decode --tokenizer t --skip-special ids3
says out "Das Gesetz über  gilt."
# Any bytes come back.
head -c 20000 "$ROOT/bin/mundwerk" >bytes
printf '\n' >>bytes
run 0 mundwerk tokenizer encode --tokenizer t bytes
cp out ids4
run 0 mundwerk tokenizer decode --tokenizer t ids4
same out bytes
run 0 mundwerk tokenizer encode --tokenizer t --threads 1 bytes
same out ids4

printf '300 2 x7\n' >bad
run 1 mundwerk tokenizer decode --tokenizer t bad
says err "bad:1: byte 6: not an id"
printf '5\n1 800\n' >bad
run 1 mundwerk tokenizer decode --tokenizer t bad
says err "bad:2: id 800 at place 1 is outside the vocabulary of 800"
run 1 mundwerk tokenizer encode --tokenizer t none.txt
says err "none.txt"
run 1 mundwerk tokenizer encode --tokenizer none text
says err "none/tokenizer.json"
run 2 mundwerk tokenizer encode --tokenizer t text more
says err "one FILE at most"
mkdir broken
sed 's/"version": "1.0"/"version": 1.0/' t/tokenizer.json >broken/tokenizer.json
run 1 mundwerk tokenizer encode --tokenizer broken text
says err "broken/tokenizer.json: byte "

# --- pack ------------------------------------------------------------------------

run 0 mundwerk tokenizer pack --tokenizer t --in docs "$corpus" --out p --valid-share 0.3
says err "wrote p.bin, .idx, .ids and .json"
says err "held out: "
for file in p.bin p.idx p.ids p.json p.valid.bin p.valid.idx p.valid.ids p.valid.json; do
    [ -s $file ] || fail "$file is missing"
done
grep -q replaced err && fail "something was replaced where nothing was"
cat p.ids p.valid.ids >names
says names "eins"
says names "docs/a:2"
says names "7"
run 0 mundwerk tokenizer pack --tokenizer t --in "$corpus" docs --out q --valid-share 0.3 --threads 1
for part in bin idx ids valid.bin valid.idx valid.ids; do
    same p.$part q.$part
done
run 1 mundwerk tokenizer pack --tokenizer t --in docs --out p --valid-share 1
says err "all 3 documents are held out"
same p.bin q.bin # a failure leaves what was there

# What was there is named before it is replaced.
run 0 mundwerk tokenizer pack --tokenizer t --in docs --out r --valid-share 0.5
run 0 mundwerk tokenizer pack --tokenizer t --in docs --out r --valid-share 0
says err "the shards r.* hold 3 documents, "
says err "(the held-out ones included), and will be replaced"
echo >r.idx
run 0 mundwerk tokenizer pack --tokenizer t --in docs --out r --valid-share 0
says err "the shards r.*, which cannot be read, will be replaced"

# --- bad input ---------------------------------------------------------------------

mkdir bad_docs
{
    printf '{"id":"a","text":"gut"}\n'
    printf '{"id":"b","text":"abgebrochen\n'
    printf '{"id":"c","title":"ohne Text"}\n'
    printf '{"id":"d","text":"kein UTF-8: \377"}\n'
    printf '{"id":"e","text":7}\n'
    printf '{"id":"f","text":""}\n'
} >bad_docs/x.jsonl
run 0 mundwerk tokenizer train --in bad_docs --out tb --pattern gpt2
says err "bad_docs/x.jsonl:2: byte "
says err "bad_docs/x.jsonl:3: byte 0: no field \"text\" or \"raw_content\" with a string; the line is left out"
says err "bad_docs/x.jsonl:4: byte 30: invalid UTF-8"
says err "4 bad lines were left out"
run 0 mundwerk tokenizer pack --tokenizer t --in bad_docs --out pb --valid-share 0
says err "4 bad lines were left out"
says err "1 empty documents were left out"
[ "$(cat pb.ids)" = a ] || fail "only one document is good"
[ ! -e pb.valid.bin ] || fail "nothing was to be held out"

gzip -c "$corpus" | head -c 2000 >cut.gz
run 1 mundwerk tokenizer train --in cut.gz --out t --vocab-size 800
says err "cut.gz"
same t/tokenizer.json t1/tokenizer.json
run 1 mundwerk tokenizer pack --tokenizer t --in "$corpus" cut.gz --out p
says err "cut.gz"
same p.bin q.bin
[ -z "$(find . -name '*.tmp*')" ] || fail "temporary files are left: $(find . -name '*.tmp*')"
: >empty
run 1 mundwerk tokenizer train --in empty --out te
says err "no text in empty"
[ ! -e te ] || fail "a tokenizer of nothing was written"
run 1 mundwerk tokenizer train --in no_such_folder --out te
says err "no_such_folder"
# A full disk: /dev/full stands for it.
if [ -w /dev/full ]; then
    mundwerk tokenizer encode --tokenizer t "$corpus" >/dev/full 2>err && fail "a full disk went unnoticed"
    says err "cannot write to standard output: No space left on device"
fi
# A write that fails half-way (a limit on file sizes stands for the full disk).
# The held-out documents would fit: they must not arrive without those for training.
run 0 mundwerk tokenizer pack --tokenizer t --in docs --out old --valid-share 0.5
sum_old() { cat old.idx old.bin old.valid.* 2>/dev/null | cksum; }
[ -e old.valid.idx ] && before=$(sum_old) || fail "no document is held out"
(
    trap '' XFSZ
    ulimit -f 4
    run 1 mundwerk tokenizer pack --tokenizer t --in "$corpus" --out old --valid-share 0.01
    says err "File too large"
    run 1 mundwerk tokenizer pack --tokenizer t --in "$corpus" --out full
    says err "File too large"
    run 1 mundwerk tokenizer train --in "$corpus" --out full
    says err "File too large"
) || exit 1
[ "$(sum_old)" = "$before" ] || fail "a failed packing changed what was there"
[ -z "$(find . -name 'full*' -type f)" ] || fail "left of a failed write: $(find . -name 'full*')"
