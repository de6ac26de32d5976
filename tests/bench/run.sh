#!/bin/sh
# The table of what training is to reach, measured here and now, against the peers that are there:
#
#     make bench                       all rows
#     make bench ROWS="step gemm"      some: step step1b torch llmc gemm attention head update fp32
#
# Prints the table and writes it as CSV to runs/bench/DATE.csv (BENCH_OUT). Every number comes from
# a program run now; ours and a peer's in turns, BENCH_ROUNDS (3) times, and of each the median
# counts. Where a peer is absent a line says so. README.md tells how to get them, and which
# variables name them.
set -u
cd "$(dirname "$0")/../.." || exit 1
rows="${*:-step step1b torch llmc gemm attention head update fp32}"
rounds=${BENCH_ROUNDS:-3}
threads=$(nproc)
built=build/bench
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM
out=${BENCH_OUT:-runs/bench/$(date +%Y-%m-%d-%H%M).csv}
mkdir -p "$(dirname "$out")" "$built" || exit 1

# --- numbers -------------------------------------------------------------------------

# number KEY [FILE]: of a JSON object of one line; empty where it has none
number() {
    sed -n 's/.*"'"$1"'": \(-\{0,1\}[0-9][0-9.eE+-]*\).*/\1/p' "${2:-$tmp/json}" | head -n 1
}

# word KEY [FILE]: the same for a string
word() {
    sed -n 's/.*"'"$1"'": "\([^"]*\)".*/\1/p' "${2:-$tmp/json}" | head -n 1
}

# keep NAME NUMBER: one more measurement of what is called so
keep() {
    if [ -n "$2" ]; then echo "$2" >>"$tmp/$1.kept"; fi
}

# keep_json NAME KEY [FACTOR]
keep_json() {
    keep "$1" "$(number "$2" | awk -v f="${3:-1}" '{ print $1 * f }')"
}

# median NAME: of what was kept; empty if nothing was
median() {
    [ -s "$tmp/$1.kept" ] || return 0
    sort -n "$tmp/$1.kept" |
        awk '{ x[NR] = $1 } END { print NR % 2 ? x[(NR + 1) / 2] : (x[NR / 2] + x[NR / 2 + 1]) / 2 }'
}

# forget PREFIX: names are used again
forget() {
    rm -f "$tmp/$1"*.kept
}

# --- the table -----------------------------------------------------------------------

columns="row,measured,ours,unit,peer,peer_value,ratio,target,met,peak,peak_unit,note"

# put ROW MEASURED OURS UNIT PEER PEER_VALUE TARGET PEAK [PEAK_UNIT]: TARGET is of the ratio where
# there is a peer, else of our number; with "<=" before it a number is to stay below
put() {
    awk -v row="$1" -v what="$2" -v ours="$3" -v unit="$4" -v peer="$5" -v theirs="$6" \
        -v target="$7" -v peak="$8" -v peak_unit="${9:-TFLOP/s}" -v csv="$out" 'BEGIN {
        below = sub(/^<=/, "", target)
        ratio = theirs > 0 ? ours / theirs : ""
        value = peer == "" ? ours : ratio
        met = target == "" || value == "" ? "" : \
            (below ? value + 0 <= target + 0 : value + 0 >= target + 0) ? "yes" : "no"
        wanted = target == "" ? "" : (below ? "<= " : ">= ") target (peer == "" ? "" : " x")
        shown_ratio = ratio == "" ? "" : sprintf("%.2f x", ratio)
        shown_peer = peer == "" ? "" : sprintf("%s %.4g", peer, theirs)
        shown_peak = peak == "" ? "" : sprintf("%.3g %s", peak, peak_unit)
        printf "%-11s %-34s %8.4g %-9s %-30s %8s %9s %-3s  %s\n", row, what, ours, unit, \
            shown_peer, shown_ratio, wanted, met, shown_peak
        printf "%s,%s,%.6g,%s,%s,%s,%s,%s%s,%s,%s,%s,\n", row, what, ours, unit, peer, \
            theirs, ratio, below ? "<=" : "", target, met, peak, peak == "" ? "" : peak_unit >>csv
    }'
}

# note ROW SENTENCE: why something is missing from the table
note() {
    printf '%-11s %s\n' "$1" "$2"
    printf '%s,,,,,,,,,,,"%s"\n' "$1" "$(echo "$2" | tr '"' "'")" >>"$out"
}

# ours ROW COMMAND...: runs it, its JSON in $tmp/json; says what failed
ours() {
    ours_row=$1
    shift
    "$@" >"$tmp/json" 2>"$tmp/err" && return 0
    note "$ours_row" "$* failed: $(tail -n 1 "$tmp/err")"
    return 1
}

