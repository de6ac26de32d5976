# checkpoints list, verify, prune on a run of the first released format: two snapshots,
# each with trainer state.
. "$ROOT/tests/cli/lib.sh"
cp -r "$ROOT/tests/golden/run-v1" run
one=run/checkpoints/step-0000001
two=run/checkpoints/step-0000002

run 0 mundwerk checkpoints --help
says out verify
for command in list verify prune; do
    run 0 mundwerk checkpoints $command --help
    says out "mundwerk checkpoints $command run"
    run 2 mundwerk checkpoints $command
    says err "name a run folder"
    run 1 mundwerk checkpoints $command . --threads 1 $([ $command = prune ] && echo --keep 1)
done
run 2 mundwerk checkpoints lst
says err "did you mean 'list'"
run 2 checkpoints prune run
says err "say what to remove"

run 0 checkpoints verify run --threads 1
mv out once
run 0 checkpoints verify run --threads 3
same out once
says out "whole    $two"
run 0 checkpoints list run $one --json --verify
[ "$(grep -c '"whole": true' out)" = 3 ] || fail "three snapshots, all whole"

# one flipped byte: named by verify, by list --verify, and a reason not to prune
printf X | dd of=$two/model.safetensors bs=1 seek=100 conv=notrunc 2>dd.log
run 1 checkpoints verify run
says out "DAMAGED  $two  $two/model.safetensors is damaged"
says out "whole    $one"
says err "1 of 2 snapshots are damaged"
run 1 checkpoints list run --verify
says err "$two/model.safetensors is damaged"
run 1 checkpoints prune run --keep 1
says err "nothing was pruned"
[ -d $one/trainer ] || fail "prune took the good snapshot's trainer state"
cp "$ROOT/tests/golden/run-v1/checkpoints/step-0000002/model.safetensors" $two/

# the newest trainer state goes, an older one is left
cp -r run older
run 0 checkpoints prune older/checkpoints/step-0000002
says err "it resumes from step 1 now"
run 0 checkpoints prune older/checkpoints/step-0000001
says err "it cannot be resumed any more"
run 0 checkpoints prune older/checkpoints/step-0000001
says_not err "trainer state"

# trainer state goes, weights stay
mkdir run/checkpoints/tmp-0000009 run/checkpoints/dead-0000007
run 0 checkpoints prune run --keep 1
says_not err "resume"
[ ! -e $one/trainer ] && [ -f $one/model.safetensors ] && [ -d $two/trainer ] || fail "pruned wrongly"
[ "$(ls run/checkpoints | wc -l)" = 2 ] || fail "leftovers of a killed save remain"
run 0 checkpoints verify run
run 0 checkpoints list run
says out "no       ?        $one"
run 0 checkpoints prune $two/
says err "$two/: that was the run's last trainer state: it cannot be resumed any more"
[ ! -e $two/trainer ] || fail "trainer state of a named snapshot remains"

# weights go only by name
run 1 checkpoints prune run --weights 1 3
says err "no snapshot of step 3"
run 1 checkpoints prune run --weights 1x
[ -d $one ] || fail "removed a snapshot in spite of an error"
run 0 checkpoints prune run --weights 1
[ ! -e $one ] && [ -d $two ] || fail "removed the wrong snapshot"
run 0 checkpoints verify $two

# not while somebody writes to the run
if command -v flock >/dev/null; then
    run 1 flock run/run.lock mundwerk checkpoints prune run --weights 2
    says err "another program writes to this run"
else
    echo "skipped: flock is absent, the lock of a run is not tried"
fi
