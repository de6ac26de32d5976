# Power loss cannot be tried, but its precondition can: replay the system calls and demand
# that everything was synced before it was renamed. To show that the replay sees something,
# each fsync is then struck from the log in turn: the fault must be reported.
. "$ROOT/tests/fault/lib.sh"
struck=0

audit() { # LOG ROOT WATCH
    awk -v cwd="$PWD" -v root="$2" -v watch="$3" -f "$ROOT/tests/fault/audit.awk" "$1"
}

# LABEL ROOT WATCH COMMAND...
examine() {
    label=$1 root=$2 watch=$3
    shift 3
    strace -f -y -o log -e trace=openat,mkdir,write,pwrite64,fsync,rename,renameat2,unlink,rmdir "$@" ||
        fail "$label does not work"
    audit log "$root" "$watch" >faults
    [ -s faults ] && fail "$label: $(cat faults)"
    count=$(grep -c '^[0-9]* *fsync(' log)
    [ "$count" -gt 0 ] || fail "$label: no fsync at all"
    n=1
    while [ "$n" -le "$count" ]; do
        awk -v n="$n" '/^[0-9]* *fsync\(/ && ++i == n { next } { print }' log >without
        audit without "$root" "$watch" | grep -q . || fail "$label: fsync $n of $count is not missed"
        struck=$((struck + 1))
        n=$((n + 1))
    done
}

mkdir parent
examine "first save" "$PWD/parent/run/checkpoints" "$PWD/parent" "$VICTIM" save parent/run 1
examine "save" "$PWD/parent/run/checkpoints" "$PWD/parent" "$VICTIM" save parent/run 2
examine "save again" "$PWD/parent/run/checkpoints" "$PWD/parent" "$VICTIM" save parent/run 2
examine "pack" "$PWD/parent" "$PWD/parent" "$VICTIM" pack parent/s 3
examine "pack again" "$PWD/parent" "$PWD/parent" "$VICTIM" pack parent/s 4
examine "prune" "$PWD/parent/run/checkpoints" "$PWD/parent" mundwerk checkpoints prune parent/run --keep 1 --threads 1
echo "6 logs clean, each of $struck fsyncs missed when struck out"
