#!/bin/sh
# --device cuda: what is missing is said (exit 4); with the emulated device everything runs on it, and what does not is refused.
. "$PRX_SOURCE/tests/cli/lib.sh"
emulation=$PRX_BINARY/tests/libpraxino_cuda_emu.so

# shellcheck disable=SC2086
render() { "$PRAXINO" render "a red ball" $quick "$@"; }

PRAXINO_CUDA_MODULE=$tmp/none.so
PRAXINO_EMU_SPLIT=1             # the emulated device's memory is out of the host's reach
export PRAXINO_CUDA_MODULE PRAXINO_EMU_SPLIT
expect 4 "no module" "$PRAXINO" doctor --device cuda
says "no CUDA module" "no module"
expect 4 "no module" render --device cuda -o "$tmp/a.y4m"
absent "$tmp/a.y4m"
expect 0 "doctor without a module" "$PRAXINO" doctor
check "doctor says why" grep -q "no CUDA module" "$tmp/out"
echo "not a library" >"$tmp/text.so"
expect 4 "not a library" env PRAXINO_CUDA_MODULE="$tmp/text.so" "$PRAXINO" doctor --device cuda
says "cannot be loaded" "not a library"
expect 0 "auto: what is not there is not missed" render --device auto -o "$tmp/auto.y4m" --dtype f32 -v
checks_nothing=$(grep -c "device auto" "$tmp/err")
check "nothing is said of it" test "$checks_nothing" = 0
expect 0 "auto: nothing qualified" env PRAXINO_CUDA_MODULE="$emulation" "$PRAXINO" doctor -v
says "device auto: cpu, not emulation on the host" "auto: nothing qualified"
expect 0 "the CPU needs no module" render --device cpu -o "$tmp/cpu.y4m" --dtype f32

[ -f "$emulation" ] || finish
PRAXINO_CUDA_MODULE=$emulation
expect 0 "doctor" "$PRAXINO" doctor --device cuda
check "doctor names the device" grep -q "emulation on the host" "$tmp/out"
check "doctor says who serves attention" grep -q "attention.*attn (mma.sync)" "$tmp/out"
expect 0 "doctor on an emulated Hopper" env PRAXINO_EMU_CHIP=90 "$PRAXINO" doctor --device cuda
check "doctor names the kernel for Hopper" grep -q "attention.*attn90" "$tmp/out"
expect 4 "cuDNN that is not there" env PRAXINO_CUDA_ATTENTION=cudnn PRAXINO_CUDNN=/nowhere/libcudnn.so "$PRAXINO" doctor --device cuda
says "/nowhere/libcudnn.so" "cuDNN that is not there"
expect 2 "a kernel that nobody knows" env PRAXINO_CUDA_ATTENTION=best "$PRAXINO" doctor --device cuda
expect 0 "doctor" "$PRAXINO" doctor --device cuda
check "doctor lists kernels" grep -q "attn .*not yet run on hardware" "$tmp/out"
expect 0 "render" render --device cuda -o "$tmp/cuda.y4m" --dtype f32 --stats "$tmp/stats.json"
check "stats say who serves attention" grep -q '"attention":[[:space:]]*"attn (mma.sync)' "$tmp/stats.json"
check "stats say where" grep -q '"transformer":[[:space:]]*"cuda"' "$tmp/stats.json"
check "the same picture" "$PRAXINO" compare "$tmp/cpu.y4m" "$tmp/cuda.y4m" --json "$tmp/compare.json"
psnr=$(sed -n 's/.*"clip":[[:space:]]*\([0-9.]*\).*/\1/p' "$tmp/compare.json" | head -n 1)
check "PSNR ${psnr:-inf}" awk -v p="${psnr:-99}" 'BEGIN { exit !(p > 50) }'
expect 0 "render in bf16" render --device cuda -o "$tmp/bf16.y4m"
expect 0 "a video that says how it was made" render --device cuda -o "$tmp/how.mkv" --set vae.conv=ours --dump "$tmp/how.st"
expect 0 "and is made again" "$PRAXINO" render --from "$tmp/how.mkv" -m "$model" --device cuda --progress none -o "$tmp/b.mkv" \
    --dump "$tmp/again.st"