# step ROW ARGUMENTS...: a whole training step
step() {
    step_row=$1
    shift
    ours "$step_row" bin/mundwerk bench step --json --threads "$threads" "$@"
}

# keep_step PREFIX: what the step's object says
keep_step() {
    keep_json "$1.rate" tokens_per_s
    keep_json "$1.nominal" mfu_nominal 100
    keep_json "$1.gaussian" mfu_gaussian 100
    keep_json "$1.memory" resident_peak_bytes 9.313225746154785e-10
    keep "$1.peak" "$(echo "$(number tflops) $(number mfu_gaussian)" |
        awk '$2 > 0 { print $1 / $2 }')"
}

# --- whole steps ---------------------------------------------------------------------

# put_step ROW CONFIG MFU: what all steps show
put_step() {
    peak=$(median "$1.peak")
    put "$1" "$2 speed" "$(median "$1.rate")" tokens/s "" "" "" "$peak"
    put "$1" "$2 MFU of nominal peak" "$(median "$1.nominal")" % "" "" "$3" "$peak"
    put "$1" "$2 MFU of gaussian peak" "$(median "$1.gaussian")" % "" "" "" "$peak"
}

row_step() {
    for _ in $(seq "$rounds"); do
        step step --config german120m || return
        keep_step step
    done
    put_step step german120m 35
}

row_step1b() {
    free=$(awk '/^MemAvailable:/ { printf "%.1f", $2 / 1048576 }' /proc/meminfo)
    if ! awk -v free="$free" 'BEGIN { exit !(free >= 22) }'; then
        note step1b "skipped: german1b wants 22 GiB free, this machine has $free"
        return
    fi
    step step1b --config german1b || return
    keep_step step1b
    put_step step1b german1b 37
    put step1b "german1b resident at most" "$(median step1b.memory)" GiB "" "" "<=22" \
        "$(median step1b.peak)"
}

# One way to run PyTorch in turns with ours, on the same work: one sequence a step.
torch_pair() {
    interpreter=$1
    shift
    step torch --config german120m --micro-batch 1 --batch-tokens 2048 --steps 5 || return 1
    keep_step torch
    timeout 900 "$interpreter" tests/bench/peer_torch.py german120m --json \
        --threads "$threads" "$@" >"$tmp/torch.all" 2>"$tmp/err" || {
        note torch "$interpreter $*: failed or took 15 minutes: $(tail -n 1 "$tmp/err")"
        return 1
    }
    tail -n 1 "$tmp/torch.all" >"$tmp/torch"
    rate=$(number tokens_per_s "$tmp/torch")
    peer=$(word peer "$tmp/torch")
    echo "$rate $*" >>"$tmp/torch.ways"
}

row_torch() {
    [ -n "${BENCH_TORCH:-}" ] ||
        note torch "skipped: BENCH_TORCH names no python with PyTorch"
    for python in ${BENCH_TORCH:-}; do
        forget torch
        : >"$tmp/torch.ways"
        for attention in sdpa explicit; do
            torch_pair "$python" --attention "$attention"
            torch_pair "$python" --attention "$attention" --compile
        done
        [ -s "$tmp/torch.ways" ] || continue
        best=$(sort -nr "$tmp/torch.ways" | head -n 1)
        case $peer in
        torch-2.6*) target=7 ;;
        *) target=3 ;;
        esac
        way=$(echo "${best#* }" | sed 's/--attention //; s/--//')
        put torch "german120m; peer $way" "$(median torch.rate)" tokens/s "$peer" \
            "${best%% *}" $target "$(median torch.peak)"
    done
}

# llm.c prints "step 1: train loss 5.3 (took 1234.5 ms)"; step 0 touches the memory first.
row_llmc() {
    if [ ! -x "${LLMC:-}/train_gpt2" ]; then
        note llmc "skipped: LLMC names no folder with llm.c's train_gpt2"
        return
    fi
    for _ in 1 2; do
        step llmc --config german120m --set train.sequence_length=1024 --micro-batch 1 \
            --batch-tokens 1024 --steps 5 || return
        keep_step llmc
        [ -s "$tmp/llmc" ] || (cd "$LLMC" && OMP_NUM_THREADS=$threads timeout 900 ./train_gpt2) \
            >"$tmp/llmc" 2>"$tmp/err"
    done
    rate=$(sed -n 's/^step 1:.*took \([0-9.]*\) ms.*/\1/p' "$tmp/llmc" |
        awk '{ print 1024 / ($1 / 1000) }')
    if [ -z "$rate" ]; then
        note llmc "train_gpt2 ended before step 1, or took 15 minutes"
        return
    fi
    put llmc "124M step at T=1024" "$(median llmc.rate)" tokens/s llm.c "$rate" 100 \
        "$(median llmc.peak)"
}

