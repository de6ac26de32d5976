#!/bin/sh
# Runs unit test programs, prints one line each and the output of those that fail.
# Threads that spin while they wait make short parallel loops on a busy machine wait for the
# scheduler: seconds instead of milliseconds.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}"
passed=0
failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for program in "$@"; do
    name=${program#build/*/tests/}
    start=$(date +%s%N)
    if "$program" >"$log" 2>&1; then
        count=$(sed -n 's/^\[  PASSED  \] \([0-9]*\) test(s)\..*/\1/p' "$log" | tail -1)
        skipped=$(sed -n 's/^\[  SKIPPED \] \([0-9]*\) test(s).*/\1/p' "$log" | tail -1)
        if [ -z "$count" ]; then
            echo "FAIL $name: ran no test"
            failed=$((failed + 1))
            continue
        fi
        passed=$((passed + 1))
        echo "ok   $name ($count tests${skipped:+, $skipped skipped}, $((($(date +%s%N) - start) / 1000000)) ms)"
        grep '^skipped: ' "$log"
    else
        failed=$((failed + 1))
        echo "FAIL $name"
        cat "$log"
    fi
done
echo "unit tests: $passed programs passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
