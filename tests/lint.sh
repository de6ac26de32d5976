#!/bin/sh
# Keeps what people forget: the law of includes, the format, functions we do not use.
cd "$(dirname "$0")/.." || exit 1
bad=0
sources=$(git ls-files -co --exclude-standard '*.c' '*.h' | while read -r f; do [ -f "$f" ] && echo "$f"; done)

# Which folders a folder may include (DESIGN: arrows of inclusion).
law() {
    case $1 in
    common) echo "common" ;;
    checkpoints) echo "common checkpoints" ;;
    tokenizer) echo "common tokenizer" ;;
    model) echo "common model" ;;
    data) echo "common data tokenizer" ;;
    train) echo "common data tokenizer model checkpoints train" ;;
    eval) echo "common data tokenizer model checkpoints eval train/optimizer.h" ;;
    esac
}
for file in $sources; do
    folder=${file%%/*}
    allowed=$(law "$folder")
    [ -n "$allowed" ] || continue
    sed -n 's/^#include "\([^"]*\)".*/\1/p' "$file" | while read -r include; do
        case " $allowed " in
        *" ${include%%/*} "* | *" $include "*) ;;
        *) echo "$file includes $include, which the law of includes forbids" ;;
        esac
    done
done | { ! grep .; } || bad=1

banned='strcpy|strcat|sprintf|vsprintf|strtok|gets|atoi|atol|atof|rand|srand|gmtime|localtime|tmpnam|system|alloca'
# shellcheck disable=SC2086
grep -nE "(^|[^a-zA-Z_0-9.>])($banned)\(" $sources | grep -vE '^[^:]*:[0-9]+: *(/?\*|//)' && {
    echo "these functions are banned: bounded, thread-safe, strict ones exist"
    bad=1
}
# shellcheck disable=SC2086
grep -nE '^[^"]*//' $sources | grep -vE 'https?://' && {
    echo "use /* */ comments"
    bad=1
}
# Versions of clang-format disagree on details; the one of Debian 12 decides.
if clang-format --version 2>/dev/null | grep -q 'version 14\.'; then
    # shellcheck disable=SC2086
    clang-format --dry-run -Werror $sources 2>&1 | grep -E 'error:' && {
        echo "run 'make format'"
        bad=1
    }
else
    echo "lint: clang-format 14 is absent, format not checked"
fi
# shellcheck disable=SC2086
awk 'length($0) > 100 { printf "%s:%d: %d columns, 100 are allowed\n", FILENAME, FNR, length($0); n++ } END { exit n > 0 }' $sources || bad=1
[ "$bad" = 0 ] && echo "lint: clean"
exit "$bad"