# --- products ------------------------------------------------------------------------

# build_peer NAME SOURCE FLAGS...: into $built; fails where the library is absent
build_peer() {
    peer_name=$1 peer_source=$2
    shift 2
    "${CC:-cc}" -std=c11 -D_GNU_SOURCE -O2 -fopenmp "tests/bench/$peer_source" \
        tests/bench/peer_gemm.c -o "$built/$peer_name" -Wl,--allow-shlib-undefined "$@" -lm \
        >"$tmp/err" 2>&1
}

# product ROW CONFIG WEIGHT LEVEL PRECISION: keeps ours of one shape
product() {
    ours "$1" env MUNDWERK_CPU="$4" bin/mundwerk bench gemm --json --threads "$threads" \
        --config "$2" --weight "$3" --precision "$5" || return 1
    keep_json product.peak peak_tflops
    keep_json product.fwd forward_tflops
    keep_json product.dx backward_tflops
    keep_json product.dw gradient_tflops
}

# peer_product ROW COMMAND: keeps the peer's of the shape that ours last measured
peer_product() {
    shape="$(number in)x$(number out)"
    "$2" -t "$threads" "$shape" >"$tmp/peer" 2>"$tmp/err" || {
        note "$1" "$2 failed at $shape: $(tail -n 1 "$tmp/err")"
        return 1
    }
    for kind in fwd dx dw; do
        keep "product.peer.$kind.$peer_index" \
            "$(awk -F, -v kind=$kind '$2 == kind { print $8 }' "$tmp/peer")"
    done
    sed -n '2s/,.*//p' "$tmp/peer" >"$tmp/peer.$peer_index"
}

# target_of ROW PEER KIND
target_of() {
    case $1,$2,$3 in
    gemm,onednn*,dw) echo 2 ;;
    gemm,onednn*,*) echo 1.1 ;;
    fp32*,*blas*,*) echo 0.9 ;;
    esac
}

# put_product ROW LABEL KIND: a line for each peer, or one without
put_product() {
    none=1
    for named in "$tmp"/peer.[0-9]*; do
        theirs=$(median "product.peer.$3.${named##*.}")
        [ -n "$theirs" ] || continue
        none=0
        peer=$(cat "$named")
        put "$1" "$2 $3" "$(median "product.$3")" TFLOP/s "$peer" "$theirs" \
            "$(target_of "$1" "$peer" "$3")" "$(median product.peak)"
    done
    [ $none = 0 ] || put "$1" "$2 $3" "$(median "product.$3")" TFLOP/s "" "" "" \
        "$(median product.peak)"
}

# products ROW LEVEL PRECISION CONFIG PEERS: all shapes of a model, in turns with the peers
products() {
    for weight in qkv o gate+up down head; do
        forget product
        for _ in $(seq "$rounds"); do
            product "$1" "$4" "$weight" "$2" "$3" || return 1
            peer_index=0
            for peer_command in $5; do
                peer_index=$((peer_index + 1))
                peer_product "$1" "$peer_command"
            done
        done
        for kind in fwd dx dw; do
            put_product "$1" "$4 $weight" $kind
        done
    done
}

row_gemm() {
    ours gemm bin/mundwerk bench peak --json --threads "$threads" || return
    level=$(word cpu_level)
    if [ "$level" != amx ]; then
        note gemm "skipped: no bf16 tile unit here; row fp32 has the products in fp32"
        return
    fi
    peers=${BENCH_ONEDNN:-}
    flags=${ONEDNN:+-I$ONEDNN/include -L$ONEDNN/lib -Wl,-rpath,$ONEDNN/lib}
    # shellcheck disable=SC2086
    if [ -z "$peers" ] && build_peer peer_onednn peer_onednn.c $flags -ldnnl; then
        peers=$built/peer_onednn
    fi
    [ -n "$peers" ] || note gemm "no peer: oneDNN 3 not found (ONEDNN=PREFIX, BENCH_ONEDNN)"
    products gemm amx bf16 german120m "$peers"
    products gemm amx bf16 german1b "$peers"
}

