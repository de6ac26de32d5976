# A training run, and everything that may happen to it: kill -9, signals, damaged snapshots,
# a full disk, other thread counts, other settings. The bits must not show it.
. "$ROOT/tests/cli/lib.sh"

# --- a toy corpus, its tokenizer and its shards
awk 'BEGIN {
    split("Der Die Das Ein Kein Jeder", a); split("Hund Mond Wald Fluss Turm Garten Brief Löffel", n)
    split("sieht findet sucht malt trägt grüßt", v); s = 7
    for (d = 1; d <= 400; d++) {
        t = ""
        for (i = 0; i < 6; i++) {
            s = (s * 1103 + 12345) % 65536
            t = t a[s % 6 + 1] " " n[s % 8 + 1] " " v[s % 5 + 1] " den " n[int(s / 8) % 8 + 1] ". "
        }
        printf "{\"id\": \"satz-%d\", \"text\": \"%s\"}\n", d, t
    }
}' >corpus.jsonl
run 0 mundwerk tokenizer train --in corpus.jsonl --out tok --vocab-size 300
run 0 mundwerk tokenizer train --in corpus.jsonl --out other --vocab-size 290
run 0 mundwerk tokenizer pack --tokenizer tok --in corpus.jsonl --out tokens --valid-share 0.05

cat >toy.yaml <<'YAML'
model:
  hidden_size: 32
  num_hidden_layers: 2
  num_attention_heads: 4
  num_key_value_heads: 2
  intermediate_size: 64
  max_position_embeddings: 32
train:
  steps: 20
  batch_tokens: 2048
  micro_batch: 24
optimizer:
  lr: 1e-2
  min_lr: 1e-3
schedule:
  warmup_steps: 4
checkpoints:
  every: 5
  keep: 0
eval:
  every: 10
  tokens: 1024
data:
  prefix: tokens
  tokenizer: tok
YAML

timeless() { sed 's/, "seconds".*//' "$1/metrics.jsonl"; }

# same_run A B: weights, moments, place in the data, metrics and data.log are equal
same_run() {
    timeless "$1" >a.metrics
    timeless "$2" >b.metrics
    same a.metrics b.metrics
    same "$1/data.log" "$2/data.log"
    [ "$(wc -c <"$1/$events")" = "$(wc -c <"$2/$events")" ] || fail "the events of $2 differ"
    last=checkpoints/step-0000020
    same "$1/$last/model.safetensors" "$2/$last/model.safetensors"
    same "$1/$last/trainer/state.safetensors" "$2/$last/trainer/state.safetensors"
    for r in "$1" "$2"; do
        grep -vE '"(seconds|metrics_bytes)"' "$r/$last/trainer/state.json" >"$r.state"
    done
    same "$1.state" "$2.state"
    # what the machine decides is there and makes sense: a share of the measured peak
    tail -1 "$2/metrics.jsonl" | grep -qE '"mfu": 0\.[0-9]{4}, "memory": [0-9]{6,}[,}]' ||
        fail "no sensible mfu at the end of $2/metrics.jsonl"
}
events=events.out.tfevents.0.mundwerk

# start RUN LINES OPTIONS...: begins a run in the background and waits for LINES of metrics
start() {
    r=$1 lines=$2
    shift 2
    train --config toy.yaml --out "$r" "$@" >out 2>err &
    pid=$!
    while kill -0 $pid 2>/dev/null; do
        [ -f "$r/metrics.jsonl" ] && [ "$(wc -l <"$r/metrics.jsonl")" -ge "$lines" ] && return 0
        sleep 0.005
    done
}

# --- the undisturbed run
run 0 train --config toy.yaml --plan
says out "tokens per step       2,048"
for row in "memory, weights" "memory, moments" "memory in all" "time  " "disk in all"; do says out "$row"; done
says out "recomputed: none"
run 0 train --config toy.yaml --plan --memory 1MiB
says out "recomputed: full"
run 2 train --config toy.yaml --plan --memory much
says err "--memory 'much' is no size"
[ ! -e runs ] || fail "--plan wrote something"
run 1 train --config toy.yaml --out tight --memory 1MiB
says err "--memory allows 1.0 MB"
run 0 train --config toy.yaml --out whole --threads 2 --profile-every 16
says err "of 16 steps up to step 16 went"
says err "of 4 steps up to step 20 went"
says err "linear gradient"
says err "were resident"
grep -qE "compute: (fp32|bf16)" whole/config.yaml || fail "config.yaml does not say what auto was"
[ "$(wc -l <whole/metrics.jsonl)" = 21 ] || fail "21 lines of metrics expected: step 0 and 20 steps"
[ "$(tail -n +2 whole/data.log | wc -l)" = 20 ] || fail "20 steps in data.log expected"
says whole/config.yaml 'prefix: "tokens"'
says whole/build.txt "cpu level"
[ "$(ls whole/checkpoints | tr '\n' ' ')" = \
    "step-0000000 step-0000005 step-0000010 step-0000015 step-0000020 " ] || fail "$(ls whole/checkpoints)"
