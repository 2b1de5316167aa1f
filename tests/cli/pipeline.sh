#!/bin/sh
# examples/pipeline: each script does what its first lines say.
. "$PRX_SOURCE/tests/cli/lib.sh"
cd "$tmp" || exit 1
export PRAXINO
dir=$PRX_SOURCE/examples/pipeline
flags="-m $model --steps 2 --frames 5 --width 32 --height 32 --seed 7"
printf 'a red ball\n\n# not a prompt\na blue star\na green cat\n' >prompts.txt

# shellcheck disable=SC2086
expect 0 "a batch, two at once" sh "$dir/batch.sh" prompts.txt videos 2 $flags
check "a video for each prompt, nothing else" test "$(ls videos | tr '\n' ' ')" = "0001.mp4 0004.mp4 0005.mp4 "
rm videos/0004.mp4
cp -p videos/0001.mp4 kept.mp4
# shellcheck disable=SC2086
expect 0 "again" sh "$dir/batch.sh" prompts.txt videos $flags
check "only what was missing" test "$(cat "$tmp/out")" = videos/0004.mp4
check "the rest is untouched" test videos/0001.mp4 -ot videos/0004.mp4 -a "$(cksum <kept.mp4)" = "$(cksum <videos/0001.mp4)"
# shellcheck disable=SC2086
expect 1 "a failing line" sh "$dir/batch.sh" prompts.txt other $flags --set cache.nothing=1
check "is named" grep -q 'batch: line 1: praxino: cache.nothing' "$tmp/err"

# as Slurm would call it: one task a line, again after it was requeued
for task in 1 2 4; do
    # shellcheck disable=SC2086
    expect 0 "task $task of an array" env SLURM_ARRAY_TASK_ID=$task SLURM_CPUS_PER_TASK=2 sh "$dir/array.sbatch" prompts.txt slurm $flags
done
check "a video and its stats for each prompt" test "$(ls slurm | tr '\n' ' ')" = "0001.mp4 0001.mp4.json 0004.mp4 0004.mp4.json "
if command -v sbatch >/dev/null 2>&1; then
    check "sbatch reads the script" sbatch --test-only --array=1-2 "$dir/array.sbatch" prompts.txt slurm
fi

if command -v ffmpeg >/dev/null 2>&1; then
    # shellcheck disable=SC2086
    expect 0 "Y4M into ffmpeg" sh "$dir/y4m.sh" "a red ball" big.mp4 64 $flags
    check "its size" test "$(ffprobe -v error -show_entries stream=width,height -of csv=p=0 big.mp4)" = 64,64
    # shellcheck disable=SC2086
    code=0
    sh "$dir/y4m.sh" "a red ball" none.mp4 64 $flags --steps 0 >out 2>err || code=$?
    check "a failing render fails it: $code" test $code != 0
    absent none.mp4 none.part.mp4
    lib=$(dirname "$PRAXINO")/libpraxino.so
    if command -v python3 >/dev/null 2>&1 && [ -f "$lib" ] && [ "${PRX_SANITIZE:-OFF}" = OFF ]; then
        expect 0 "frames through ctypes" env PRAXINO_LIB="$lib" python3 "$dir/stream.py" "$model" "a red ball|a blue star" s.mp4 \
            steps=2 frames=5 width=32 height=32
        check "two clips of five frames" test "$(grep -c '5 frames' "$tmp/out")" = 2
        check "that play" ffmpeg -v error -i s-1.mp4 -f null -
    fi
fi
finish
