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

# --- products, of any configuration
cat >toy.yaml <<'YAML'
model:
  hidden_size: 64
  num_hidden_layers: 2
  num_attention_heads: 4
  num_key_value_heads: 2
  intermediate_size: 96
  max_position_embeddings: 64
train:
  steps: 10
  batch_tokens: 256
  micro_batch: 4
schedule:
  warmup_steps: 2
YAML
run 0 mundwerk bench gemm --json --config toy.yaml --tokens 33
says out '"weight": "gate+up", "tokens": 64, "in": 64, "out": 192'
says out '"weight": "head", "tokens": 64, "in": 64, "out": 32000'
for key in peak_tflops forward_tflops backward_tflops gradient_tflops forward_share; do
    positive $key
done
MUNDWERK_CPU=c run 0 mundwerk bench gemm --config toy.yaml --tokens 32 --threads 1
says out "precision                         fp32"
says out "threads                           1"
run 1 mundwerk bench gemm --config nowhere
says err "no configuration nowhere"
# bound threads are as many as free ones: the first one's own mask says nothing of the others
run 0 mundwerk bench gemm --config toy.yaml --tokens 32
threads=$(grep '^threads' out)
OMP_PLACES=cores OMP_PROC_BIND=close run 0 mundwerk bench gemm --config toy.yaml --tokens 32
says out "$threads"

# --- whole steps, without data and without leaving anything behind
run 2 mundwerk bench step
says err "--config is missing"
run 0 mundwerk bench step --config toy.yaml --steps 2 --batch-tokens 512 --json --profile
says out '"config": "toy.yaml"'
says out '"batch_tokens": 512'
for key in tokens_per_s flops_per_token mfu_nominal mfu_gaussian forward_ms loss_ms backward_ms \
    update_ms memory_bytes loss; do
    positive $key
done
says err "linear forward"
says err "of peak"
run 0 mundwerk bench step --config toy.yaml --steps 1 --micro-batch 2 --batch-tokens 256 \
    --set precision.compute=fp32 --set train.recompute=full
says out "sequences in a forward pass       2"
says out "recomputed                        full"
run 1 mundwerk bench step --config toy.yaml --memory 1MiB
says err "--memory allows 1.0 MB"
[ "$(ls)" = "$(printf 'err\nout\ntoy.yaml')" ] || fail "bench left files: $(ls)"
