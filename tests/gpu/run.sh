#!/bin/sh
# The first thing to run on a machine with a GPU (sm_80 or newer) and CUDA 13: builds, checks every kernel against the CPU's numbers, the
# network against diffusers', a render against the CPU's, then measures what is still only expected, the most wanted first
# (docs/SPEED.md), and leaves logs, JSON and an updated ledger in $OUT (default: out). At most 8 minutes: what there is no time for
# is said and left out.
#   OUT=/tmp/out tests/gpu/run.sh
# A kernel is entered in the ledger only when all its checks passed here, on hardware.
set -u
root=$(cd -- "$(dirname -- "$0")/../.." && pwd -P)
OUT=${OUT:-$root/out}
build=${PRX_BUILD:-$root/build-gpu}
jobs=$(nproc 2>/dev/null || echo 4)
mkdir -p "$OUT"
started=$(date +%s)
passed=0 failed=0
: >"$OUT/summary.txt"
say() { printf '%s\n' "$*" | tee -a "$OUT/summary.txt"; }

# step NAME SECONDS CMD...: its output goes to $OUT/NAME.log.
step() {
    name=$1 limit=$2
    shift 2
    if [ $(($(date +%s) - started)) -gt 440 ]; then
        say "no time  $name"
        return 1
    fi
    begin=$(date +%s)
    if timeout "$limit" "$@" >"$OUT/$name.log" 2>&1; then
        passed=$((passed + 1))
        echo "$name" >>"$OUT/passed.txt"
        say "passed  $name  $(($(date +%s) - begin)) s"
        return 0
    fi
    failed=$((failed + 1))
    say "FAILED  $name: $(tail -n 1 "$OUT/$name.log")"
    return 1
}

: >"$OUT/passed.txt"
command -v nvidia-smi >/dev/null 2>&1 || { say "no nvidia-smi: no GPU here"; exit 4; }
gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -n 1)
nvidia-smi >"$OUT/nvidia-smi.txt"
say "GPU: $gpu"
step configure 60 cmake -S "$root" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DPRX_TESTS=ON -DPRX_CUDA=ON \
    -DPRX_CUDA_ARCHS=native || exit 1
step build 420 cmake --build "$build" -j "$jobs" --target praxino_cuda praxino_cli cuda_norm cuda_act cuda_attention cuda_ops \
    cuda_conv cuda_quant cuda_dit cuda_vae || exit 1

cd "$root" || exit 1
PRAXINO_CUDA_MODULE=$build/libpraxino_cuda.so
PRAXINO_DATA=$root
PRAXINO_CACHE=$OUT/cache            # what is measured of convolutions and products
export PRAXINO_CUDA_MODULE PRAXINO_DATA PRAXINO_CACHE
step doctor 60 "$build/praxino" doctor --device cuda
for t in ops norm act attention conv quant dit; do
    step "$t" 120 "$build/tests/cuda_$t"
done
step vae 60 "$build/tests/cuda_vae" wan21_patch2
# attention and dit above: as this machine chooses. Each kernel by itself:
chip=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1)
step attention_portable 60 env PRAXINO_CUDA_ATTENTION=portable "$build/tests/cuda_attention"
if [ "$chip" = 9.0 ]; then
    step attention_hopper 60 env PRAXINO_CUDA_ATTENTION=hopper "$build/tests/cuda_attention"
    step dit_hopper 60 env PRAXINO_CUDA_ATTENTION=hopper "$build/tests/cuda_dit"
fi
step attention_cudnn 60 env PRAXINO_CUDA_ATTENTION=cudnn "$build/tests/cuda_attention"
if command -v compute-sanitizer >/dev/null 2>&1; then
    step memcheck 120 compute-sanitizer --tool memcheck --error-exitcode 1 "$build/tests/cuda_norm" layernorm
    step racecheck 120 compute-sanitizer --tool racecheck --error-exitcode 1 "$build/tests/cuda_norm" rmsnorm
fi
for device in cpu cuda; do
    step "render_$device" 120 "$build/praxino" render "a red ball bounces on a blue floor" --device $device --dtype f32 --progress none \
        -o "$OUT/$device.y4m" --stats "$OUT/render_$device.json"
