#!/bin/sh
# Measures what the caches need to know of a model: scripts/lemica/measure.sh [MODEL [PROMPTS]]. Run from the root.
#   MODEL/lemica_graph.json, lemica_graph_velocity.json    LeMiCa's graphs; the first is what `--cache lemica --set cache.budget=N` reads
#   MODEL/schedules/                                       schedules of several budgets for --schedule, and a picture of the first
#   MODEL/teacache.json, magcache.json                     the numbers of TeaCache and MagCache
#   MODEL/schedules/teacache-20.json, ...                  the same for 20 and 50 steps
# The two graphs are measured side by side, each on half of the cores: small models leave cores idle otherwise. Interrupted, the same
# command goes on; what was complete is measured anew. Schedules carry sigmas: those of 25 steps serve 20 and 50 steps too.
# f32: in bf16 the rounding of the network hides what short jumps cost.
set -eu
model=${1:-models/tiny} prompts=${2:-scripts/lemica/calibrate.txt} budgets=5,6,7,8,10,12,15,18
steps=${PRX_STEPS:-25}
threads=$(($(nproc) / 2))
[ "$threads" -ge 1 ] || threads=1
begin=$(date +%s)
mkdir -p "$model/schedules"
praxino() { ./praxino "$@"; }
praxino inspect "$model" >/dev/null

graph_of() { if [ "$1" = residual ]; then echo "$model/lemica_graph.json"; else echo "$model/lemica_graph_$1.json"; fi; }

build() {
    praxino schedule build -m "$model" --prompts "$prompts" --steps "$steps" --dtype f32 --threads "$threads" --reuse "$1" \
        --progress "$2" -o "$(graph_of "$1")"
}

# The bar of one speaks for both: they do the same number of steps.
build velocity none &
other=$!
trap 'kill -s TERM $other 2>/dev/null || true' INT TERM
build residual auto
wait $other || { echo "measure: the velocity's graph failed" >&2; exit 1; }
trap - INT TERM

for reuse in residual velocity; do
    graph=$(graph_of $reuse) name=lemica
    [ $reuse = residual ] || name=lemica-$reuse
    praxino schedule solve "$graph" --budget $budgets --json "$model/schedules/$name-%d.json"
    png="--png $model/schedules/lemica.png"
    [ $reuse = residual ] || png=
    # shellcheck disable=SC2086
    praxino schedule show "$graph" "$model/schedules/$name-6.json" "$model/schedules/$name-12.json" $png
done

# Both change with the number of steps: the model's own, and those of the sweeps.
first=$(grep -v '^[[:space:]]*$' "$prompts" | head -n 1)
calibrate() {
    praxino render "$first" -m "$model" --steps "$2" --cache "$1" --set cache.calibrate="$3" --progress none -o out.null
}
for cache in teacache magcache; do
    calibrate $cache "$steps" "$model/$cache.json"
    for n in 20 50; do
        calibrate $cache $n "$model/schedules/$cache-$n.json"
    done
done
echo "measured in $(($(date +%s) - begin)) s" >&2
