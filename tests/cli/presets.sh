#!/bin/sh
# Every preset of configs/presets parses, plans, is listed by --help, and is what its name says.
. "$PRX_SOURCE/tests/cli/lib.sh"
need_builtin

"$PRAXINO" render --help >"$tmp/help"
n=0
for file in "$PRX_SOURCE"/configs/presets/*.json; do
    name=$(basename "$file" .json)
    n=$((n + 1))
    expect 0 "preset $name" "$PRAXINO" render x -m "$builtin" --config "$name" -W 512 -H 512 -f 33 --dtype bf16 --plan
    check "$name is listed with a description" grep -Eq "^  $name +[^ ]" "$tmp/help"
    case $name in
    radial-*) check "$name is radial" grep -Eq "attention  +radial" "$tmp/out" ;;
    svg2-*) check "$name is svg2" grep -Eq "attention  +svg2" "$tmp/out" ;;
    esac
done
check "presets found" test "$n" -ge 10
# published numbers, and flags that win
expect 0 "radial of Wan 2.2" "$PRAXINO" render x -m "$builtin" --config radial-wan2.2-t2v-a14b -W 512 -H 512 -f 33 --plan
check "its warm-up" grep -q "dense: 11 steps, 1 layers" "$tmp/out"
expect 0 "svg2 with another p" "$PRAXINO" render x -m "$builtin" --config svg2-wan2.1-t2v-14b -W 512 -H 512 -f 33 --plan \
    --set attention.top_p_kmeans=0.8
check "clusters of the preset, p of the flag" grep -q "300 query and 1000 key clusters a head, p 0.8" "$tmp/out"
check "its expectation" grep -q "sparse density is assumed" "$tmp/out"
for what in "flops saved" "sparse step seconds" "denoise seconds"; do check "the plan has $what" grep -q "$what" "$tmp/out"; done
expect 2 "clip below its clusters" "$PRAXINO" render x -m "$builtin" --config svg2-wan2.1-t2v-14b -W 128 -H 128 -f 9 --plan
expect 2 "unknown preset" "$PRAXINO" render x -m "$builtin" --config svg3
says "svg2-paper" "the presets there are"
finish
