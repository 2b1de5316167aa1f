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
# shellcheck disable=SC2086
expect 0 "another seed" "$PRAXINO" render "a red ball bounces" $quick --dtype f32 --seed 8 -o now.y4m
check "is another video" sh -c '! cmp -s first.f32.y4m now.y4m'
finish
