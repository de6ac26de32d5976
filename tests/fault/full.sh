# A disk that is full, and a limit on the size of files: the message names the file and the
# byte, and the older snapshot stays.
. "$ROOT/tests/fault/lib.sh"

still_good() {
    [ "$("$VICTIM" latest "$1")" = 1 ] || fail "the older snapshot is gone"
    [ "$(ls "$1/checkpoints")" = step-0000001 ] || fail "leftovers: $(ls "$1/checkpoints")"
}

"$VICTIM" save run 1 || fail "cannot save"
checked=0
if command -v prlimit >/dev/null; then
    for limit in 1000 5000 6103 6104 12103; do
        run 1 prlimit --fsize=$limit "$VICTIM" save run 2
        says err "File too large"
        says err "at byte"
        still_good run
        checked=$((checked + 1))
    done
    run 1 prlimit --fsize=12103 "$VICTIM" save run 2
    says err "cannot write run/checkpoints/tmp-0000002/trainer/state.safetensors at byte 12103"
else
    echo "skipped: prlimit is absent"
fi

mkdir disk
if [ "$(id -u)" = 0 ] && mount -t tmpfs -o size=512k tmpfs disk 2>err; then
    trap 'umount disk' EXIT
    "$VICTIM" save disk/run 1 || fail "cannot save on the small disk"
    run 1 "$VICTIM" save disk/run 2 500000
    says err "no room for step 2: it takes 30"
    still_good disk/run
    # fewer bytes than are free at the question, but not when it comes to writing
    while head -c 4096 /dev/zero >>disk/ballast 2>/dev/null && [ "$(stat -f -c %a disk)" -gt 6 ]; do :; done
    run 1 strace -f -o /dev/null -e trace=statfs -e inject=statfs:error=EIO "$VICTIM" save disk/run 2
    says err "No space left on device"
    says err "at byte"
    still_good disk/run
    run 1 "$VICTIM" pack disk/shard 100
    says err "No space left on device"
    [ "$(ls disk)" = "$(printf 'ballast\nrun')" ] || fail "leftovers: $(ls disk)"
    rm disk/ballast
    run 0 "$VICTIM" save disk/run 2
    checked=$((checked + 3))
else
    echo "skipped: a small tmpfs needs root (and the right to mount)"
fi
echo "$checked full disks"
