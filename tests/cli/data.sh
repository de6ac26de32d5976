. "$ROOT/tests/cli/lib.sh"

# --- the recipe on a corpus small enough to be read here ---------------------

mkdir -p rp/documents/2023-06/0001 rp/documents/2023-06/0002
boiler='Diese Seite verwendet Cookies, um Inhalte zu zeigen.'
{
    printf '{"url":"http://a.example/1","date_download":"2023-02-05T00:00:00Z","nlines":3,"source_domain":"a.example","raw_content":"Der Himmel ist blau\\n%s\\nMehr lesen","language":"de","language_score":0.99,"perplexity":217.2,"bucket":"head"}\n' "$boiler"
    printf '{"url":"http://a.example/2","raw_content":"The sky is blue","language":"en","bucket":"head"}\n'
    printf '{"url":"http://a.example/3","raw_content":"Im Garten bl\\u00fchen die Rosen.\\n%s\\nMehr lesen\\n/de/c/trebic-unesco","language":"de","bucket":"middle"}\n' "$boiler"
    printf '{"url":"http://a.example/4","raw_content":"Am Ende der Liste","language":"de","bucket":"tail"}\n'
} | gzip -c >rp/documents/2023-06/0001/de_head.json.gz
{
    printf '{"raw_content":"Der Himmel ist blau\\n%s\\nMehr lesen","language":"de","bucket":"head"}\n' "$boiler"
    printf '{"raw_content":"%s\\n ","language":"de","bucket":"head"}\n' "$boiler"
    printf '{"raw_content":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaawwwwwwwwwwwwwwwwwwwwwwwwwwww","language":"de","bucket":"head"}\n'
    printf '{"id":"mit \\"Namen\\"","raw_content":"Zum Schluss noch ein Satz.","language":"de","language_score":null,"bucket":"head"}\n'
} | gzip -c >rp/documents/2023-06/0002/de_head.json.gz

cat >expected <<END
{"id":"2023-06/0001/de_head.json.gz/0","text":"Der Himmel ist blau\n$boiler\nMehr lesen","url":"http://a.example/1","source_domain":"a.example","date_download":"2023-02-05T00:00:00Z","language":"de","language_score":0.99,"perplexity":217.2,"bucket":"head","source":"rp/documents/2023-06/0001/de_head.json.gz"}
{"id":"2023-06/0001/de_head.json.gz/2","text":"Im Garten blühen die Rosen.\nMehr lesen","url":"http://a.example/3","language":"de","bucket":"middle","source":"rp/documents/2023-06/0001/de_head.json.gz"}
{"id":"mit \"Namen\"","text":"Zum Schluss noch ein Satz.","language":"de","bucket":"head","source":"rp/documents/2023-06/0002/de_head.json.gz"}
END
run 0 mundwerk data prepare --in rp --out clean
says err "the measuring tokenizer needs"
zstd -qdc clean/documents-00000.jsonl.zst >got || fail "zstd"
same got expected
says clean/ledger.json '"lines_in": 8,'
says clean/ledger.json '"kept": 3,'
says clean/ledger.json '"language": 1, "bucket": 1, "no_text": 0, "duplicate_document": 1, "empty": 2}'
says clean/ledger.json '"paragraphs": {"in": 11, "kept": 6, "removed": {"duplicate": 2, "token_word_ratio": 2, "unmeasured": 0, "empty_document": 1}}'
says clean/ledger.json '{"path": "rp/documents/2023-06/0001/de_head.json.gz", "bytes": '
[ ! -e clean.tmp ] || fail "clean.tmp is left"

run 0 mundwerk data report clean --verify
says out "the ledger balances, the files' hashes are right"
says out "duplicate_document"

# The order of --in does not matter, files come sorted; settings come from a file or --set.
run 0 mundwerk data prepare --out two --in rp/documents/2023-06/0002 rp/documents/2023-06/0001 rp/documents/2023-06/0002/de_head.json.gz
same two/documents-00000.jsonl.zst clean/documents-00000.jsonl.zst
printf 'prepare:\n  languages: [all]\n  buckets: [head, middle, tail]\n  min_paragraph_words: 2\n  max_token_word_ratio: 0\n' >all.yaml
run 0 mundwerk data prepare --in rp --out all --config all.yaml --set prepare.min_paragraph_words=3
says all/ledger.json '"language": 0, "bucket": 0, "no_text": 0, "duplicate_document": 1, "empty": 1}'
says all/ledger.json '"tokenizer": "off"'
says all/ledger.json '"min_paragraph_words": 3'
run 2 mundwerk data prepare --in rp --out no --set prepare.min_words=3
says err "unknown key"
run 2 mundwerk data prepare --in rp
says err "--out DIR is missing"
run 2 mundwerk data prepare --out x
says err "--in PATH is missing"

