#!/bin/sh
# The first thing to run on a machine with a GPU (sm_80 or newer) and CUDA 13: builds, checks every kernel against the CPU's numbers, the
# network against diffusers', a render against the CPU's, then measures what is still only expected, the most wanted first
# (docs/SPEED.md), and leaves logs, JSON and an updated ledger in $OUT (default: out). At most 8 minutes: what there is no time for
# is said and left out.
#   OUT=/tmp/out tests/gpu/run.sh
# Where gpu-pack.tar.xz of tests/gpu/pack.sh lies in the root, nothing is built: a machine without our packages will do.
# A kernel is entered in the ledger only when all its checks passed here, on hardware.
# PRX_GPU_DRY=FOLDER: a build folder, whose emulated device takes the GPU's place, everything tiny: a test of this script.
set -u
root=$(cd -- "$(dirname -- "$0")/../.." && pwd -P)
OUT=${OUT:-$root/out}
dry=${PRX_GPU_DRY:-}
build=${PRX_BUILD:-$root/build-gpu}
jobs=$(nproc 2>/dev/null || echo 4)
mkdir -p "$OUT"
started=$(date +%s)
passed=0 failed=0
: >"$OUT/summary.txt"
: >"$OUT/passed.txt"
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
    say "FAILED  $name: $(grep -v '^kcheck: seed' "$OUT/$name.log" | tail -n 1)"
    return 1
}

# Folders of NVIDIA's libraries that the loader does not know: a toolkit's, or those of Python packages.
nvidia_folders() {
    for library in libcublasLt.so.13 libcudnn.so.9; do
        ldconfig -p 2>/dev/null | grep -q "$library" && continue
        # shellcheck disable=SC2046
        find /usr/local/cuda*/ $(python3 -c 'import nvidia; print(*nvidia.__path__)' 2>/dev/null) -name "$library" 2>/dev/null |
            head -n 1 | sed 's|/[^/]*$||'
    done | sort -u | tr '\n' ':'
}