check "the same latents and frames" cmp "$tmp/how.st" "$tmp/again.st"
check "stats: everything" grep -q '"decoder":[[:space:]]*"cuda"' "$tmp/stats.json"

# Convolutions of the decoder: who computes them is measured, or said; a stand-in takes the place of cuDNN.
expect 2 "convolutions by nobody" render --device cuda -o "$tmp/b.y4m" --set vae.conv=best
says "auto" "convolutions by nobody"
expect 4 "cuDNN on the CPU" render --device cpu -o "$tmp/b.y4m" --set vae.conv=cudnn
expect 4 "cuDNN that is not used" render --device cuda -o "$tmp/b.y4m" --set vae.conv=cudnn
library=$PRX_BINARY/tests/fake_cudnn.so
if [ -f "$library" ]; then
    by_library() { PRAXINO_CUDNN=$library PRAXINO_CUDA_TUNE=1 PRAXINO_CACHE=$tmp/cache render --device cuda "$@"; }
    expect 4 "cuDNN in f32" by_library -o "$tmp/b.y4m" --dtype f32 --set vae.conv=cudnn
    expect 0 "convolutions by cuDNN" by_library -o "$tmp/c1.y4m" --set vae.conv=cudnn --stats "$tmp/conv.json"
    check "stats: by cuDNN" grep -q '"by":[[:space:]]*"cudnn"' "$tmp/conv.json"
    check "stats: measured" grep -q '"remembered":[[:space:]]*false' "$tmp/conv.json"
    check "the file is there" grep -q '^praxino choices 1$' "$tmp/cache/cuda.choices"
    expect 0 "again" by_library -o "$tmp/c2.y4m" --set vae.conv=cudnn --stats "$tmp/conv.json"
    check "stats: remembered" grep -q '"remembered":[[:space:]]*true' "$tmp/conv.json"
    check "the same bytes" cmp -s "$tmp/c1.y4m" "$tmp/c2.y4m"
    echo "not a file of choices" >"$tmp/cache/cuda.choices"
    expect 0 "a foreign file" by_library -o "$tmp/c2.y4m" --set vae.conv=cudnn
    says "measured again" "a foreign file"
    check "the same bytes" cmp -s "$tmp/c1.y4m" "$tmp/c2.y4m"
    expect 0 "convolutions by us" by_library -o "$tmp/c2.y4m" --set vae.conv=ours
    check "nearly the same picture" "$PRAXINO" compare "$tmp/c1.y4m" "$tmp/c2.y4m" --json "$tmp/compare.json"
    psnr=$(sed -n 's/.*"psnr":[[:space:]]*\([0-9.]*\).*/\1/p' "$tmp/compare.json" | head -n 1)
    check "convolutions: PSNR ${psnr:-inf}" awk -v p="${psnr:-99}" 'BEGIN { exit !(p > 40) }'
    check "algorithms of products are there too" grep -q '^[0-9a-f]* gemm/emulation_on_the_host' "$tmp/cache/cuda.choices"
    expect 2 "a switch that is neither" env PRAXINO_CUDA_TUNE=yes "$PRAXINO" doctor --device cuda
    expect 0 "doctor with cuDNN" env PRAXINO_CUDNN="$library" "$PRAXINO" doctor --device cuda
    check "doctor says who serves convolutions" grep -q "convolutions.*cuDNN 91900" "$tmp/out"
    # Attention: the same, and lists by pages or not at all.
    by_page() { PRAXINO_CUDA_ATTENTION=paged by_library "$@" -m "$builtin"; }
    long="--width 128 --height 128 --frames 33 --plan"
    sparse="--attention radial --set attention.block=64 --set attention.dense_timesteps=0 --set attention.decay=0.05"
    expect 0 "doctor that measures" env PRAXINO_CUDNN="$library" PRAXINO_CUDA_TUNE=1 "$PRAXINO" doctor --device cuda
    check "doctor says that times decide" grep -q "attention.*by measurement of each shape: .*cuDNN" "$tmp/out"
    expect 0 "attention that is measured" by_library -m "$builtin" --guidance 1 -o "$tmp/c2.y4m" --stats "$tmp/attn.json"
    check "stats: attention" grep -q '"shape":[[:space:]]*"4 heads of 64' "$tmp/attn.json"
    check "stats: its times" grep -q '"attn_us":[[:space:]]*[0-9]' "$tmp/attn.json"
    check "remembered, too" grep -q '^[0-9a-f]* attention/emulation_on_the_host' "$tmp/cache/cuda.choices"
    # shellcheck disable=SC2086
    expect 4 "lists that change, by pages" by_page -o "$tmp/b.y4m" $long --attention svg2 --set attention.num_k_centroids=8
    says "paged: lists that change" "lists that change, by pages"
    # shellcheck disable=SC2086
    expect 0 "a plan with pages" by_page -o "$tmp/b.y4m" $sparse $long
    check "its table is counted" grep -q "attention policy *132 bytes" "$tmp/out"
    # shellcheck disable=SC2086
    expect 0 "a plan without" env PRAXINO_CUDA_ATTENTION=portable "$PRAXINO" render "a red ball" $quick -m "$builtin" --device cuda \
        -o "$tmp/b.y4m" $sparse $long
    check "no table" grep -q "attention policy *52 bytes" "$tmp/out"
    # shellcheck disable=SC2086
    expect 4 "pages in f32" by_page -o "$tmp/b.y4m" $sparse $long --dtype f32
    says "paged: it has bf16" "pages in f32"
