#!/bin/sh
# Queries and keys of a layer into the dump, and the cluster map of them: `render --dump`, `mask svg2`.
. "$PRX_SOURCE/tests/cli/lib.sh"
dump=$tmp/run.safetensors
# shellcheck disable=SC2086
render() { "$PRAXINO" render "a red ball" $quick -W 128 -H 128 -f 9 -o "$tmp/out.y4m" "$@"; }
map() { "$PRAXINO" mask svg2 "$dump" "$@"; }
number() { sed -n "s/.*\"$2\":[ \t]*\([0-9.e-]*\).*/\1/p" "$1" | head -n 1; }

expect 0 "render with q, k, v" render --dump "$dump" --set dump_layer=1 --set dump_step=0
expect 0 "summary" map
for what in '^density' '^recall' 'q median'; do check "it has $what" grep -q "$what" "$tmp/out"; done
expect 0 "map" map --set attention.num_q_centroids=5 --set attention.num_k_centroids=20 --set top_p_kmeans=0.6 --set min_kc_ratio=0 \
    --json "$tmp/map.json" --png "$tmp/map.png"
check "a picture" test "$(head -c 4 "$tmp/map.png" | tail -c 3)" = PNG
check "clusters as asked for" sh -c "test $(number "$tmp/map.json" q_clusters) = 5 && test $(number "$tmp/map.json" k_clusters) = 20"
ones=$(sed -n '/"mask"/,$p' "$tmp/map.json" | sed 's/"[a-z]*"//g' | tr -cd 1 | wc -c)
check "kept counts the map" test "$ones" = "$(number "$tmp/map.json" kept)"
density=$(number "$tmp/map.json" density) recall=$(number "$tmp/map.json" recall)
check "sparse, and keeps more mass than pairs" awk "BEGIN { exit !($density > 0 && $density < 1 && $recall > $density && $recall < 1) }"
expect 0 "everything kept" map --set top_p_kmeans=1 --json "$tmp/all.json"
check "density and recall 1" awk "BEGIN { exit !($(number "$tmp/all.json" density) == 1 && $(number "$tmp/all.json" recall) > 0.99) }"
expect 0 "the same bytes on one thread" map --threads 1 --set attention.num_q_centroids=5 --set attention.num_k_centroids=20 \
    --set top_p_kmeans=0.6 --set min_kc_ratio=0 --json "$tmp/one.json"
check "the same map" cmp -s "$tmp/map.json" "$tmp/one.json"

# dense attention of that dump, timed and written
expect 0 "bench qkv" "$PRAXINO" bench qkv --set "file=$dump" --set "output=$tmp/o.safetensors" --set repeats=1 --json "$tmp/bench.json"
check "a row" grep -q '"attention_dense"' "$tmp/bench.json"
check "an output" test -s "$tmp/o.safetensors"
expect 2 "bench qkv without a file" "$PRAXINO" bench qkv
expect 2 "an attention that is not there" "$PRAXINO" bench step --set attention=radail
expect 2 "a setting that it has not" "$PRAXINO" bench step --set attention=radial --set attention.top_p_kmeans=0.5

expect 2 "no file" "$PRAXINO" mask svg2
expect 2 "missing file" "$PRAXINO" mask svg2 "$tmp/none.safetensors"
expect 2 "head out of range" map --head 99
expect 2 "p of 0" map --set attention.top_p_kmeans=0
expect 2 "unknown setting" map --set attention.top_p=0.5
says "top_p_kmeans" "suggestion"
expect 2 "more clusters than tokens" map --set attention.num_k_centroids=100000
expect 2 "a grid that does not divide" map --frames 7 --row 5
expect 2 "option of the other mask" map --decay 1
expect 2 "option of the other mask" "$PRAXINO" mask radial --frames 3 --tokens-per-frame 64 --head 1
expect 0 "dump without a layer" render --dump "$dump"
expect 2 "no q" map
says "dump_layer" "how to get one"
absent "$tmp/none.json"

expect 2 "layer without dump" render --set dump_layer=0
expect 2 "layer out of range" render --dump "$dump" --set dump_layer=99
expect 2 "step out of range" render --dump "$dump" --set dump_layer=0 --set dump_step=2
rm -f "$dump" "$tmp/out.y4m"
printf '{"steps": 2, "computed": [0]}' >"$tmp/schedule.json"
expect 2 "step that is cached" render --cache lemica --schedule "$tmp/schedule.json" --dump "$dump" --set dump_layer=0 --set dump_step=1
absent "$dump" "$tmp/out.y4m"
finish
