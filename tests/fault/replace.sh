# `data prepare --force` over an older corpus, each of its system calls killed or failing: the
# folder has the old corpus or the new one, whole, and the next run goes through and clears up.
. "$ROOT/tests/fault/lib.sh"
CALLS="fsync rename renameat2 mkdir unlink rmdir flock"

mkdir in old
echo 'Der Himmel ist heute sehr blau' >in/a.txt
prepare="mundwerk data prepare --in in --threads 1 --set prepare.max_token_word_ratio=0 --quiet"
$prepare --out old/corpus || fail "cannot prepare"
echo 'Im Garten stehen zwei alte Rosen' >in/b.txt

whole() {
    if [ ! -e now/corpus ] && [ -d now/corpus.old.tmp ]; then
        away=$((away + 1))
    else
        mundwerk data report now/corpus --verify >out.report 2>&1 || fail "$1: $(cat out.report)"
        files=$(grep -c '^{"path"' now/corpus/ledger.json)
        [ "$2" != 0 ] || [ "$files" = 2 ] || fail "$1: said it was replaced, but was not"
    fi
    $prepare --out now/corpus --force 2>err.next || fail "$1: the next run fails: $(cat err.next)"
    [ "$(ls now)" = corpus ] || fail "$1: leftovers: $(ls now)"
    return 0
}

away=0
attack old whole $prepare --out now/corpus --force
[ "$away" = 0 ] || fail "nothing lay at the folder $away times"

# on a file system without exchange: two renames
BROKEN=,renameat2
CALLS="fsync rename mkdir unlink rmdir flock"
attack old whole $prepare --out now/corpus --force
[ "$away" -gt 0 ] || fail "the moment between the two renames was never hit"
echo "$runs faults, $survived survived with success, $away put back"
