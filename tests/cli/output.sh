#!/bin/sh
# What a finished job leaves: names, streams, stats, progress; a full disk leaves nothing.
. "$PRX_SOURCE/tests/cli/lib.sh"
# shellcheck disable=SC2086
render() { "$PRAXINO" render "a red ball" $quick "$@"; }
cd "$tmp" || exit 1
mkdir clips
cd clips || exit 1

expect 0 "a name from the prompt" render
check "it is there" test -s a-red-ball.mp4
cp a-red-ball.mp4 ../first.mp4
expect 0 "a second clip" render
check "it has a name of its own" test -s a-red-ball-2.mp4
check "the first is untouched" cmp a-red-ball.mp4 ../first.mp4
expect 0 "an explicit name" render -o x.mp4 --seed 8
cp x.mp4 ../before.mp4
expect 0 "is replaced" render -o x.mp4 --seed 9
check "by the new clip" sh -c '! cmp -s x.mp4 ../before.mp4'
check "nothing else is left" test "$(find . -type f | wc -l)" = 3
cd ..

for ext in mkv mov webm gif y4m; do
    expect 0 ".$ext" render -o "clip.$ext"
    check ".$ext is there" test -s "clip.$ext"
done
expect 0 "pictures" render -o "frame%04d.png"
check "five of them" test "$(find . -name 'frame*.png' | wc -l)" = 5

expect 0 "a stream" render -o -
cp out stream.y4m
check "Y4M on standard output" cmp stream.y4m clip.y4m
if command -v ffmpeg >/dev/null 2>&1; then
    "$PRAXINO" render "a red ball" $quick -o - --progress none | ffmpeg -v error -y -i - piped.mkv
    check "ffmpeg reads the stream" test -s piped.mkv
fi
code=0
{ "$PRAXINO" render "a red ball" $quick --frames 161 -o - --progress none 2>err; echo $? >code; } | head -c 10 >/dev/null
check "a closed pipe is a failure, not a crash" test "$(cat code)" = 1

expect 0 "stats" render -o s.mp4 --stats stats.json --progress none
check "progress none is silent" test ! -s err
check "stats hold the request" grep -q '"request"' stats.json
check "stats hold the phases" grep -q '"denoise"' stats.json
expect 0 "JSON progress" render -o s.mp4 --progress json
check "only JSON" test "$(grep -cv '^{.*}$' err)" = 0
check "steps are counted" grep -q '"phase": "denoise", "step": 2, "steps": 2' err
check "the end names the file" grep -q '"done".*s.mp4' err
if command -v script >/dev/null 2>&1; then
    for term in xterm dumb; do
        script -qec "TERM=$term $PRAXINO render x ${quick% --progress none} -o s.mp4" /dev/null </dev/null >"$term" 2>&1
    done
    escape=$(printf '\033')
    check "a line is drawn over on a terminal" grep -q "$escape" xterm
    check "not on a dumb one" sh -c "! grep -q '$escape' dumb && grep -q '^denoise' dumb"
fi
expect 0 "a dump" render -o s.mp4 --dump d.safetensors
check "latents of every step" grep -qa '"latents.002"' d.safetensors
# A video says how it was made, and can be made again.
remake() { "$PRAXINO" render --from "$@" -m "$model" --progress none; }
for ext in mp4 mov mkv webm; do
    expect 0 "a clip to repeat" "$PRAXINO" render 'a "red" ball, "seed":3' -m "$model" -s 3 -f 5 -W 32 -H 32 -g 3.25 --progress none \
        --seed 9007199254740993 --set vae.tiling=true --cache dbcache --set cache.Fn_compute_blocks=1 -o "how.$ext" --dump how.safetensors
    expect 0 "--from how.$ext" remake "how.$ext" -o again.mkv --dump again.safetensors
    check "the same latents and frames" cmp how.safetensors again.safetensors
done
expect 0 "flags win" remake how.mp4 --seed 2 -g 2 -o again.mkv --dump again.safetensors
check "another clip" sh -c '! cmp -s how.safetensors again.safetensors'
expect 0 "another dtype" remake how.mp4 --dtype f32 --isa ref -s 1 -o again.mkv
check "is said" grep -q 'made with isa' err
expect 2 "a video without settings" remake clip.y4m -o never.mp4
expect 2 "no video" remake how.safetensors -o never.mp4
expect 2 "no file" remake absent.mp4 -o never.mp4
absent never.mp4

expect 0 "a plan" render -o never.mp4 --plan
absent never.mp4

expect 0 "compare with itself" "$PRAXINO" compare clip.y4m clip.y4m
check "says so" grep -qi identical out
expect 0 "compare as JSON" "$PRAXINO" compare clip.y4m s.mp4 --json c.json
check "no infinity" sh -c '! grep -qi inf c.json'
expect 0 "compare dump and stream" "$PRAXINO" compare d.safetensors clip.y4m
expect 0 "inspect" "$PRAXINO" inspect "$model"
expect 0 "inspect as JSON" "$PRAXINO" inspect "$model" --json i.json

# ---- a full disk ----

code=0
"$PRAXINO" render "a red ball" $quick -o - --progress none >/dev/full 2>err || code=$?
check "full standard output: $code" test "$code" = 1 -o "$code" = 3
code=0
render -o y.mp4 --stats /dev/full >/dev/null 2>err || code=$?
check "full stats: $code" test "$code" = 1 -o "$code" = 3
mkdir small
# other weights for the same model: equal ones give equal bytes, wrong ones are named
cp "$model/transformer/diffusion_pytorch_model.safetensors" weights.safetensors
expect 0 "own weights" "$PRAXINO" render "a red ball" $quick -o own.y4m
expect 0 "the same from a file" "$PRAXINO" render "a red ball" $quick --transformer weights.safetensors -o other.y4m
check "equal weights, equal frames" cmp own.y4m other.y4m
expect 2 "no such weights" "$PRAXINO" render "a red ball" $quick --transformer none.safetensors -o none.y4m
says "none.safetensors" "no such weights"
expect 2 "weights of another part" "$PRAXINO" render "a red ball" $quick -o none.y4m \
    --transformer "$model/vae/diffusion_pytorch_model.safetensors"
check "nothing was written" test ! -e none.y4m

if unshare -rm sh -c 'mount -t tmpfs -o size=16k none small' 2>/dev/null; then
    cat >full.sh <<'EOF'
mount -t tmpfs -o size=16k none small || exit 99
echo old >small/x.y4m
code=0
"$@" -o small/x.y4m || code=$?
[ "$(cat small/x.y4m)" = old ] || exit 98
[ "$(ls small)" = x.y4m ] || exit 97
exit $code
EOF
    code=0
    unshare -rm sh full.sh "$PRAXINO" render "a red ball" $quick --frames 33 --progress none >out 2>err || code=$?
    check "full disk: $code: $(cat err)" test "$code" = 1 -o "$code" = 3
fi
finish