row_fp32() {
    peers=${BENCH_BLAS:-}
    flags=${OPENBLAS_FLAGS:-$(pkg-config --cflags --libs openblas 2>/dev/null)}
    # shellcheck disable=SC2086
    if [ -z "$peers" ] &&
        build_peer peer_openblas peer_blas.c -DPEER_NAME='"openblas"' $flags -lopenblas; then
        peers=$built/peer_openblas
    fi
    [ -n "$peers" ] || note fp32 "no peer: OpenBLAS not found (OPENBLAS_FLAGS, BENCH_BLAS)"
    for level in avx512 avx2; do
        MUNDWERK_CPU=$level bin/mundwerk bench gemm --json --config german120m --weight o \
            >"$tmp/json" 2>/dev/null
        if [ "$(word cpu_level)" != $level ]; then
            note "fp32" "$level skipped: not on this machine"
            continue
        fi
        case $level in
        avx512) export OPENBLAS_CORETYPE=SkylakeX ;;
        avx2) export OPENBLAS_CORETYPE=Haswell ;;
        esac
        OPENBLAS_NUM_THREADS=$threads
        export OPENBLAS_NUM_THREADS
        products "fp32-$level" $level fp32 german120m "$peers"
    done
    unset OPENBLAS_CORETYPE OPENBLAS_NUM_THREADS
}

# --- kernels -------------------------------------------------------------------------

# A number's target is for a bf16 tile unit.
row_attention() {
    ours attention bin/mundwerk bench peak --json --threads "$threads" || return
    level=$(word cpu_level)
    precision=fp32
    [ "$level" = amx ] && precision=bf16
    for _ in $(seq "$rounds"); do
        ours attention "$BENCH_KERNELS" --csv "$level" || return
        for pass in forward backward; do
            for heads in 12 32; do
                line=$(awk -F, -v p=$precision -v pass=$pass -v H=$heads \
                    '$2 == p && $3 == pass && $4 == 1 && $5 == 2048 && $6 == H' "$tmp/json")
                keep "attention.$pass.$heads" "$(echo "$line" | cut -d, -f9)"
                keep attention.peak "$(echo "$line" | cut -d, -f11)"
            done
        done
    done
    for heads in 12 32; do
        for pass in forward backward; do
            target=
            [ $precision$pass = bf16forward ] && target=1.5
            [ $precision$pass = bf16backward ] && target=1.4
            put attention "T=2048 $heads heads $pass" "$(median attention.$pass.$heads)" TFLOP/s \
                "" "" "$target" "$(median attention.peak)"
        done
    done
}

# The last layer and its loss within a step, from the table of --profile on standard error: the
# FLOPs of three products by the time that these and the softmax take.
row_head() {
    for _ in $(seq "$rounds"); do
        step head --config german120m --steps 3 --profile || return
        keep_step head
        keep head.speed "$(awk '$1 == "loss" {
            i = 2
            while (i < NF && $i !~ /^[0-9]/)
                i++
            ms += $i
            for (j = i; j < NF; j++)
                if ($(j + 1) == "TFLOP/s")
                    tflop += $i / 1000 * $j
        } END { if (ms > 0) print tflop / (ms / 1000) }' "$tmp/err")"
    done
    target=
    [ "$(word precision)" = bf16 ] && target=2.7
    put head "german120m head and loss in a step" "$(median head.speed)" TFLOP/s "" "" "$target" \
        "$(median head.peak)"
}

row_update() {
    ours update bin/mundwerk bench peak --json --threads "$threads" || return
    level=$(word cpu_level)
    for _ in $(seq "$rounds"); do
        ours update "$BENCH_UPDATE" --csv "$level" || return
        sed 1d "$tmp/json" | tr -d '"' | sed 's/, / /g' >"$tmp/update"
        while IFS=, read -r _ variant _ _ rate triad; do
            keep update.triad "$triad"
            keep "update.$variant" "$(echo "$rate $triad" | awk '{ print 100 * $1 / $2 }')"
        done <"$tmp/update"
    done
    cut -d, -f2 "$tmp/update" | while read -r variant; do
        put update "AdamW $variant" "$(median "update.$variant")" "% triad" "" "" 90 \
            "$(median update.triad)" GB/s
    done
}

# --- all ------------------------------------------------------------------------------

for row in $rows; do
    case $row in
    step | step1b | torch | llmc | gemm | attention | head | update | fp32) ;;
    *)
        echo "no row $row" >&2
        exit 2
        ;;
    esac
done
: "${BENCH_KERNELS:?run it by make bench}" "${BENCH_UPDATE:?run it by make bench}"
ours machine bin/mundwerk bench peak --json --threads "$threads" || exit 1
machine="$(word cpu), level $(word cpu_level), $threads threads, load $(cut -d' ' -f1 /proc/loadavg)"
commit=$(git describe --always --dirty --exclude='*' 2>/dev/null || echo unknown)
echo "# $(date -u +%Y-%m-%dT%H:%MZ), $machine, commit $commit" | tee "$out"
echo "$columns" >>"$out"
printf '%-11s %-34s %8s %-9s %-30s %8s %9s %-3s  %s\n' row measured ours unit peer ratio target met \
    peak
for row in $rows; do
    "row_$row"
done
echo "written to $out"
