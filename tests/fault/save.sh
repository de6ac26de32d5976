# One save, each of its system calls killed or failing: the run has the old snapshot or the
# new one, whole, and the next save goes through and clears up.
. "$ROOT/tests/fault/lib.sh"

# What must hold after a save of step $want over the older step 1.
whole() {
    latest=$("$VICTIM" latest now 2>err.latest) || fail "$1: no snapshot is left: $(cat err.latest)"
    [ -s err.latest ] && fail "$1: a broken snapshot is visible: $(cat err.latest)"
    case $latest in
    1 | "$want") ;;
    *) fail "$1: step $latest" ;;
    esac
    [ "$2" != 0 ] || [ "$latest" = "$want" ] || fail "$1: said it was saved, but was not"
    "$VICTIM" save now 3 2>err.next || fail "$1: the next save fails: $(cat err.next)"
    [ "$("$VICTIM" latest now)" = 3 ] || fail "$1: the next save is not found"
    ls now/checkpoints | grep -qv '^step-' && fail "$1: leftovers: $(ls now/checkpoints)"
    return 0
}

"$VICTIM" save old 1 || fail "cannot save"
want=2
attack old whole "$VICTIM" save now 2

# the same step again: exchanged in one call
want=1
attack old whole "$VICTIM" save now 1

# on a file system without exchange: two renames
BROKEN=,renameat2
CALLS="fsync close rename mkdir unlink rmdir"
# between the two renames step 1 is away; the next save puts it back
whole_or_away() {
    if [ "$("$VICTIM" latest now)" = none ] && [ -d now/checkpoints/dead-0000001 ]; then
        "$VICTIM" save now 3 || fail "$1: the next save fails"
        [ -d now/checkpoints/step-0000001 ] || fail "$1: step 1 was not put back"
        away=$((away + 1))
    else
        whole "$1" "$2"
    fi
}
away=0
attack old whole_or_away "$VICTIM" save now 1
[ "$away" -gt 0 ] || fail "the moment between the two renames was never hit"
echo "$runs faults, $survived survived with success, $away put back"
