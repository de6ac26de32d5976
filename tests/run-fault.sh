#!/bin/sh
# Runs tests/fault/*.sh, each in an empty folder of its own; an argument selects by name.
# VICTIM is the program they attack (built by `make fault`).
cd "$(dirname "$0")/.." || exit 1
command -v strace >/dev/null || {
    echo "fault tests: strace is absent (Debian: apt install strace)"
    exit 1
}
root=$PWD
passed=0
failed=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for script in tests/fault/*.sh; do
    name=$(basename "$script" .sh)
    [ "$name" = lib ] && continue
    case $name in *"${1:-}"*) ;; *) continue ;; esac
    mkdir "$work/$name"
    start=$(date +%s)
    if (cd "$work/$name" && ROOT=$root PATH="$root/bin:$PATH" sh "$root/$script") >"$work/log" 2>&1; then
        passed=$((passed + 1))
        echo "ok   fault/$name $(($(date +%s) - start)) s: $(tail -1 "$work/log")"
        grep '^skipped: ' "$work/log"
    else
        failed=$((failed + 1))
        echo "FAIL fault/$name"
        tail -40 "$work/log"
    fi
done
echo "fault tests: $passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
