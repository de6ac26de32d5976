# eval run over a toy run: scores, items and samples; nothing twice; the same bits for any
# threads and batch; and what it says of damaged snapshots, wrong tokenizers and missing data.
. "$ROOT/tests/cli/lib.sh"
export OMP_WAIT_POLICY=passive

awk 'BEGIN {
    split("Der Die Das Ein Kein Jeder", a); split("Hund Mond Wald Fluss Turm Garten Brief Löffel", n)
    split("sieht findet sucht malt trägt grüßt", v); s = 7
    for (d = 1; d <= 300; d++) {
        t = ""
        for (i = 0; i < 1 + d % 6; i++) {
            s = (s * 1103 + 12345) % 65536
            t = t a[s % 6 + 1] " " n[s % 8 + 1] " " v[s % 5 + 1] " den " n[int(s / 8) % 8 + 1] ". "
        }
        printf "{\"id\": \"satz-%d\", \"text\": \"%s\"}\n", d, t
        split(t, w, " ")
        printf "%s\t%s\n", t, (index("HundMondWaldFluss", w[2]) ? "Natur" : "Ding") >"items.txt"
    }
}' >corpus.jsonl
mkdir -p data/Toy
head -200 items.txt >data/Toy/train.txt
tail -60 items.txt >data/Toy/test.txt
cat >toy.yaml <<'YAML'
task: {name: toy, source: it is made by this test}
data: {folder: Toy, train: train.txt, test: test.txt, label_column: 1}
recipe: {epochs: 2, lr: 1e-2, max_length: 24}
YAML
cat >model.yaml <<'YAML'
model: {hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 4, num_key_value_heads: 2,
        intermediate_size: 64, max_position_embeddings: 32}
train: {steps: 10, batch_tokens: 1024, micro_batch: 16}
optimizer: {lr: 1e-2, min_lr: 1e-3}
schedule: {warmup_steps: 2}
checkpoints: {every: 5, keep: 1}
data: {prefix: tokens, tokenizer: tok}
YAML
run 0 mundwerk tokenizer train --in corpus.jsonl --out tok --vocab-size 300
run 0 mundwerk tokenizer train --in corpus.jsonl --out other --vocab-size 290
run 0 mundwerk tokenizer pack --tokenizer tok --in corpus.jsonl --out tokens --valid-share 0.1
run 0 mundwerk tokenizer pack --tokenizer other --in corpus.jsonl --out alien --valid-share 0.1
run 0 mundwerk train --config model.yaml --out run

# --- all tasks over all snapshots (steps 0, 5, 10)
eval_all() { mundwerk eval run --run run --tasks bpb,samples,./toy.yaml --task-data data --sample-tokens 8 "$@"; }
run 0 eval_all
says out "bpb"
says out "toy"
says out "results are in run/eval"
[ "$(wc -l <run/eval/bpb.jsonl)" = 3 ] || fail "not three lines of bits per byte"
[ "$(wc -l <run/eval/tasks.jsonl)" = 3 ] || fail "not three scores"
[ "$(wc -l <run/eval/samples.jsonl)" = 48 ] || fail "not 3 x 8 x 2 samples"
[ "$(grep -c '"mode": "sampled", "temperature": 1.*"top_nsigma": 1' run/eval/samples.jsonl)" = 24 ] ||
    fail "the sampler is not named"
[ "$(grep -c '"mode": "greedy", "temperature": 0.*"top_nsigma": 0' run/eval/samples.jsonl)" = 24 ] ||
    fail "greedy samples are not named"
value() { sed "s/.*\"$1\": \([^,}]*\).*/\1/"; }
value bits_per_byte <run/eval/bpb.jsonl | awk 'NR > 1 && $1 >= last {exit 1} {last = $1}' ||
    fail "bits per byte do not fall"
value tokens <run/eval/bpb.jsonl | tr '\n' ' ' | grep -q '^0 5120 10240 $' || fail "tokens are wrong"
# the number is traced to its items
items=run/eval/items/bpb/step-0000010.jsonl
value nats <$items | awk '{s += $1} END {printf "%.3f\n", s}' >sum
tail -1 run/eval/bpb.jsonl | value nats | awk '{printf "%.3f\n", $1}' >whole
same sum whole
[ "$(wc -l <$items)" = "$(tail -1 run/eval/bpb.jsonl | value documents)" ] || fail "items are missing"
[ "$(wc -l <run/eval/items/toy/step-0000010-seed-42.jsonl)" = 60 ] || fail "not 60 task items"

# --- nothing is made twice; what is missing is made again
cp -r run/eval first
run 0 eval_all
says err "3 results are already there"
sed -i '$d' run/eval/bpb.jsonl
run 0 eval_all
says err "2 results are already there"
diff -r -x run.lock first run/eval || fail "repeating changed results"

# --- other threads, other batches, all again: the same bytes
run 0 eval_all --force --threads 1 --batch-tokens 50
diff -r -x run.lock first run/eval || fail "threads or batch changed results"

