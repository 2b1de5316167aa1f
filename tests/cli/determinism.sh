#!/bin/sh
# The same bytes for any number of threads, and again.
. "$PRX_SOURCE/tests/cli/lib.sh"
cd "$tmp" || exit 1
for dtype in f32 bf16; do
    for threads in 1 2 3 2; do
        # shellcheck disable=SC2086
        expect 0 "$dtype, $threads threads" "$PRAXINO" render "a red ball bounces" $quick --dtype $dtype --threads $threads \
            -o now.y4m --dump now.safetensors
        if [ -f "first.$dtype.y4m" ]; then
            check "$dtype: frames of $threads threads" cmp "first.$dtype.y4m" now.y4m
            check "$dtype: latents of $threads threads" cmp "first.$dtype.safetensors" now.safetensors
        else
            cp now.y4m "first.$dtype.y4m"
            cp now.safetensors "first.$dtype.safetensors"
        fi
    done
done
# sparse attention and a cache together, in bf16
printf '{"steps": 4, "computed": [0, 1, 3]}' >schedule.json
sparse="-m $model --steps 4 --frames 17 --width 128 --height 128 --seed 7 --progress none --dtype bf16"
radial="--attention radial --set attention.block=64 --set attention.decay=0.1 --set attention.dense_timesteps=1"
svg2="--attention svg2 --set attention.first_times_fp=0.25"
dbcache="--cache dbcache --set cache.max_warmup_steps=2 --set cache.residual_diff_threshold=0.9"
lemica="--cache lemica --schedule schedule.json"
for run in "$radial $dbcache" "$radial $lemica" "$svg2 $dbcache" "$svg2 $lemica"; do
    for threads in 1 2 3; do
        # shellcheck disable=SC2086
        expect 0 "$run, $threads threads" "$PRAXINO" render "a red ball bounces" $sparse $run --threads $threads -o now.y4m \
            --dump now.$threads.safetensors --stats now.json
        sed -n '/"decision"\|"diff"\|"reason"\|"blocks_computed"\|"attention_density/p' now.json >now.$threads
        check "$run: latents and frames of $threads threads" cmp now.1.safetensors now.$threads.safetensors
        check "$run: decisions of $threads threads" cmp now.1 now.$threads
    done
    check "$run: something is cached" grep -q '"cached"' now.1
    check "$run: and sparse" grep -q '"attention_density":.0\.' now.json
done
# shellcheck disable=SC2086
expect 0 "another seed" "$PRAXINO" render "a red ball bounces" $quick --dtype f32 --seed 8 -o now.y4m
check "is another video" sh -c '! cmp -s first.f32.y4m now.y4m'
finish
