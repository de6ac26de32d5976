# Packing over an older shard, each system call killed or failing: the old shard, the new
# one, or, killed while names change, none; never a mixture that opens.
. "$ROOT/tests/fault/lib.sh"
mkdir old
"$VICTIM" pack old/s 5 || fail "cannot pack"
none=0
whole() {
    docs=$("$VICTIM" count now/s 2>err.count) || fail "$1: a broken shard: $(cat err.count)"
    case $docs in
    none) none=$((none + 1)) ;;
    5 | 70) ;;
    *) fail "$1: $docs documents" ;;
    esac
    [ "$2" != 0 ] || [ "$docs" = 70 ] || fail "$1: said it was packed, but was not"
    "$VICTIM" pack now/s 6 || fail "$1: cannot pack again"
    [ "$("$VICTIM" count now/s)" = 6 ] || fail "$1: packed again wrongly"
    [ "$(ls now | wc -l)" = 6 ] || fail "$1: leftovers: $(ls now)"
}
attack old whole "$VICTIM" pack now/s 70
echo "$runs faults, $survived survived with success, $none without a shard"