fi

# Planes come from the device, with the bytes that the CPU makes of RGB; a dump, a callback and PNG need RGB, and the plan says so.
expect 0 "the plan" render --device cuda -o "$tmp/yuv.y4m" --plan
check "planes" grep -q "YUV 4:2:0" "$tmp/out"
expect 0 "the plan with a dump" render --device cuda -o "$tmp/yuv.y4m" --plan --dump "$tmp/yuv.safetensors"
check "RGB for a dump" grep -q "RGB: the dump" "$tmp/out"
expect 0 "the plan of pictures" render --device cuda -o "$tmp/%d.png" --plan
check "RGB for pictures" grep -q "RGB: the file" "$tmp/out"
for side in 32 48; do
    expect 0 "planes" render --device cuda -o "$tmp/yuv.y4m" --width $side
    expect 0 "RGB" render --device cuda -o "$tmp/rgb.y4m" --width $side --dump "$tmp/yuv.safetensors"
    check "the same planes at $side" cmp -s "$tmp/yuv.y4m" "$tmp/rgb.y4m"
done
rm -f "$tmp/yuv.safetensors"

# A cache takes the decisions that it takes on the CPU, and the picture is that of the CPU.
both() {
    name=$1
    shift
    expect 0 "$name on the CPU" render --dtype f32 --device cpu -o "$tmp/$name-cpu.y4m" --stats "$tmp/$name-cpu.json" "$@"
    expect 0 "$name" render --dtype f32 --device cuda -o "$tmp/$name.y4m" --stats "$tmp/$name.json" "$@"
    for f in "$name-cpu" "$name"; do
        sed -n 's/.*"decision":[[:space:]]*"\([a-z]*\)".*/\1/p' "$tmp/$f.json" >"$tmp/$f.txt"
    done
    check "$name decides alike" cmp -s "$tmp/$name-cpu.txt" "$tmp/$name.txt"
    check "$name: compare" "$PRAXINO" compare "$tmp/$name-cpu.y4m" "$tmp/$name.y4m" --json "$tmp/compare.json"
    psnr=$(sed -n 's/.*"clip":[[:space:]]*\([0-9.]*\).*/\1/p' "$tmp/compare.json" | head -n 1)
    check "$name: PSNR ${psnr:-inf}" awk -v p="${psnr:-99}" 'BEGIN { exit !(p > 50) }'
}
both dbcache --steps 4 --cache dbcache --set cache.max_warmup_steps=2 --set cache.residual_diff_threshold=10 --set cache.calibrator=newton
both svg2 --steps 3 --attention svg2 --set attention.first_times_fp=0.3 --set attention.first_layers_fp=0 --set attention.num_k_centroids=8
check "svg2 has a density" grep -q '"attention_density":[[:space:]]*0\.[0-9]' "$tmp/svg2.json"
for seeding in farthest random; do
    both $seeding --steps 2 --attention svg2 --set attention.first_times_fp=0 --set attention.first_layers_fp=0 \
        --set attention.num_k_centroids=8 --set attention.seeding=$seeding --set attention.empty_clusters=reseed