# --- the folder is made whole or not at all ----------------------------------

run 1 mundwerk data prepare --in rp --out clean
says err "clean holds a finished corpus"
run 0 mundwerk data prepare --in rp/documents/2023-06/0002 --out clean --force
says clean/ledger.json '"lines_in": 4,'
mkdir mine && echo x >mine/file
run 1 mundwerk data prepare --in rp --out mine --force
says err "mine is not empty and holds no ledger.json"
echo x >two/notes.txt
run 1 mundwerk data prepare --in rp --out two --force
says err "two holds notes.txt"
[ -f two/notes.txt ] && [ -f two/ledger.json ] || fail "two was touched"
run 1 mundwerk data prepare --in rp absent --out none
says err "absent"
[ ! -e none ] && [ ! -e none.tmp ] || fail "a failed run left something"
mkdir -p left.tmp && echo torn >left.tmp/documents-00000.jsonl.zst
run 0 mundwerk data prepare --in rp --out left
[ ! -e left.tmp ] || fail "what an interrupted run left is still there"
run 1 mundwerk data prepare --in left --out left --force
says err "lies in the output folder"

# Killed while it replaced an older corpus: that comes back, or goes if the new one stands.
cp -r clean kept
mv clean clean.old.tmp
run 1 mundwerk data prepare --in rp --out clean
says err "put back the corpus clean"
says err "clean holds a finished corpus"
diff -r clean kept || fail "what was put back is not what it was"
cp -r clean clean.old.tmp
run 0 mundwerk data prepare --in rp/documents/2023-06/0002 --out clean --force
[ ! -e clean.old.tmp ] && [ ! -e clean.tmp ] || fail "the replaced corpus is still there"
mkdir torn.old.tmp
cp clean/ledger.json torn.old.tmp # its documents are gone: it was being removed
run 0 mundwerk data prepare --in rp --out torn
[ ! -e torn.old.tmp ] || fail "half an old corpus is still there"

# A full disk (here: a limit on the size of files) leaves what was there as it was.
awk 'BEGIN { srand(3); for (i = 0; i < 4000; i++) printf "{\"text\":\"%d %d %d %d\"}\n", rand() * 1e9, rand() * 1e9, rand() * 1e9, rand() * 1e9 }' >numbers.jsonl
cp clean/ledger.json before.json
(
    trap '' XFSZ
    ulimit -f 8
    run 1 mundwerk data prepare --in numbers.jsonl --out clean --force
    says err "cannot write"
) || exit 1
same clean/ledger.json before.json
[ ! -e clean.tmp ] || fail "a full disk left something"

# --- bad input is counted and named ------------------------------------------

mkdir bad
{
    printf '\357\273\277{"text":"Nach der Marke am Anfang"}\r\n'
    printf '{"text":"Eine Klammer fehlt"\n'
    printf '\n'
    printf '{"text":"Kein \377 UTF-8"}\n'
    printf '{"text":"eins","text":"zwei"}\n'
    printf '{"title":"kein Text"}\n'
    printf '{"text":"Null \\u0000 Byte"}\n'
    printf '{"text":"%02000d"}\n' 0
    printf '{"text":"\\ud800"}\n'
    printf '{"text":"  \\n"}\n'
    printf '%0100d' 0 | sed 's/0/[/g'
    printf '\n{"text":"Und der letzte ohne Zeilenende"}'
} >bad/a.jsonl
# Truncated: three lines are whole, the end is missing.
for i in 1 2 3; do
    printf '{"text":"Zeile %s steht vor dem Bruch"}\n' $i
done >whole.jsonl
zstd -qc whole.jsonl >bad/b.jsonl.zst
printf '{"text":"Diese Zeile ist nur zur H' | zstd -qc >>bad/b.jsonl.zst
head -c 20 bad/b.jsonl.zst >>bad/b.jsonl.zst
awk 'BEGIN { for (i = 0; i < 3000; i++) printf "{\"text\":\"Nummer %d von %d, %d\"}\n", i, i * i % 977, i * 7 % 1013 }' |
    gzip -c >whole.gz
