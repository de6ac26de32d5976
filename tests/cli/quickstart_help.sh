# scripts/quickstart: its help, its refusals, and its way through the steps with commands
# that only pretend (nothing is installed, built, trained or downloaded here).
. "$ROOT/tests/cli/lib.sh"

run 0 "$ROOT/scripts/quickstart" --help
says out "usage: scripts/quickstart [--corpus FOLDER] [--out FOLDER]"
run 2 "$ROOT/scripts/quickstart" --fast
says err "unknown argument '--fast'; see scripts/quickstart --help"
run 2 "$ROOT/scripts/quickstart" --corpus
says err "--corpus needs a folder"
run 2 "$ROOT/scripts/quickstart" --out=
says err "unknown argument '--out='"
run 2 "$ROOT/scripts/quickstart" --corpus nowhere
says err "there is no folder $PWD/nowhere"

# A copy of the script among pretended commands, in a folder with a blank. Each notes what
# it was called with and makes what the real one makes.
mkdir -p "a house/scripts" "a house/bin" "a house/train/configs" "my texts/documents"
cp "$ROOT/scripts/quickstart" "a house/scripts/"
cd "a house" || exit 1
echo 'steps: 1' >train/configs/german-mini.yaml
echo Text >"../my texts/documents/a.txt"
pretend() { # FILE, the commands on standard input
    { echo '#!/bin/sh'; echo 'echo "$(basename "$0") $*" >>"$CALLS"'; cat; } >"$1"
    chmod +x "$1"
}
export CALLS="$PWD/calls"
pretend scripts/setup </dev/null
pretend bin/make </dev/null
pretend bin/train <<'END'
for o; do [ "$before" = --out ] && out=$o; before=$o; done
mkdir -p "$out/checkpoints/step-000000$(cut -d " " -f 2 train/configs/german-mini.yaml)"
[ ! -e "$CALLS.kill" ] || exit 1
END
pretend bin/mundwerk <<'END'
for o; do
    [ "$before" = --out ] || [ "$before" = --run ] && out=$o
    before=$o
done
case "$1 $2" in
"data prepare") mkdir -p "$out" && echo {} >"$out/ledger.json" ;;
"tokenizer train") mkdir -p "$out" && echo {} >"$out/tokenizer.json" ;;
"tokenizer pack") mkdir -p "${out%/*}" && : >"$out.bin" ;;
"eval run") mkdir -p "$out/eval" ;;
"eval report") : >"$out/report.html" ;;
esac
END
road() { # CODE: quickstart with these texts; what it called stands in ./calls
    : >calls
    run "$1" scripts/quickstart --corpus "../my texts" --out "runs/a b"
}

road 0
says out "\$ mundwerk data prepare --in '$PWD/../my texts/documents' --out 'runs/a b/corpus'"
says calls "mundwerk tokenizer train --in runs/a b/corpus --out runs/a b/tokenizer --vocab-size 8192"
says calls "mundwerk eval report --run runs/a b/german-mini"
says_not calls "--resume"
says out "The report, to open in a browser: $PWD/runs/a b/german-mini/report.html"

road 0 # all is done
says out "done before: runs/a b/corpus/ledger.json"
says_not calls "mundwerk"
says_not calls "train"
says out "The report, to open in a browser: $PWD/runs/a b/german-mini/report.html"

exec 8>"runs/a b/stamps/lock" # one at a time
flock -n 8 || fail "the lock is not free"
road 1
says err "another quickstart is at work in runs/a b"
exec 8>&-

rm "runs/a b/tokenizer/tokenizer.json" # what is missing is made again
road 0
says calls "mundwerk tokenizer train"
says_not calls "mundwerk data prepare"

echo 'steps: 2' >train/configs/german-mini.yaml # another configuration: another run
: >calls.kill
: >"runs/a b/german-mini/old"
road 1
says err "quickstart: 'train' failed"
says_not calls "data prepare"
says_not calls "--resume"
[ ! -e "runs/a b/german-mini/old" ] || fail "the old run is still there"
rm calls.kill
road 0 # killed in training: it goes on
says calls "--resume"
says calls "mundwerk eval run"

echo Neu >"../my texts/documents/b.txt" # other texts: all of it
: >"runs/a b/corpus/old"
road 0
says calls "mundwerk data prepare"
says_not calls "--resume"
[ ! -e "runs/a b/corpus/old" ] || fail "old documents are still there"

# A step that a signal ended is no failure: quickstart says that it goes on.
echo 'steps: 3' >train/configs/german-mini.yaml
pretend bin/train <<'END'
exit 143
END
road 143
says out "quickstart: stopped; start it again and it goes on from here"
says_not err "failed"
pretend bin/train </dev/null # ends well, but before the last snapshot
road 1
says err "'train' ended before it made runs/a b/german-mini/checkpoints/step-0000003"