done
both easycache --steps 4 --cache easycache --set cache.ret_steps=2 --set cache.thresh=10
expect 3 "device memory that will not do" env PRAXINO_EMU_MEMORY=100000 "$PRAXINO" render "a ball" -m "$model" --device cuda \
    -o "$tmp/b.y4m" --width 32 --height 32 --frames 5
says "device memory" "device memory"
expect 3 "a decoder that does not fit" env PRAXINO_EMU_MEMORY=4000000 "$PRAXINO" render "a ball" -m "$model" --device cuda \
    -o "$tmp/b.y4m" --width 128 --height 128 --frames 1
says "for the decoder" "a decoder that does not fit"
expect 3 "a budget that will not do" render --device cuda -o "$tmp/b.y4m" --vram-budget 0.0001
says "two blocks at a time" "a budget that will not do"
expect 2 "a budget without a device" render --device cpu -o "$tmp/b.y4m" --vram-budget 1
# What is read back: probes of lists, traces, dumps. The same numbers as the CPU's, up to the last bits of f32.
alike() {
    check "$1: as many numbers" [ "$(wc -l <"$2")" = "$(wc -l <"$3")" ]
    paste "$2" "$3" >"$tmp/pairs"
    check "$1: the same numbers" awk '{ d = $1 - $2; size = 1 + ($1 < 0 ? -$1 : $1); if (!(d <= size / 10000 && d >= -size / 10000)) bad++ }
        END { exit bad > 0 || NR == 0 }' "$tmp/pairs"
}
seen="--dtype f32 --attention svg2 --set attention.first_times_fp=0 --set attention.first_layers_fp=0
    --set attention.num_k_centroids=8 --set attention.probe=true --set dump_layer=1 --set dump_step=1"
for d in cpu cuda; do
    # shellcheck disable=SC2086
    expect 0 "probe, dump and trace: $d" render $seen --device $d -o "$tmp/seen.y4m" --stats "$tmp/seen-$d.json" --dump "$tmp/$d.st" \
        --record-trace "$tmp/trace-$d.json"
    grep -o '"attention_[re][a-z]*_layers":[^]]*' "$tmp/seen-$d.json" | tr -s '[:space:],[' '\n' | grep '^[0-9]' >"$tmp/probe-$d"
    tr -s '[]:, ' '\n' <"$tmp/trace-$d.json" | grep '^-\{0,1\}[0-9]' >"$tmp/trace-$d"
    tail -c 2304 "$tmp/$d.st" | od -An -v -tf4 -w4 >"$tmp/dump-$d"       # q, k and v
