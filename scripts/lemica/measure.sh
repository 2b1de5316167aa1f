#!/bin/sh
# Measures LeMiCa's graphs of a model and solves schedules: scripts/lemica/measure.sh [MODEL [PROMPTS]]. Run from the root.
# MODEL/lemica_graph.json is what `--cache lemica --set cache.budget=N` reads; MODEL/schedules has a file for each budget, for
# --schedule. Schedules carry sigmas: those of 25 steps serve 20 and 50 steps too. Interrupted, the same command goes on.
# f32: in bf16 the rounding of the network hides what short jumps cost.
set -eu
model=${1:-models/tiny} prompts=${2:-scripts/lemica/calibrate.txt} budgets=5,6,7,8,10,12,15,18
mkdir -p "$model/schedules"
for reuse in residual velocity; do
    graph=$model/lemica_graph.json name=lemica
    [ $reuse = residual ] || { graph=$model/lemica_graph_velocity.json name=lemica-velocity; }
    ./praxino schedule build -m "$model" --prompts "$prompts" --dtype f32 --reuse $reuse -o "$graph"
    ./praxino schedule solve "$graph" --budget $budgets --json "$model/schedules/$name-%d.json"
    ./praxino schedule show "$graph" "$model/schedules/$name-6.json" "$model/schedules/$name-12.json" --png "$model/schedules/$name.png"
done
