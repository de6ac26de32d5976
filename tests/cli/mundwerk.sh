. "$ROOT/tests/cli/lib.sh"

run 0 mundwerk version
says out "mundwerk 0."
run 0 mundwerk --version
says out "mundwerk 0."
run 0 mundwerk --help
says out "usage: mundwerk COMMAND"
if [ -c /dev/full ]; then
    mundwerk --help >/dev/full 2>err && fail "a full disk behind stdout went unnoticed"
    says err "mundwerk: cannot write to standard output"
fi
run 2 mundwerk
says err "usage: mundwerk COMMAND"
run 2 mundwerk versoin
says err "mundwerk: unknown command 'versoin'; did you mean 'version'?"
