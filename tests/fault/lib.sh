# Sourced by the fault tests after tests/cli/lib.sh.
#
# attack BASE CHECK COMMAND...: for each system call that changes or closes something, and
# each of its occurrences in COMMAND, once per fault: copies BASE to ./now, runs COMMAND
# under strace with that one fault, then CHECK FAULT EXIT-CODE (its words in ./err).
# What is counted stands in $runs and, for those that exited 0 in spite of it, $survived.
. "$ROOT/tests/cli/lib.sh"

CALLS="openat write pwrite64 fsync close rename renameat2 mkdir unlink rmdir ftruncate flock"
FAULTS=${FAULTS:-"signal=KILL error=ENOSPC error=EIO error=EDQUOT error=EINTR"}
BROKEN= # ",renameat2": this call never works, in all runs
runs=0
survived=0

fresh() {
    rm -rf now
    cp -r "$1" now
}

attack() {
    base=$1
    check=$2
    shift 2
    fresh "$base"
    strace -f -o calls -e "trace=$(echo $CALLS | tr ' ' ',')$BROKEN" ${BROKEN:+-e inject=${BROKEN#,}:error=EINVAL} \
        "$@" >out 2>err || fail "does not work even without a fault: $(cat err)"
    for call in $CALLS; do
        count=$(grep -c "^[0-9]* *$call(" calls)
        n=1
        while [ "$n" -le "$count" ]; do
            for fault in $FAULTS; do
                fresh "$base"
                strace -f -o /dev/null -e "trace=$call$BROKEN" \
                    ${BROKEN:+-e inject=${BROKEN#,}:error=EINVAL} -e "inject=$call:$fault:when=$n" \
                    "$@" >out 2>err
                code=$?
                runs=$((runs + 1))
                [ "$code" = 0 ] && survived=$((survived + 1))
                # the loader's own sentences (a library that cannot be opened) count too
                [ "$code" != 0 ] && [ "${fault#error}" != "$fault" ] && [ ! -s err ] &&
                    fail "$call $n, $fault: exit code $code without a word"
                $check "$call:$fault:when=$n" "$code"
            done
            n=$((n + 1))
        done
    done
}
