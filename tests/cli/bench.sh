# What the machine can do, before there is any data.
. "$ROOT/tests/cli/lib.sh"

run 0 mundwerk bench --help
says out "peak"
run 0 mundwerk bench peak --help
says out "--json"
run 2 mundwerk bench peak --bogus
run 2 mundwerk bench

# positive KEY: the JSON object in ./out has a number above 0 there
positive() {
    grep -qE "\"$1\": ([1-9]|0\.[0-9]*[1-9])" out && return 0
    cat out
    fail "$1 is not a positive number"
}

run 0 mundwerk bench peak --json
says out '"cpu_level": "'
for key in threads fp32_tflops triad_nt_gbs load_dram_gbs; do
    positive $key
done
says out '"amx_bf16_nominal_tflops": '
says out '"amx_bf16_gaussian_tflops": '
MUNDWERK_CPU=avx2 run 0 mundwerk bench peak --json --threads 1
says out '"threads": 1'
says out '"amx_bf16_nominal_tflops": null'
