#!/bin/sh
# Runs tests/cli/*.sh, each in an empty folder of its own; an argument selects by name.
cd "$(dirname "$0")/.." || exit 1
root=$PWD
# Threads that spin while they wait make short parallel loops on a busy machine wait for the
# scheduler: seconds instead of milliseconds.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}"
passed=0
failed=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for script in tests/cli/*.sh; do
    name=$(basename "$script" .sh)
    [ "$name" = lib ] && continue
    case $name in *"${1:-}"*) ;; *) continue ;; esac
    mkdir "$work/$name"
    start=$(date +%s%N)
    if (cd "$work/$name" && ROOT=$root PATH="$root/bin:$PATH" sh "$root/$script") >"$work/log" 2>&1; then
        passed=$((passed + 1))
        echo "ok   cli/$name ($((($(date +%s%N) - start) / 1000000)) ms)"
        grep '^skipped: ' "$work/log"
    else
        failed=$((failed + 1))
        echo "FAIL cli/$name"
        cat "$work/log"
    fi
done
echo "command-line tests: $passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
