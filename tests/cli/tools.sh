#!/bin/sh
# mask, schedule, replay: known answers, and bad input. Needs no model.
. "$PRX_SOURCE/tests/cli/lib.sh"

expect 0 "radial mask" "$PRAXINO" mask radial --frames 21 --tokens-per-frame 3600 --json "$tmp/mask.json" --png "$tmp/mask.png"
check "kept blocks of 21 x 3600" grep -q '"kept": *92445' "$tmp/mask.json"
check "a picture" test -s "$tmp/mask.png"
expect 2 "no frames" "$PRAXINO" mask radial --frames 0 --tokens-per-frame 64
expect 2 "decay 0" "$PRAXINO" mask radial --frames 3 --tokens-per-frame 64 --decay 0
expect 2 "block 32" "$PRAXINO" mask radial --frames 3 --tokens-per-frame 64 --block 32
expect 0 "mask on the tiles of int8 kernels" "$PRAXINO" mask radial --frames 4 --tokens-per-frame 384 --tile 64x128 --json "$tmp/tile.json"
check "twice the rows" grep -q "\"rows\": *24, *\"cols\": *12" "$tmp/tile.json"
expect 2 "other mask" "$PRAXINO" mask spiral --frames 3 --tokens-per-frame 64

cat >"$tmp/graph.json" <<'G'
{"steps": 7, "max_gap": 3, "edges": [
 {"from": 0, "to": 2, "weight": 1}, {"from": 1, "to": 3, "weight": 2}, {"from": 2, "to": 4, "weight": 2},
 {"from": 2, "to": 5, "weight": 3}, {"from": 3, "to": 5, "weight": 2}, {"from": 4, "to": 6, "weight": 3},
 {"from": 0, "to": 3, "weight": 5}, {"from": 1, "to": 4, "weight": 4}, {"from": 3, "to": 6, "weight": 9}]}
G
expect 0 "schedule solve" "$PRAXINO" schedule solve "$tmp/graph.json" --budget 5 --json "$tmp/schedule.json"
check "the minimax path" sh -c "tr -d ' \n\t' <'$tmp/schedule.json' | grep -q '\"computed\":\[0,2,3,5,6\],\"weights\":\[2,1\]'"
expect 2 "budget below 3" "$PRAXINO" schedule solve "$tmp/graph.json" --budget 2 --json "$tmp/none.json"
expect 2 "budget above the steps" "$PRAXINO" schedule solve "$tmp/graph.json" --budget 8
expect 2 "no budget" "$PRAXINO" schedule solve "$tmp/graph.json"
printf '{"steps": 7, "edges": [{"from": 3, "to": 1, "weight": 1}]}' >"$tmp/back.json"
expect 2 "backward edge" "$PRAXINO" schedule solve "$tmp/back.json" --budget 3 --json "$tmp/none.json"
check "nothing written" test ! -e "$tmp/none.json"

printf '{"steps": 6, "branches": ["cond"], "probes": [[[1], [1.01], [1.02], [1.03], [1.2], [1.21]]]}' >"$tmp/trace.json"
expect 0 "replay" "$PRAXINO" replay "$tmp/trace.json" --set cache.residual_diff_threshold=0.05 \
    --set cache.max_warmup_steps=2 --json "$tmp/replay.json"
check "its decisions" sh -c "tr -d ' \n\t' <'$tmp/replay.json' | grep -q '\[\[\"F\",\"F\",\"C\",\"C\",\"F\",\"C\"\]\]'"
expect 0 "replay under bins" "$PRAXINO" replay "$tmp/trace.json" --set cache.steps_computation_mask=2,2,1,1 \
    --set cache.steps_computation_policy=static --set cache.max_warmup_steps=0 --json "$tmp/bins.json"
check "cached as the bins say" sh -c "tr -d ' \n\t' <'$tmp/bins.json' | grep -q '\[\[\"F\",\"F\",\"C\",\"C\",\"F\",\"C\"\]\]'"
expect 2 "unknown setting" "$PRAXINO" replay "$tmp/trace.json" --set cache.threshhold=1
tr -d '\n' <"$tmp/trace.json" | sed 's/"probes"/"Fn_compute_blocks": 2, "probes"/' >"$tmp/two.json"
expect 2 "probes of other blocks" "$PRAXINO" replay "$tmp/two.json"
says Fn_compute_blocks=2 "probes of other blocks"
tr -d '\n' <"$tmp/trace.json" | sed 's/"probes"/"measured": [[1, 2]], "probes"/' >"$tmp/measured.json"
expect 2 "measured diffs of another shape" "$PRAXINO" replay "$tmp/measured.json"
printf '{"steps": 6, "branches": ["cond"], "probes": [[[1], [1, 2]]]}' >"$tmp/short.json"
expect 2 "trace of another shape" "$PRAXINO" replay "$tmp/short.json"
finish