unpack() {
    build=$OUT/unpacked
    mkdir -p "$build"
    tar -C "$build" -xJf "$root/gpu-pack.tar.xz" || exit 1
    libraries=$build/lib
    # what the compiler brings along is the machine's, where it has one
    for old in "$build"/lib/compiler/*; do
        ldconfig -p 2>/dev/null | grep -q "$(basename "$old")" || cp "$old" "$build/lib/"
    done
}

if [ -n "$dry" ]; then
    build=$dry gpu=emulation chip=8.0
    PRAXINO_CUDA_MODULE=$build/tests/libpraxino_cuda_emu.so
else
    command -v nvidia-smi >/dev/null 2>&1 || { say "no nvidia-smi: no GPU here"; exit 4; }
    gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -n 1)
    chip=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1)
    nvidia-smi -q >"$OUT/device.txt"
    libraries=                          # those of the pack
    if [ -f "$root/gpu-pack.tar.xz" ]; then
        unpack
    else
        step configure 60 cmake -S "$root" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DPRX_TESTS=ON -DPRX_CUDA=ON \
            -DPRX_CUDA_ARCHS=native || exit 1
        step build 420 cmake --build "$build" -j "$jobs" --target praxino_cuda praxino_cli cuda_norm cuda_act cuda_attention cuda_ops \
            cuda_conv cuda_quant cuda_dit cuda_vae cuda_paged || exit 1
    fi
    PRAXINO_CUDA_MODULE=$build/libpraxino_cuda.so
    folders=$(nvidia_folders)
    LD_LIBRARY_PATH=$libraries${libraries:+:}$folders${LD_LIBRARY_PATH:-}
    export LD_LIBRARY_PATH
    [ -z "$folders" ] || say "NVIDIA's libraries: $folders"
fi
say "GPU: $gpu, sm_$chip"
cd "$root" || exit 1
cmake -DROOT="$root" -DPRINT=ON -P "$root/cmake/ledger.cmake" 2>"$OUT/kernels.txt" >/dev/null
if [ -f "$build/kernels.txt" ] && ! cmp -s "$build/kernels.txt" "$OUT/kernels.txt"; then
    say "gpu-pack.tar.xz is of other sources: run tests/gpu/pack.sh again"
    exit 1
fi
PRAXINO_DATA=$root
PRAXINO_CACHE=$OUT/cache            # what is measured of attention, convolutions and products
export PRAXINO_CUDA_MODULE PRAXINO_DATA PRAXINO_CACHE

# ---- right ----

step doctor 60 "$build/praxino" doctor --device cuda || exit 1
checks="ops norm act attention conv quant dit"
[ -z "$dry" ] || checks="act quant"
for t in $checks; do
    step "$t" 120 "$build/tests/cuda_$t"
done
# attention and dit above: as this machine chooses. Each kernel by itself:
by_kernel() {
    by=$1
    shift
    for t in "$@"; do
        step "${t}_$by" 60 env PRAXINO_CUDA_ATTENTION="$by" "$build/tests/cuda_$t"
    done
}
if [ -z "$dry" ]; then
    step vae 60 "$build/tests/cuda_vae" wan21_patch2
    by_kernel portable attention
    [ "$chip" != 9.0 ] || by_kernel hopper attention dit
    by_kernel cudnn attention
    step attention_paged 60 "$build/tests/cuda_paged"       # lists of its own: not every list has pages
    if command -v compute-sanitizer >/dev/null 2>&1; then
        step memcheck 120 compute-sanitizer --tool memcheck --error-exitcode 1 "$build/tests/cuda_norm" layernorm
        step racecheck 120 compute-sanitizer --tool racecheck --error-exitcode 1 "$build/tests/cuda_norm" rmsnorm
    fi
fi

prompt="a red ball bounces on a blue floor"
small=
[ -z "$dry" ] || small="-W 32 -H 32 -f 5 -s 2"
render() {
    name=$1
    shift
    # shellcheck disable=SC2086
    step "render_$name" 120 "$build/praxino" render "$prompt" $small --progress none -o "$OUT/$name.y4m" \
        --stats "$OUT/render_$name.json" "$@"
}
render cpu --device cpu --dtype f32
render cuda --device cuda --dtype f32
if [ -d "$build/lib" ]; then
    say "not compared: no FFmpeg in the pack; where there is one: ./praxino compare cpu.y4m cuda.y4m"
else
    step compare 60 "$build/praxino" compare "$OUT/cpu.y4m" "$OUT/cuda.y4m" --json "$OUT/compare.json"
fi
# In bf16: who computes each convolution, and how long either takes, is in the stats.
render conv_auto --device cuda
[ -n "$dry" ] || for by in ours cudnn; do
    render "conv_$by" --device cuda --set "vae.conv=$by"
done
[ "$chip" != 9.0 ] || render fp8 --device cuda --set quant=fp8

# ---- fast: what the first run must measure, in order ----

bench() {
    name=$1
    shift
    step "bench_$name" 120 "$build/praxino" bench "$@" --device cuda --json "$OUT/bench_$name.json"
}
if [ -n "$dry" ]; then
    bench attention_dry attention --set tokens=150 --set heads=1 --set head_dim=64 --set repeats=1
    bench gemm_dry gemm --set tokens=40 --set heads=1 --set head_dim=64 --set ffn=64 --set repeats=1
    bench decode_dry decode --set width=32 --set height=32 --set frames=1 --set base=8 --set repeats=1
else
    h200="--set linear_rate=720 --set attention_rate=690"       # the floor of gpu.md 1.4
    p480="--set width=832 --set height=480 --set frames=81" p720="--set width=1280 --set height=720 --set frames=81"
    b14="--set heads=40 --set ffn=13824 --set layers=4"         # a tenth of the model: its blocks are alike
    bench attention_480p_12 attention --set tokens=32760 --set heads=12
    bench attention_480p_40 attention --set tokens=32760 --set heads=40 --set repeats=3
    bench attention_720p_40 attention --set tokens=75600 --set heads=40 --set repeats=2
    # shellcheck disable=SC2086
    {
        bench step_1b_480p step $p480 $h200 --set attention=radial
        bench step_14b_480p step $p480 $b14 $h200 --set attention=radial
        bench decode_480p decode $p480
        bench step_1b_480p_svg2 step $p480 $h200 --set attention=svg2
        bench step_1b_720p step $p720 $h200 --set attention=radial --set repeats=2
        bench step_14b_720p step $p720 $b14 $h200 --set attention=radial --set repeats=2
    }
    bench gemm_14b gemm --set tokens=75600 --set heads=40 --set ffn=13824
    bench gemm_1b gemm --set tokens=32760
    bench norm_14b norm --set tokens=75600 --set heads=40
    bench norm_1b norm --set tokens=32760
    # Beside diffusers, where it is installed.
    if python3 -c 'import diffusers, torch' 2>/dev/null; then
        step model 60 python3 scripts/make_random_model.py "$OUT/wan13"
        step diffusers_480p 200 python3 scripts/bench_vs_diffusers.py "$OUT/wan13" --library "$build${libraries:+/lib}/libpraxino.so.0" \
            --device cuda -W 832 -H 480 -f 81 --rounds 2 --then attention=radial --json "$OUT/diffusers.json" --markdown "$OUT/diffusers.md"
        rm -rf "$OUT/wan13"
    else
        say "no diffusers here: scripts/bench_vs_diffusers.py --device cuda was not run"
    fi
fi
rm -rf "$OUT/unpacked"

# ---- the ledger ----

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