first=$(sed -n '2s/.*"loss": \([0-9]*\).*/\1/p' whole/metrics.jsonl)
last=$(sed -n '21s/.*"loss": \([0-9]*\).*/\1/p' whole/metrics.jsonl)
[ "$first" -ge 5 ] && [ "$last" -le 3 ] || fail "it does not learn: $first to $last"

# --- which documents went into step 7
run 0 train --out whole --show-data 7
[ "$(cut -f 1 out | sort -u | wc -l)" -gt 50 ] || fail "64 windows expected"
while IFS="$(printf '\t')" read -r _ document id; do
    [ "$(sed -n "$((document + 1))p" tokens.ids)" = "$id" ] || fail "document $document is not $id"
done <<LINES
$(head -5 out)
LINES
run 1 train --out whole --show-data 21
says err "whole/data.log has no step 21"

# --- kill -9 between two snapshots, and on with other numbers of threads, and less kept in memory
for try in 1 2 3 4 5; do
    rm -rf cut
    start cut 14 --threads 1
    kill -9 $pid 2>/dev/null
    wait $pid 2>/dev/null
    [ -d cut/checkpoints/step-0000020 ] || break
done
[ -d cut/checkpoints/step-0000010 ] || fail "no snapshot after kill -9"
[ ! -d cut/checkpoints/step-0000020 ] || fail "could not kill it in time"
run 2 train --config toy.yaml --out cut
says err "holds a run already"
run 0 train --out cut --resume --threads 3 --set train.recompute=full --set precision.masters=fp32
says err "goes on after step 1"
same_run whole cut
run 0 train --config toy.yaml --out cut --resume
says err "is finished: step 20 of 20"

# --- a snapshot after each step, written while the next is computed: the same bits
run 0 train --config toy.yaml --out often --set checkpoints.every=1
same_run whole often
for step in 05 10 15; do
    for file in model.safetensors trainer/state.safetensors; do
        same whole/checkpoints/step-00000$step/$file often/checkpoints/step-00000$step/$file
    done
done
[ "$(grep -c 'snapshot of step .* kB in .* s, training waited .* s$' err)" = 21 ] ||
    fail "21 snapshots expected: $(cat err)"
[ "$(grep -cE '"save_seconds": [0-9.]+, "save_waited": [0-9.]+}$' often/metrics.jsonl)" = 20 ] ||
    fail "20 steps expected in which a snapshot was finished"

# --- kill -9 while one is being written, most likely: all that are there are whole
start hit 2 --set checkpoints.every=1
for lines in 4 7 11 15; do
    kill -9 $pid 2>/dev/null
    wait $pid 2>/dev/null
    run 0 mundwerk checkpoints verify hit
    start hit $lines --set checkpoints.every=1 --resume
done
kill -9 $pid 2>/dev/null
wait $pid 2>/dev/null
run 0 mundwerk checkpoints verify hit
run 0 train --out hit --resume
same_run whole hit

# --- signals: a snapshot of the last whole step, and the same bits after it
start term 3 --threads 2
kill -TERM $pid
wait $pid || fail "SIGTERM: exit code $?, expected 0"
says err "go on with: train --out term --resume"
run 0 train --out term --resume
[ -d term/checkpoints/step-0000020 ] || fail "it did not go on"
same whole/checkpoints/step-0000020/trainer/state.safetensors \
    term/checkpoints/step-0000020/trainer/state.safetensors
start int 3
kill -INT $pid
wait $pid
[ $? = 130 ] || fail "SIGINT: exit code 130 expected"
says err "go on with: train --out int --resume"
start "it's two" 3
kill -TERM $pid
wait $pid || fail "SIGTERM: exit code $?, expected 0"
says err "go on with: train --out 'it'\\''s two' --resume"
(cd tok && train --out ../term --resume >../out 2>../err) && fail "data found in another folder"
says err "no token shards at tokens (relative to the folder you are in); these make them"

