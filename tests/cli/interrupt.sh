#!/bin/sh
# Signals: exit code 130, no file, no temporary file; a saved state goes on to the same video.
. "$PRX_SOURCE/tests/cli/lib.sh"
cd "$tmp" || exit 1
# large enough that a hundred steps take seconds: the signal has to arrive in between
long="-m $model --frames 33 --width 128 --height 128 --seed 7 --threads 2 --dtype f32 --progress none"

# interrupt SIGNAL STEPS ARGS: sends the signal when two steps are done. The exit code is in $code.
interrupt() {
    sig=$1 steps=$2; shift 2
    : >log
    # shellcheck disable=SC2086
    env --default-signal=INT,TERM "$PRAXINO" render "a red ball" $long --steps "$steps" --progress json "$@" 2>log &
    pid=$!
    for _ in $(seq 600); do
        grep -q '"step": 2,' log && break
        kill -0 $pid 2>/dev/null || break
        sleep 0.05
    done
    kill -s "$sig" $pid 2>/dev/null
    code=0
    wait $pid || code=$?
}

for sig in INT TERM; do
    interrupt $sig 1000 -o cut.mp4
    check "$sig gives 130, not $code" test $code = 130
    check "$sig says so" grep -q '^praxino: interrupted' log
    absent cut.mp4
done

echo old >kept.mp4
interrupt INT 1000 -o kept.mp4
check "an old file is untouched" grep -q '^old$' kept.mp4
check "and alone" test "$(find . -name 'kept*' | wc -l)" = 1

for scheduler in unipc dpmpp; do
    # shellcheck disable=SC2086
    expect 0 "$scheduler without a break" "$PRAXINO" render "a red ball" $long --steps 100 --scheduler $scheduler \
        -o whole.y4m
    rm -f state
    interrupt INT 100 --scheduler $scheduler -o cut.y4m --save-state state --save-every 1
    check "$scheduler was interrupted in time: $code" test $code = 130
    check "$scheduler left a state" test -s state
    # shellcheck disable=SC2086
    expect 0 "$scheduler resumed" "$PRAXINO" render "a red ball" $long --steps 100 --scheduler $scheduler -o cut.y4m \
        --resume state
    check "$scheduler: the same video" cmp whole.y4m cut.y4m
done
# shellcheck disable=SC2086
expect 2 "a state of other settings" "$PRAXINO" render "a red ball" $long --steps 101 -o cut2.y4m --resume state
absent cut2.y4m
finish
