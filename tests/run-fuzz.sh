#!/bin/sh
# Runs the fuzz programs named, FUZZ_SECONDS each. Corpora grow in build/corpus/; what
# crashes is left there and becomes a test.
cd "$(dirname "$0")/.." || exit 1
failed=0
ran=0
[ -w /dev/shm ] && export TMPDIR=/dev/shm # thousands of small files a second
TMPDIR=$(mktemp -d)
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
for program in "$@"; do
    name=${program##*/fuzz_}
    corpus=build/corpus/$name
    mkdir -p "$corpus"
    seeds=
    [ -d "tests/fuzz/seeds/$name" ] && seeds=tests/fuzz/seeds/$name
    # shellcheck disable=SC2086
    if "$program" -max_total_time="${FUZZ_SECONDS:-30}" -max_len=4096 -timeout=10 -rss_limit_mb=2048 \
        -dict=tests/fuzz/words.dict -artifact_prefix="$corpus-" -print_final_stats=1 \
        "$corpus" $seeds >"$corpus.log" 2>&1; then
        echo "ok   fuzz/$name: $(sed -n 's/^stat::number_of_executed_units: //p' "$corpus.log") runs," \
            "$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$corpus.log" | tail -1) edges"
        ran=$((ran + 1))
    else
        echo "FAIL fuzz/$name"
        grep -vE '^#|NEW_FUNC' "$corpus.log" | tail -40
        failed=$((failed + 1))
    fi
done
echo "fuzzing: $ran targets without a finding, $failed with"
[ "$failed" = 0 ] && [ "$ran" -gt 0 ]