done
for cache in magcache teacache; do
    for d in cpu cuda; do
        expect 0 "calibration of $cache: $d" render --dtype f32 --steps 7 --device $d -o "$tmp/seen.y4m" --cache $cache \
            --set cache.calibrate="$tmp/$cache-$d.json"
        tr -s '[]:,[:space:]' '\n' <"$tmp/$cache-$d.json" | grep '^-\{0,1\}[0-9]' >"$tmp/$cache-$d"
    done
    alike "calibration of $cache" "$tmp/$cache-cpu" "$tmp/$cache-cuda"
done
alike "probe" "$tmp/probe-cpu" "$tmp/probe-cuda"
alike "trace" "$tmp/trace-cpu" "$tmp/trace-cuda"
alike "dump" "$tmp/dump-cpu" "$tmp/dump-cuda"
# A tool on a file needs no device, nor minds one.
for d in cpu cuda; do
    expect 0 "mask: $d" "$PRAXINO" mask svg2 "$tmp/cuda.st" --device $d --set attention.num_k_centroids=8 --json "$tmp/mask-$d.json"
done
check "the same mask" cmp -s "$tmp/mask-cpu.json" "$tmp/mask-cuda.json"
# The model that comes with the command has six blocks of sizes in multiples of 16: 8-bit weights on an emulated Hopper. Without guidance,
# which makes the difference of two passes larger than they are.
expect 4 "fp8 on the CPU" render --device cpu -o "$tmp/b.y4m" --set quant=fp8
says "sm_90" "fp8 on the CPU"
expect 4 "fp8 on another chip" render --device cuda -o "$tmp/b.y4m" --set quant=fp8
says "sm_90" "fp8 on another chip"
expect 4 "fp8 for a model of odd sizes" env PRAXINO_EMU_CHIP=90 "$PRAXINO" render ball $quick --device cuda -o "$tmp/b.y4m" --set quant=fp8
says "multiples of 16" "fp8 for a model of odd sizes"
expect 2 "fp8 and f32" env PRAXINO_EMU_CHIP=90 "$PRAXINO" render ball $quick --device cuda -o "$tmp/b.y4m" --set quant=fp8 --dtype f32
expect 2 "steps kept from nothing" render --device cuda -o "$tmp/b.y4m" --set quant_keep=0.1
says "without quant=fp8" "steps kept from nothing"
expect 2 "every step kept" env PRAXINO_EMU_CHIP=90 "$PRAXINO" render ball $quick --device cuda -o "$tmp/b.y4m" --set quant=fp8 \
    --set quant_keep=0.2
says "leaves none of 2 steps" "every step kept"
if [ -f "$builtin/model_index.json" ]; then
    # shellcheck disable=SC2086
    quantised() { env PRAXINO_EMU_CHIP=90 "$PRAXINO" render "a red ball" $quick -m "$builtin" --device cuda --guidance 1 "$@"; }
    for q in none fp8; do
        expect 0 "quant=$q" quantised -o "$tmp/q-$q.y4m" --set quant=$q --stats "$tmp/q-$q.json"
    done
    # Blocks that come from the host, in 8 bits: half of them, and in turns of both types.
    expect 0 "fp8 in little memory, planned" quantised -o "$tmp/q.y4m" --set quant=fp8 --vram-budget 0.011 --plan
    check "fp8: blocks from the host" grep -q "blocks from host *3$" "$tmp/out"
    expect 0 "fp8 in little memory" quantised -o "$tmp/q.y4m" --set quant=fp8 --vram-budget 0.011
    check "fp8 in little memory: the same bytes" cmp -s "$tmp/q-fp8.y4m" "$tmp/q.y4m"
    kept="--steps 3 --set quant=fp8 --set quant_keep=0.1"
    # shellcheck disable=SC2086
    expect 0 "steps kept" quantised $kept -o "$tmp/kept.y4m" --stats "$tmp/kept.json"
    check "steps kept: in the request" grep -q '"quant_keep":[[:space:]]*0.1' "$tmp/kept.json"
    # shellcheck disable=SC2086
    expect 0 "steps kept in little memory, planned" quantised $kept -o "$tmp/q.y4m" --vram-budget 0.0114 --plan
    check "steps kept: blocks from the host" grep -q "blocks from host *4$" "$tmp/out"
    # shellcheck disable=SC2086
    expect 0 "steps kept in little memory" quantised $kept -o "$tmp/q.y4m" --vram-budget 0.0114
    check "steps kept in little memory: the same bytes" cmp -s "$tmp/kept.y4m" "$tmp/q.y4m"
    expect 0 "no steps kept" quantised --steps 3 --set quant=fp8 -o "$tmp/q.y4m"
    check "steps kept: other bytes than without" [ "$(cmp -s "$tmp/kept.y4m" "$tmp/q.y4m"; echo $?)" = 1 ]
    check "quant: in the request" grep -q '"quant":[[:space:]]*"fp8"' "$tmp/q-fp8.json"
    check "quant: compare" "$PRAXINO" compare "$tmp/q-none.y4m" "$tmp/q-fp8.y4m" --json "$tmp/compare.json"
    psnr=$(sed -n 's/.*"clip":[[:space:]]*\([0-9.]*\).*/\1/p' "$tmp/compare.json" | head -n 1)
    check "quant: PSNR ${psnr:-inf}, and not the same" awk -v p="${psnr:-99}" 'BEGIN { exit !(p > 30 && p < 90) }'
