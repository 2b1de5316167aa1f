#!/bin/sh
# The first thing to run on a machine with a GPU (sm_80 or newer) and CUDA 13: builds, checks every kernel against the CPU's numbers, the
# network against diffusers', a render against the CPU's, and leaves logs and an updated ledger in $OUT (default: out). At most 8 minutes.
#   OUT=/tmp/out tests/gpu/run.sh
# A kernel is entered in the ledger only when all its checks passed here, on hardware.
set -u
root=$(cd -- "$(dirname -- "$0")/../.." && pwd -P)
OUT=${OUT:-$root/out}
build=${PRX_BUILD:-$root/build-gpu}
jobs=$(nproc 2>/dev/null || echo 4)
mkdir -p "$OUT"
passed=0 failed=0
: >"$OUT/summary.txt"
say() { printf '%s\n' "$*" | tee -a "$OUT/summary.txt"; }

# step NAME SECONDS CMD...: its output goes to $OUT/NAME.log.
step() {
    name=$1 limit=$2
    shift 2
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
    cuda_dit || exit 1

cd "$root" || exit 1
PRAXINO_CUDA_MODULE=$build/libpraxino_cuda.so
PRAXINO_DATA=$root
export PRAXINO_CUDA_MODULE PRAXINO_DATA
step doctor 60 "$build/praxino" doctor --device cuda
for t in ops norm act attention dit; do
    step "$t" 120 "$build/tests/cuda_$t"
done
if command -v compute-sanitizer >/dev/null 2>&1; then
    step memcheck 120 compute-sanitizer --tool memcheck --error-exitcode 1 "$build/tests/cuda_norm" layernorm
    step racecheck 120 compute-sanitizer --tool racecheck --error-exitcode 1 "$build/tests/cuda_norm" rmsnorm
fi
for device in cpu cuda; do
    step "render_$device" 120 "$build/praxino" render "a red ball bounces on a blue floor" --device $device --dtype f32 --progress none \
        -o "$OUT/$device.y4m" --stats "$OUT/render_$device.json"
done
step compare 60 "$build/praxino" compare "$OUT/cpu.y4m" "$OUT/cuda.y4m" --json "$OUT/compare.json"
cmake -DROOT="$root" -DPRINT=ON -P "$root/cmake/ledger.cmake" 2>"$OUT/kernels.txt" >/dev/null

# Which checks stand for which source. rms_silu is in norm, so ops counts there too.
checks_of() {
    case $1 in
    norm) echo "norm ops dit" ;;
    act) echo "act dit" ;;
    attn | attn_simple) echo "attention dit" ;;
    gemm_lt) echo "ops dit" ;;
    patch) echo "ops dit" ;;
    *) echo "ops" ;;
    esac
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
    row="{\"hash\": \"$hash\", \"gpu\": \"$gpu\", \"date\": \"$(date -u +%F)\", \"checks\": {$list}, \"timings\": {}}"
    sed -i "s|\"$name\": {.*}\(,\{0,1\}\)\$|\"$name\": $row\1|" "$OUT/ledger.json"
done <"$OUT/kernels.txt"
say "$passed passed, $failed failed; ledger for these sources: $OUT/ledger.json"
[ "$failed" = 0 ]