# --- trainer state that was pruned: a run that is finished says so, another is refused whole
cp -r whole done
rm -rf done/checkpoints/step-0000000
run 0 mundwerk checkpoints prune done/checkpoints/step-0000020
says err "it resumes from step 15 now"
run 0 train --out done --resume
says err "done is finished: step 20 of 20"
for step in 05 10 15; do run 0 mundwerk checkpoints prune done/checkpoints/step-00000$step; done
says err "it cannot be resumed any more"
run 0 train --out done --resume
says err "done is finished: step 20 of 20"
same whole/metrics.jsonl done/metrics.jsonl
rm -rf done/checkpoints/step-0000020
run 1 train --out done --resume
says err "done cannot go on: the trainer state of its snapshots was pruned; start a new run with"
says_not err "starting at the beginning"
same whole/metrics.jsonl done/metrics.jsonl
same whole/data.log done/data.log
rm -rf done/checkpoints
run 0 train --out done --resume
says err "done has no snapshot yet: starting at the beginning"
same_run whole done

# --- one flipped byte in the newest snapshot: said, and the one before is taken
flip() { # FILE OFFSET
    byte=$(od -An -tu1 -j "$2" -N 1 "$1" | tr -d ' ')
    printf "\\$(printf %03o $((byte ^ 16)))" | dd of="$1" bs=1 seek="$2" conv=notrunc 2>/dev/null
}
cp -r whole flipped
flip flipped/checkpoints/step-0000020/trainer/state.safetensors 50000
run 0 train --out flipped --resume
says err "step-0000020"
says err "goes on after step 15"
same_run whole flipped

# --- a full disk (a limit on file sizes): one sentence, the old snapshot is whole, and on
cp -r whole full # as if killed after step 10: what is recorded beyond is cut
rm -r full/checkpoints/step-0000015 full/checkpoints/step-0000020
half=$(($(wc -c <full/checkpoints/step-0000010/trainer/state.safetensors) / 1024))
before=$(ls full/checkpoints)
run 1 sh -c "ulimit -f $half; exec train --out full --resume"
says err "File too large"
[ "$(grep -o 'snapshot of step' err | wc -l)" = 1 ] || fail "one sentence expected: $(cat err)"
[ "$(ls full/checkpoints | grep step-)" = "$(echo "$before" | grep step-)" ] || fail "snapshots changed"
[ "$(wc -l <full/metrics.jsonl)" = 16 ] || fail "step 16 was taken although step 15 was not saved"
run 0 mundwerk checkpoints verify full
run 0 train --out full --resume
same_run whole full

# --- what does not fit together
run 1 train --config toy.yaml --out term --resume --set optimizer.lr=2e-2
says err "optimizer.lr"
says err "a run goes on only as it began"
run 2 train --config toy.yaml --out new --tokenizer other
says err "tokens was not packed with the tokenizer other"
mkdir part
cp tok/tokenizer.json part/
run 2 train --config toy.yaml --out new --tokenizer part
says err "part is not complete: tokenizer_config.json: No such file"
says_not err "memory"
[ ! -e new ] || fail "a refused run left a folder"
run 0 train --config toy.yaml --out bare --tokenizer part --set checkpoints.every=0 --set train.steps=4
mkdir moved
for f in tokens.*; do cp "$f" moved/; done
flip moved/tokens.bin 999
run 1 train --config toy.yaml --out new --data moved/tokens
says err "moved/tokens"
run 2 train --config toy.yaml --out new2 --data nowhere/tokens
says err "no token shards at nowhere/tokens; these make them: mundwerk data prepare"
run 2 train --config toy.yaml --out new2 --set train.stepps=5
says err "did you mean 'train.steps'"
run 2 train --config toy.yaml --out new2 --set train.steps=0
says err "train.steps"
run 2 train --config toy.yam --out new2
says err "no configuration toy.yam"
[ ! -e new2 ] || fail "a refused run left a folder"
run 0 train --config toy.yaml --out none --set checkpoints.every=0
[ ! -e none/checkpoints ] || fail "checkpoints.every=0 wrote a snapshot"
run 2 train --config toy.yaml --out none --set checkpoints.every=0 --resume
says err "none cannot go on: it keeps no snapshots"

# --- a run that blows up: its steps are skipped, then it stops, its snapshots stay good
run 1 train --config toy.yaml --out wild --set optimizer.lr=10 --set optimizer.min_lr=10 \
    --set optimizer.weight_decay=10 --set train.skip_limit=3 --set checkpoints.every=2
says err "loss or gradient was not finite in 3 steps in a row"
says err "the last snapshot is step-"
[ "$(grep -c '"skipped": true' wild/metrics.jsonl)" = 3 ] || fail "3 skipped steps expected"
run 0 mundwerk checkpoints verify wild

if command -v flock >/dev/null; then
    run 1 flock int/run.lock train --out int --resume
    says err "int/run.lock"
fi