fi
expect 4 "a bench of the CPU" "$PRAXINO" bench conv --device cuda
says "step and decode" "a bench of the CPU"
# Benchmarks run on the emulated device; their times mean nothing, what kernels compute does.
small="--set repeats=1 --set tokens=150 --set heads=1"
# shellcheck disable=SC2086
expect 0 "bench attention" env PRAXINO_EMU_CHIP=90 "$PRAXINO" bench attention --device cuda $small --set head_dim=64 --json "$tmp/attn.json"
check "every list on both kernels" [ "$(grep -c '"error"' "$tmp/attn.json")" = 24 ]
check "kernels agree" awk '/"error"/ { n++; gsub(/[",]/, ""); if (!($2 < 0.01)) bad++ } END { exit bad > 0 || n == 0 }' "$tmp/attn.json"
check "svg2: its density, and what it costs" awk '/"attention_svg2"/ { on = 1 } on && /"(density|overhead|share)"/ {
    gsub(/[",]/, ""); if ($2 > 0) n++ } END { exit n != 3 }' "$tmp/attn.json"
# shellcheck disable=SC2086
expect 0 "bench gemm" "$PRAXINO" bench gemm --device cuda $small --set head_dim=32 --set ffn=64
# shellcheck disable=SC2086
expect 0 "bench norm" env PRAXINO_EMU_CHIP=90 "$PRAXINO" bench norm --device cuda $small --set head_dim=32
check "norms into 8 bits" grep -q layernorm_gate_e4m3 "$tmp/out"
tiny="--set repeats=1 --set width=32 --set height=32"
# shellcheck disable=SC2086
expect 0 "bench step" "$PRAXINO" bench step --device cuda $tiny --set frames=1 --set heads=1 --set layers=1 --set ffn=32 --set text=2 \
    --set linear_rate=720 --set attention_rate=690 --json "$tmp/step.json"
# 0.0688128 GFLOP of linear layers, those of 512 rows of text included, and 0.0021135 of attention
check "the floor of a step" awk '/"floor_seconds"/ { gsub(/[",]/, ""); ok = $2 > 9.863e-8 && $2 < 9.864e-8 } END { exit !ok }' \
    "$tmp/step.json"
# shellcheck disable=SC2086
expect 0 "bench decode" "$PRAXINO" bench decode --device cuda $tiny --set frames=5 --set base=8 --json "$tmp/decode.json"
check "a decode took time" grep -q '"workspace_bytes"' "$tmp/decode.json"
absent "$tmp/b.y4m"
finish
