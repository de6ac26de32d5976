# Sourced by the command-line tests: `. "$ROOT/tests/cli/lib.sh"`. Each test runs in an
# empty folder with bin/ on PATH; ROOT is the repository.
set -u

fail() {
    echo "FAILED: $*"
    exit 1
}

skip() { # the rest of this script is skipped, with a reason
    echo "skipped: $*"
    exit 0
}

# run CODE COMMAND...: runs it with output in ./out and ./err, and demands the exit code.
run() {
    want=$1
    shift
    "$@" >out 2>err
    got=$?
    [ "$got" = "$want" ] && return 0
    echo "\$ $*"
    cat out err
    fail "exit code $got, expected $want"
}

# says FILE TEXT: the file holds the text (as it is, not a pattern).
says() {
    grep -qF -- "$2" "$1" && return 0
    echo "--- $1:"
    cat "$1"
    fail "'$1' does not say: $2"
}

says_not() {
    grep -qF -- "$2" "$1" || return 0
    cat "$1"
    fail "'$1' must not say: $2"
}

same() { # two files are byte-identical
    cmp "$1" "$2" || fail "$1 and $2 differ"
}
