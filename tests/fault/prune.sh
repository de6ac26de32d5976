# Pruning, each of its system calls killed or failing: every snapshot that is there is whole.
. "$ROOT/tests/fault/lib.sh"
for step in 1 2 3; do
    "$VICTIM" save old $step 100 || fail "cannot save"
done
whole() {
    mundwerk checkpoints verify now >out.verify 2>&1 || fail "$1: $(cat out.verify)"
    [ "$("$VICTIM" latest now)" = 3 ] || fail "$1: the newest is lost"
    [ -f now/checkpoints/step-0000002/model.safetensors ] || fail "$1: weights are lost"
    mundwerk checkpoints prune now --keep 1 2>err.next || fail "$1: cannot prune again: $(cat err.next)"
    [ -e now/checkpoints/step-0000002/trainer ] && fail "$1: not pruned"
    ls now/checkpoints | grep -qv '^step-' && fail "$1: leftovers: $(ls now/checkpoints)"
    return 0
}
CALLS="fsync rename unlink rmdir"
FAULTS="signal=KILL error=EIO"
attack old whole mundwerk checkpoints prune now --keep 1 --weights 1 --threads 1
echo "$runs faults, $survived survived with success"
