#!/bin/sh
# Builds the libFuzzer targets with clang and runs each for a while: tests/fuzz/run.sh [SECONDS]. Run from the root.
set -eu
seconds=${1:-60}
build=${PRX_BUILD:-build-fuzz}
cmake -S . -B "$build" -G Ninja -DPRX_FUZZ=ON -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ >/dev/null
for source in tests/fuzz/*.c; do
    name=$(basename "$source" .c)
    [ "$name" != common ] || continue
    ninja -C "$build" "fuzz_$name" >"$build/build.log" 2>&1 || { tail -n 30 "$build/build.log"; exit 1; }
    mkdir -p "$build/corpus/$name"
    echo "$name"
    "$build/tests/fuzz_$name" -max_total_time="$seconds" -max_len=4096 -rss_limit_mb=4096 -print_final_stats=0 \
        -artifact_prefix="$build/$name-" "$build/corpus/$name" 2>"$build/$name.log" ||
        { tail -n 40 "$build/$name.log"; exit 1; }
    grep -E '^Done' "$build/$name.log"
done
