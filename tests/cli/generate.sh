. "$ROOT/tests/cli/lib.sh"

run 0 mundwerk generate --help
says out "mundwerk generate --checkpoint"
says out "--top-nsigma"
run 0 generate --help # through the link in bin/

run 2 mundwerk generate "Es war einmal"
says err "--checkpoint is missing"
run 2 mundwerk generate --checkpoint . --temprature 1 "Es war einmal"
says err "temperature"
run 2 mundwerk generate --checkpoint . --min-p 1.5 "Es war einmal"
says err "min-p"
run 2 mundwerk generate --checkpoint . --max-tokens 8x "Es war einmal"
says err "max-tokens"

run 1 mundwerk generate --checkpoint no/such/folder "Es war einmal"
says err "no/such/folder"
mkdir empty
run 1 mundwerk generate --checkpoint empty "Es war einmal"
says err "empty"