head -c 20000 whole.gz >bad/c.jsonl.gz
printf 'Ein Brief aus der Ferne\r\nmit zwei Zeilen\r\n' >bad/d.txt
printf 'Kein \377 Text' >bad/e.txt
: >bad/f.txt
mkfifo bad/pipe
run 0 timeout 20 mundwerk data prepare --in bad --out counted --set prepare.max_line_bytes=1k --set prepare.max_token_word_ratio=0
says err "bad/a.jsonl:2: byte 28: malformed_json: unexpected end"
says err "bad/a.jsonl:4: byte 14: invalid_utf8: invalid UTF-8"
says err "bad/a.jsonl:5: byte 22: duplicate_key"
says err "bad/a.jsonl:6: byte 0: missing_text: no field text or raw_content"
says err "bad/a.jsonl:7: byte 0: nul: the text holds U+0000"
says err "bad/a.jsonl:8: byte 1000: too_long"
says err "bad/a.jsonl:9: byte 9: malformed_json: lone surrogate"
says err "bad/b.jsonl.zst"
says err "bad/b.jsonl.zst:4: byte 34: truncated"
says err "bad/c.jsonl.gz"
says err "bad/e.txt:1: byte 5: invalid_utf8"
says err "2 of 6 files could not be read to their end"
says counted/ledger.json '"truncated": 2, "too_long": 1, "blank_line": 1, "invalid_utf8": 2, "malformed_json": 3, "duplicate_key": 1, "missing_text": 1, "nul": 1,'
says counted/ledger.json '{"path": "bad/a.jsonl", "bytes": '
says counted/ledger.json '"lines_in": 12, "kept": 2, "removed": {"too_long": 1, "blank_line": 1, "invalid_utf8": 1, "malformed_json": 3, "duplicate_key": 1, "missing_text": 1, "nul": 1, "no_text": 1}, "error": null}'
says counted/ledger.json '"lines_in": 4, "kept": 3, "removed": {"truncated": 1}, "error": "'
run 0 mundwerk data report counted
says out "files: 6 read, 2 of them damaged"
zstd -qdc counted/documents-00000.jsonl.zst >got
says got '{"id":"bad/a.jsonl:1","text":"Nach der Marke am Anfang","source":"bad/a.jsonl"}'
says got '{"id":"bad/d.txt","text":"Ein Brief aus der Ferne\nmit zwei Zeilen\n","source":"bad/d.txt"}'
says got '{"id":"bad/c.jsonl.gz:1","text":"Nummer 0 von 0, 0"'
run 1 mundwerk data prepare --in bad --out strict --strict
says err "bad/a.jsonl:2: byte 28"
[ ! -e strict ] && [ ! -e strict.tmp ] || fail "a strict run left something"

# --- names of files may be any bytes -------------------------------------------

mkdir odd
name=$(printf 'odd/br\374cke.txt')
if echo 'Die Brücke ist alt und steht' >"$name" 2>/dev/null; then
    run 0 mundwerk data prepare --in odd --out named
    says named/ledger.json '{"path": "odd/br�cke.txt", '
    run 0 mundwerk data report named
    run 0 mundwerk data prepare --in odd --out named --force
fi

# --- a ledger that does not balance is found ---------------------------------

cp -r counted forged
sed 's/"kept": 2, "removed": {"too_long"/"kept": 3, "removed": {"too_long"/' counted/ledger.json >forged/ledger.json
run 1 mundwerk data report forged
says err "bad/a.jsonl does not balance: lines_in 12, but kept 3 + removed 10 = 13"
sed 's/^"lines_in": /"lines_in": 1/' counted/ledger.json >forged/ledger.json
run 1 mundwerk data report forged
says err "the ledger does not balance"
cp counted/ledger.json forged/ledger.json
printf 'x' >>forged/documents-00000.jsonl.zst
run 1 mundwerk data report forged
says err "forged/documents-00000.jsonl.zst has"
cp counted/documents-00000.jsonl.zst forged/documents-00000.jsonl.zst
printf 'X' | dd of=forged/documents-00000.jsonl.zst bs=1 seek=40 conv=notrunc 2>/dev/null
run 0 mundwerk data report forged
run 1 mundwerk data report forged --verify
says err "is damaged: its hash is"
rm forged/documents-00000.jsonl.zst
run 1 mundwerk data report forged
says err "documents-00000.jsonl.zst"
head -c 100 counted/ledger.json >forged/ledger.json
run 1 mundwerk data report forged
says err "forged/ledger.json: byte"
run 2 mundwerk data report
run 1 mundwerk data report absent
run 2 mundwerk data repot
says err "did you mean 'report'?"

# A corpus without a document is a failure, with its ledger to say why.
printf 'no json\n' >bad.jsonl
run 1 mundwerk data prepare --in bad.jsonl --out none
says err "no document was kept; none/ledger.json says why"
says none/ledger.json '"malformed_json": 1'
