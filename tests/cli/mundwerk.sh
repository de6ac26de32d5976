. "$ROOT/tests/cli/lib.sh"

run 0 mundwerk version
says out "mundwerk 0."
run 0 mundwerk --help
says out "usage: mundwerk COMMAND"
run 2 mundwerk
says err "usage: mundwerk COMMAND"
run 2 mundwerk versoin
says err "mundwerk: unknown command 'versoin'; did you mean 'version'?"
