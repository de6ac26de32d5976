# Twelve writers at once on one run: those that came second say so, nothing is broken.
. "$ROOT/tests/fault/lib.sh"
for i in 1 2 3 4 5 6 7 8 9 10 11 12; do
    (
        "$VICTIM" save run $i 200000 2>err.$i
        echo $? >code.$i
    ) &
done
wait
saved=0
for i in 1 2 3 4 5 6 7 8 9 10 11 12; do
    case $(cat code.$i) in
    0) saved=$((saved + 1)) ;;
    *) says err.$i "another program writes to this run" ;;
    esac
done
[ "$saved" -gt 0 ] || fail "nobody could write"
run 0 mundwerk checkpoints verify run
[ "$(grep -c '^whole' out)" = "$saved" ] || fail "$saved said they saved"
echo "12 writers, $saved saved, all whole"