done
# In bf16: who computes each convolution, and how long either takes, is in the stats.
for by in auto ours cudnn; do
    step "render_conv_$by" 60 "$build/praxino" render "a red ball bounces on a blue floor" --device cuda --progress none \
        --set "vae.conv=$by" -o "$OUT/conv_$by.y4m" --stats "$OUT/render_conv_$by.json"
done
# What the first run must measure, in order: dense attention and lists by every kernel at three sizes, linear layers, row ops, whole steps.
bench() {
    name=$1
    shift
    step "bench_$name" 120 "$build/praxino" bench "$@" --device cuda --json "$OUT/bench_$name.json"
}
nvidia-smi -q >"$OUT/device.txt"
bench attention_480p_12 attention --set tokens=32760 --set heads=12
bench attention_480p_40 attention --set tokens=32760 --set heads=40 --set repeats=3
bench attention_720p_40 attention --set tokens=75600 --set heads=40 --set repeats=2
bench gemm_14b gemm --set tokens=75600 --set heads=40 --set ffn=13824
bench gemm_1b gemm --set tokens=32760
bench norm_14b norm --set tokens=75600 --set heads=40
bench norm_1b norm --set tokens=32760
bench step_1b step --set width=832 --set height=480 --set frames=81
bench step_14b_2_layers step --set width=832 --set height=480 --set frames=81 --set heads=40 --set ffn=13824 --set layers=2

step compare 60 "$build/praxino" compare "$OUT/cpu.y4m" "$OUT/cuda.y4m" --json "$OUT/compare.json"
cmake -DROOT="$root" -DPRINT=ON -P "$root/cmake/ledger.cmake" 2>"$OUT/kernels.txt" >/dev/null

# Which checks stand for which source. rms_silu is in norm, so ops counts there too.
checks_of() {
    case $1 in
    norm) echo "norm ops dit" ;;
    act) echo "act dit" ;;
    attn) echo "attention_portable" ;;
    attn90) echo "attention_hopper dit_hopper" ;;
    attn_simple) echo "attention dit" ;;
    gemm_lt) echo "ops quant dit" ;;
    quant) echo "quant" ;;
    patch) echo "ops dit" ;;
    conv | conv_simple) echo "conv vae" ;;
    frame) echo "ops vae" ;;
    *) echo "ops" ;;
    esac
}

# GFLOP/s of a kernel of attention in the benches above.
timings_of() {
    case $1 in attn) kernel=portable ;; attn90) kernel=attn90 ;; *) return ;; esac
    cat "$OUT"/bench_attention_*.json 2>/dev/null | tr -d '",\t' | awk -v kernel="$kernel" '
        $1 == "op:" { op = $2 } $1 == "shape:" { shape = $2 } $1 == "kernel:" { k = $2 } $1 == "density:" { density = $2 }
        $1 == "gflops:" && k == kernel { printf "%s\"%s %s %.2f\": %.0f", n++ ? ", " : "", op, shape, density, $2 }'
}

# A new ledger beside the old one; copying it over tests/gpu/ledger.json is a decision of who ran this.
cp "$root/tests/gpu/ledger.json" "$OUT/ledger.json"
while read -r name hash _; do
    good=1 list=
    for c in $(checks_of "$name"); do
        grep -qx "$c" "$OUT/passed.txt" || good=0
        digest=$(sha256sum "$OUT/$c.log" 2>/dev/null | cut -c 1-16)
        list="$list${list:+, }\"$c\": \"$digest\""
    done
    [ $good = 1 ] || continue
    row="{\"hash\": \"$hash\", \"gpu\": \"$gpu\", \"date\": \"$(date -u +%F)\", \"checks\": {$list}, \"timings\": {$(timings_of "$name")}}"
    sed -i "s|\"$name\": {.*}\(,\{0,1\}\)\$|\"$name\": $row\1|" "$OUT/ledger.json"
done <"$OUT/kernels.txt"
say "$passed passed, $failed failed; ledger for these sources: $OUT/ledger.json"
[ "$failed" = 0 ]
