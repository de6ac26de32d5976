# What disks and people do to files later: blocks of zeros, swapped files, old manifests.
. "$ROOT/tests/fault/lib.sh"
"$VICTIM" save run 1 || fail "cannot save"
"$VICTIM" save run 2 || fail "cannot save"
one=now/checkpoints/step-0000001
two=now/checkpoints/step-0000002

damaged() { # FILE: verify names it, and the run goes on from step 1
    run 1 mundwerk checkpoints verify now
    says out "DAMAGED  $two  $two/$1"
    [ "$("$VICTIM" latest now 2>err)" = 1 ] || fail "$1: not step 1"
    says err "trying the one before"
    checked=$((checked + 1))
}
checked=0
for file in model.safetensors trainer/state.safetensors; do
    fresh run
    dd if=/dev/zero of=$two/$file bs=512 seek=4 count=8 conv=notrunc 2>/dev/null
    damaged $file
    fresh run
    cp $one/$file $two/$file
    damaged $file
    fresh run
    echo >>$two/$file
    damaged $file
done
fresh run
cp $one/manifest.json $two/manifest.json
run 1 mundwerk checkpoints verify now
says out "manifest.json is that of step 1"

# a run whose every snapshot is damaged does not start over in silence
fresh run
for step in $one $two; do echo >>$step/config.json; done
run 1 "$VICTIM" latest now
says err "none of the 2 snapshots of now with trainer state is whole"
echo "$checked damaged files named"