# --- a trial is kept apart: full results stay as they are
trial() {
    option=$1
    shift
    run 0 mundwerk eval run --run run "$@"
    says err "--$option makes this a trial: results go to run/eval/trial"
    says out "results are in run/eval/trial"
    diff -r -x run.lock -x trial first run/eval || fail "a trial with --$option changed full results"
}
trial limit --tasks ./toy.yaml --task-data data --limit 40 --seeds 2
[ "$(grep -c '"seed": 43' run/eval/trial/tasks.jsonl)" = 3 ] || fail "the second seed is missing"
trial epochs --tasks ./toy.yaml --task-data data --epochs 1
trial max-tokens --tasks bpb --max-tokens 100
trial max-tokens --tasks bpb --max-tokens 0
run 0 mundwerk eval run --help
says out "RUN/eval/trial"

# --- one checkpoint, results elsewhere
run 0 mundwerk eval run --checkpoint run/checkpoints/step-0000010 --out there --tasks bpb --data tokens --max-tokens 0
grep -o '"bits_per_byte": [^,]*' there/bpb.jsonl >one
tail -1 run/eval/bpb.jsonl | grep -o '"bits_per_byte": [^,]*' >all
same one all

# --- rows of a task file that cannot be used are counted, the first is named
cp -r data bad
printf 'ohne Spalte\n' >>bad/Toy/train.txt
printf 'Text ohne Label\t\n' >>bad/Toy/train.txt
run 0 mundwerk eval run --checkpoint run/checkpoints/step-0000010 --out there --tasks ./toy.yaml --task-data bad --epochs 1
says err "2 malformed rows left out of 202"
says err "train.txt:201: 1 columns, at least 2 are needed"
says there/tasks.jsonl '"malformed": 2'

# --- wrong use: one sentence, exit 2, nothing written
wrong() {
    sentence=$1
    shift
    run 2 mundwerk eval run "$@"
    says err "$sentence"
}
wrong "either --run RUN or --checkpoint" --tasks bpb
wrong "give --tasks" --run run
wrong "needs --out" --checkpoint run/checkpoints/step-0000010 --tasks bpb
wrong "no run folder" --run nowhere --tasks bpb
wrong "no task named offensiv" --run run --tasks offensiv --task-data data
wrong "git clone https://github.com/LSX-UniWue/SuperGLEBer" --run run --tasks offensive_lang
wrong "git clone https://github.com/LSX-UniWue/SuperGLEBer" --run run --tasks offensive_lang --task-data data
wrong "there are no held-out tokens nothing.valid" --run run --tasks bpb --data nothing
wrong "did you mean" --run run --task bpb

# --- a model with more rows than the tokenizer has ids
run 0 mundwerk train --config model.yaml --out wide --set model.vocab_multiple=256 --set train.steps=5
run 0 mundwerk eval run --run wide --tasks samples --sample-tokens 8
[ "$(wc -l <wide/eval/samples.jsonl)" = 32 ] || fail "not 2 x 8 x 2 samples of the wide model"

# --- held-out tokens of another tokenizer
run 1 mundwerk eval run --checkpoint run/checkpoints/step-0000010 --out alien-results --tasks bpb --data alien
says err "does not match the held-out tokens"
[ -e alien-results/bpb.jsonl ] && fail "a result was written nevertheless"

# --- the report: one page, of what train and eval run have left
run 0 mundwerk eval report --run run
says err "wrote run/report.html"
says run/report.html "<h1>run</h1>"
says run/report.html "2 layers"
says run/report.html "Der Bundestag hat am Donnerstag"
says run/report.html "drawn at temperature 1 and top-nσ 1,"
run 0 mundwerk eval report --run run/ --out page.html
same run/report.html page.html
run 2 mundwerk eval report
says err "--run is missing"
run 1 mundwerk eval report --run nowhere
says err "there is no run folder nowhere"
# the newest snapshot is that of the highest step, not of the last name
mkdir -p long/checkpoints
cp -r run/checkpoints/step-0000005 long/checkpoints/step-9999999
cp -r run/checkpoints/step-0000010 long/checkpoints/step-10000000
sed -i 's/"num_hidden_layers": 2/"num_hidden_layers": 1/' long/checkpoints/step-9999999/config.json
run 0 mundwerk eval report --run long
says long/report.html "2 layers"

# --- two snapshots with the same weights
run 0 mundwerk train --config model.yaml --out frozen --set train.steps=2 --set optimizer.lr=0 \
    --set optimizer.min_lr=0
run 0 mundwerk eval run --run frozen --tasks bpb
says err "step 0 and step 2 are the same, byte for byte"

# --- one flipped byte: the snapshot is named, the others are evaluated, results stay
cp run/eval/bpb.jsonl before
at=$(($(wc -c <run/checkpoints/step-0000005/model.safetensors) - 100))
printf '\377\377' | dd of=run/checkpoints/step-0000005/model.safetensors bs=1 seek=$at conv=notrunc 2>/dev/null
run 1 mundwerk eval run --run run --tasks bpb --force
says err "step-0000005"
says err "model.safetensors"
says err "1 of 3 snapshots could not be evaluated"
same before run/eval/bpb.jsonl

# --- two evaluations at once
exec 9>>run/eval/run.lock
flock 9
run 1 mundwerk eval run --run run --tasks bpb
says err "run/eval/run.lock is held"
exec 9>&-

# --- a damaged result file is named, not overwritten
echo '{"step": 3, "bits' >run/eval/tasks.jsonl
run 1 mundwerk eval run --run run --tasks bpb
says err "tasks.jsonl:1: byte"
says run/eval/tasks.jsonl '"bits'
