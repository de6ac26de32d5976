# A training run that saves after each step, beside the next one's gradients; each of its system
# calls killed or failing: what is left is whole, and the run goes on to the same bits.
#
# strace counts the calls of each thread by itself, so that a call of the thread that saves is
# out of reach behind the same one of the main thread. Therefore a second time where no thread
# can be had, and the run saves between its steps.
. "$ROOT/tests/fault/lib.sh"
export OMP_WAIT_POLICY=passive OMP_NUM_THREADS=2

for d in 1 2 3 4 5 6 7 8 9; do
    for s in "Der Hund sieht den Mond." "Die Katze malt einen Garten." "Ein Brief liegt im Turm."; do
        echo "{\"id\": \"$d\", \"text\": \"$s $s $s $s\"}"
    done
done >corpus.jsonl
mundwerk tokenizer train --in corpus.jsonl --out tok --vocab-size 280 2>err || fail "tokenizer"
mundwerk tokenizer pack --tokenizer tok --in corpus.jsonl --out tokens 2>err || fail "shards"
cat >toy.yaml <<'YAML'
model: {hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2, num_key_value_heads: 1,
        intermediate_size: 64, max_position_embeddings: 32}
train: {steps: 4, batch_tokens: 128, micro_batch: 4}
optimizer: {lr: 1e-2, min_lr: 1e-3}
schedule: {warmup_steps: 1}
checkpoints: {every: 1, keep: 2}
eval: {every: 0}
data: {prefix: tokens, tokenizer: tok}
YAML
train --config toy.yaml --out whole 2>err || fail "$(cat err)"
# a run that was killed after step 2
train --config toy.yaml --out old --set checkpoints.keep=0 2>err || fail "$(cat err)"
rm -r old/checkpoints/step-0000003 old/checkpoints/step-0000004

goes_on() {
    mundwerk checkpoints verify now >out.verify 2>&1 || fail "$1: $(cat out.verify)"
    train --out now --resume 2>err.next || fail "$1: the run does not go on: $(cat err.next)"
    for file in model.safetensors trainer/state.safetensors; do
        cmp "whole/checkpoints/step-0000004/$file" "now/checkpoints/step-0000004/$file" ||
            fail "$1: other bits"
    done
    ls now/checkpoints | grep -qv '^step-' && fail "$1: leftovers: $(ls now/checkpoints)"
    return 0
}

CALLS="write fsync mkdir rename unlink rmdir"
FAULTS="signal=KILL error=ENOSPC"
attack old goes_on train --out now --resume
BROKEN=,clone3
attack old goes_on train --out now --resume --threads 1
grep -q 'clone3(.*INJECTED' calls || fail "no thread was refused"
echo "$runs faults, $survived survived with success"
