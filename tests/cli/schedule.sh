#!/bin/sh
# schedule build, solve, show and their replay: the whole way on a small model; interruption; bad files.
. "$PRX_SOURCE/tests/cli/lib.sh"
cd "$tmp" || exit 1
size="--frames 5 --width 32 --height 32 --threads 2 --dtype f32"
quiet="--progress none"
printf 'a red ball\na blue cube spins\n' >prompts.txt
number() { tr -d ' \n\t' <"$2" | grep -o "\"$1\":[0-9.e-]*" | head -n 1 | cut -d: -f2; }
computed() { tr -d ' \n\t' <"$1" | grep -o '"computed_steps":[0-9]*' | head -n 1 | cut -d: -f2; }

# ---- measured, solved, shown ----

# shellcheck disable=SC2086
build="$PRAXINO schedule build -m $model --prompts prompts.txt --seeds 1-2 $size --steps 8 --max-gap 4"
expect 0 "build" $build $quiet -o graph.json
check "all jumps of 2 to 4 steps" test "$(grep -c '"from"' graph.json)" = 15
check "no state is left" test ! -e graph.json.state
expect 0 "two budgets" "$PRAXINO" schedule solve graph.json --budget 3,5 --json s%d.json
check "a file each" test -s s3.json -a -s s5.json
check "the shortest sum beside it" grep -q shortest_sum s5.json
check "sums agree" sh -c "[ \"$(number sum s3.json)\" ] && [ \"$(number worst_edge s3.json)\" ]"
expect 0 "show" "$PRAXINO" schedule show graph.json s3.json s5.json --png graph.png
check "rows of steps" grep -q '5 of 8 steps computed, worst jump' out
check "a picture" sh -c 'head -c 4 graph.png | grep -q PNG'
expect 0 "show as JSON" "$PRAXINO" schedule show graph.json s3.json --json shown.json
check "its budget" test "$(number budget shown.json)" = 3
check "the weight that solve found" test "$(number worst_edge shown.json)" = "$(number worst_edge s3.json)"
expect 0 "velocity, quick" "$PRAXINO" schedule build -m "$model" --prompts prompts.txt $size --steps 8 --reuse velocity --quick \
    --progress auto -o quick.json
check "the error of interpolation is told" grep -q 'interpolated: off by .* %' err
check "velocity is recorded" grep -q '"reuse":.*"velocity"' quick.json

# ---- replayed ----

render="$PRAXINO render -m $model $size --seed 9 --progress none"
# shellcheck disable=SC2086
replay() { what=$1; shift; expect 0 "$what" $render "a red ball" --stats stats.json "$@"; }
replay "a schedule" --steps 8 -o a.y4m --cache lemica --schedule s5.json
check "five steps computed" test "$(computed stats.json)" = 5
check "the residual reused, as measured" grep -q 'schedule: residual reused' stats.json
replay "a budget of that graph" --steps 8 -o b.y4m --cache lemica --set cache.budget=5 --set cache.graph=graph.json
check "the same video" cmp a.y4m b.y4m
replay "a velocity graph" --steps 8 -o c.y4m --cache lemica --set cache.budget=4 --set cache.graph=quick.json
check "the velocity reused, as measured" grep -q 'schedule: velocity reused' stats.json
replay "20 steps" --steps 20 -o d.y4m --cache lemica --schedule s5.json
check "five of 20 computed" test "$(computed stats.json)" = 5
replay "another shift" --steps 12 --shift 7 -o d.y4m --cache lemica --schedule s5.json
check "five of 12 computed" test "$(computed stats.json)" = 5
cp -r "$model" "$tmp/own"
cp graph.json own/lemica_graph.json
sed 's/"model":.*"model"/"model": "own"/' graph.json >own/lemica_graph.json
expect 0 "the model's own graph" "$PRAXINO" render -m own $size --seed 9 --progress none "a red ball" --steps 8 -o e.y4m \
    --cache lemica --set cache.budget=5
check "again the same video" cmp a.y4m e.y4m

# ---- two experts: budgets of their own ----

experts=$PRX_SOURCE/tests/vectors/golden/wan22_a14b/model
# shellcheck disable=SC2086
expect 0 "build for two experts" "$PRAXINO" schedule build -m "$experts" --prompts prompts.txt $size --steps 10 --shift 5 $quiet -o two.json
boundary=$(number boundary_step two.json)
check "the boundary is recorded" test "$boundary" -ge 3 -a "$boundary" -le 7
expect 0 "a budget for both, two with one each" "$PRAXINO" schedule solve two.json --budget "5,2+4,$boundary+2" --json two-%d.json
# split FILE: computed steps of the experts, as 2,4
split() { tr -d ' \n\t' <"$1" | grep -o '"computed_by_expert":\[[0-9,]*' | head -n 1 | cut -d[ -f2; }
check "as asked" test "$(split two-2+4.json)" = 2,4
check "all of one expert" test "$(split "two-$boundary+2.json")" = "$boundary,2"
check "the best split" test "$(split two-5.json | awk -F, '{ print $1 + $2 }')" = 5
# its split, asked for, is the same schedule
expect 0 "that split" "$PRAXINO" schedule solve two.json --budget "$(split two-5.json | tr , +)" --json same.json
check "is the same schedule" cmp two-5.json same.json
expect 0 "shown" "$PRAXINO" schedule show two.json two-2+4.json --png two.png
check "the boundary is told" grep -q "low-noise expert from step $boundary" out
check "and the split" grep -q '6 of 10 steps computed (2 high-noise, 4 low-noise)' out
pair="$PRAXINO render x -m $experts $size --seed 9 --progress none"
# shellcheck disable=SC2086
two() { what=$1; shift; expect 0 "$what" $pair --stats stats.json "$@"; }
two "replayed" --steps 10 --shift 5 -o t.y4m --cache lemica --schedule two-2+4.json
check "six steps computed" test "$(computed stats.json)" = 6
two "solved when rendered" --steps 10 --shift 5 -o u.y4m --cache lemica --set cache.graph=two.json --set cache.budget=2+4
check "the same video" cmp t.y4m u.y4m
two "other steps and shift" --steps 23 --shift 7 -o v.y4m --cache lemica --set cache.graph=two.json --set cache.budget=2+4
check "as many" test "$(computed stats.json)" = 6
# shellcheck disable=SC2086
expect 0 "plan" $pair --plan --steps 23 --shift 7 -o v.y4m --cache lemica --set cache.graph=two.json --set cache.budget=2+4
check "as many of each expert" grep -q '6 of 23 steps are computed (2 of [0-9]* high-noise, 4 of [0-9]* low-noise)' out err
# refuse_two NAME TEXT FLAGS
refuse_two() {
    # shellcheck disable=SC2086
    expect 2 "$1" $pair --shift 5 -o w.y4m --cache lemica $3
    says "$2" "$1"
    absent w.y4m
}
refuse_two "too few for the first" 'high-noise expert between' "--steps 10 --set cache.graph=two.json --set cache.budget=9+3"
refuse_two "too many for the second" 'low-noise expert between' "--steps 10 --set cache.graph=two.json --set cache.budget=2+8"
refuse_two "no budget" 'as 6+5' "--steps 10 --set cache.graph=two.json --set cache.budget=2+"
refuse_two "too few steps in an expert" 'steps of the high-noise expert; the job has' \
    "--steps 10 --set shift=1 --schedule two-$boundary+2.json"
for b in 0+4 99+4 2+1 2+9 2+ +4 2+4+1; do
    expect 2 "budget $b" "$PRAXINO" schedule solve two.json --budget $b --json no.json
    absent no.json
done
expect 2 "two budgets for one expert" "$PRAXINO" schedule solve graph.json --budget 2+3 --json no.json
says "one expert" "two budgets for one expert"
absent no.json
expect 2 "and when rendered" $render x --steps 8 -o no.y4m --cache lemica --set cache.graph=graph.json --set cache.budget=2+3
absent no.y4m
sed 's/"model":/"was":/' two-2+4.json >any.json
expect 2 "a schedule of two experts for a model of one" $render x --steps 10 -o no.y4m --cache lemica --schedule any.json
says "two experts" "for a model of one"
absent no.y4m

# ---- dense, sparse or skipped ----

wide="--frames 33 --width 64 --height 64 --threads 2 --dtype f32 --steps 6 --progress none"
radial="--attention radial --set attention.block=64 --set attention.dense_timesteps=0 --set attention.dense_layers=0"
# shellcheck disable=SC2086
expect 0 "both kinds of jumps" "$PRAXINO" schedule build -m "$model" --prompts prompts.txt $wide $radial --sparse --max-gap 3 \
    -o both.json
check "7 dense jumps, 13 sparse" test "$(grep -c '"from"' both.json)" = 20 -a "$(grep -c '"attention":.*"sparse"' both.json)" = 13
graph="--cache lemica --set cache.graph=both.json"
# shellcheck disable=SC2086
joint() { what=$1; shift; expect 0 "$what" "$PRAXINO" render x -m "$model" $wide $radial $graph --stats stats.json -o j.y4m "$@"; }
joint "time for four dense steps" --set cache.cost=4 --set cache.sparse_cost=0.5 --set cache.cached_cost=0.125
# of every pass: "cached" or its density
tr -d ' \n\t' <stats.json | grep -o '"decision":"[a-z]*","reason":[^{]*"attention_density":[0-9.a-z]*' |
    sed 's/.*:"cached".*/cached/; s/.*://' >passes
check "what was run costs that much" awk '
    { cost += $1 == "cached" ? 0.125 : $1 < 1 ? 0.5 : 1; sparse += $1 != "cached" && $1 < 1 }
    END { exit !(NR == 12 && cost > 6 && cost <= 8 && sparse > 0) }' passes
joint "time for all" --set cache.cost=6 --set cache.sparse_cost=0.5
check "all are computed" test "$(computed stats.json)" = 6
check "and dense" sh -c '! grep -q "\"attention_density\":.*0\." stats.json'
# refuse_joint NAME TEXT FLAGS
refuse_joint() {
    # shellcheck disable=SC2086
    expect 2 "$1" "$PRAXINO" render x -m "$model" $wide $graph -o j2.y4m $3
    says "$2" "$1"
    absent j2.y4m
}
cost="--set cache.cost=4 --set cache.sparse_cost=0.5 --set cache.cached_cost=0.125"
refuse_joint "sparse steps without a sparse attention" 'sparse attention' "$cost"
refuse_joint "no time of a sparse step" 'cache.sparse_cost: missing' "$radial --set cache.cost=4"
refuse_joint "too little time" 'no path is as cheap' "$radial --set cache.cost=0.5 --set cache.sparse_cost=0.5"
refuse_joint "a budget as well" 'exclude each other' "$radial $cost --set cache.budget=4"
refuse_joint "a graph of dense jumps" 'no sparse jumps' "$radial $cost --set cache.graph=graph.json"

# ---- interrupted ----

env --default-signal=INT,TERM $build -f 33 -W 128 -H 128 --progress json -o cut.json 2>log &
pid=$!
for _ in $(seq 600); do
    grep -q '"step": [1-9][0-9]' log && break
    kill -0 $pid 2>/dev/null || break
    sleep 0.05
done
kill -s INT $pid 2>/dev/null
code=0
wait $pid || code=$?
check "interrupted gives 130, not $code" test $code = 130
check "says what goes on" grep -q 'cut.json.state keeps' log
check "no graph" test ! -e cut.json
check "a state" test -s cut.json.state
expect 2 "other settings" $build -f 33 -W 128 -H 128 --shift 5 $quiet -o cut.json
says "shift" "what differs is named"
expect 0 "goes on" $build -f 33 -W 128 -H 128 $quiet -o cut.json
expect 0 "without a break" $build -f 33 -W 128 -H 128 $quiet -o whole.json
check "the same graph" cmp cut.json whole.json
check "the state is gone" test ! -e cut.json.state

# ---- bad input: one line, exit code 2, nothing written ----

bad() {
    what=$1; shift
    expect 2 "$what" "$@"
    absent no.json no.y4m
}
graph() { printf '{"steps": 6, "max_gap": 3, "edges": [%s]}' "$2" >"$1"; }
graph cycle.json '{"from": 1, "to": 3, "weight": 1}, {"from": 3, "to": 1, "weight": 1}'
graph self.json '{"from": 2, "to": 2, "weight": 1}'
graph nan.json '{"from": 0, "to": 2, "weight": NaN}'
graph inf.json '{"from": 0, "to": 2, "weight": Infinity}'
graph negative.json '{"from": 0, "to": 2, "weight": -1}'
graph beyond.json '{"from": 4, "to": 6, "weight": 1}'
graph long.json '{"from": 0, "to": 4, "weight": 1}'
graph twice.json '{"from": 0, "to": 2, "weight": 1}, {"from": 0, "to": 2, "weight": 1}'
graph missing.json '{"from": 0, "to": 2, "weight": 1}'
printf '{"steps": 6, "boundary_step": 2, "edges": [{"from": 1, "to": 3, "weight": 1}]}' >passes.json
for f in cycle self nan inf negative beyond long twice passes; do
    bad "solve $f" "$PRAXINO" schedule solve $f.json --budget 4 --json no.json
    says "$f.json" "$f: names the file"
    bad "show $f" "$PRAXINO" schedule show $f.json --png no.json
    bad "replay $f" $render x --steps 6 -o no.y4m --cache lemica --set cache.budget=4 --set cache.graph=$f.json
done
bad "missing edges leave no path" "$PRAXINO" schedule solve missing.json --budget 3 --json no.json
for b in 0 1 9 -3 x 4.5 '' 3,,5 3,9; do
    bad "budget $b" "$PRAXINO" schedule solve graph.json --budget "$b" --json no%d.json
done
absent no3.json
for b in 1 9; do
    bad "replay of budget $b" $render x --steps 8 -o no.y4m --cache lemica --set cache.budget=$b --set cache.graph=graph.json
done
bad "no graph beside the model" $render x --steps 8 -o no.y4m --cache lemica --set cache.budget=4
bad "several budgets in one file" "$PRAXINO" schedule solve graph.json --budget 4,5 --json no.json
sed 's/"model":.*"model"/"model": "other"/' s5.json >other.json
bad "a schedule of another model" $render x --steps 8 -o no.y4m --cache lemica --schedule other.json
says "made for model other" "the model is named"
bad "shown beside this graph" "$PRAXINO" schedule show graph.json other.json --png no.json
sed 's/"model":.*"model"/"model": "other"/' graph.json >other-graph.json
bad "a graph of another model" $render x --steps 8 -o no.y4m --cache lemica --set cache.budget=4 --set cache.graph=other-graph.json
says "made for model other" "its model is named"
bad "more computed steps than the job has" $render x --steps 4 -o no.y4m --cache lemica --schedule s5.json
printf '{"steps": 8, "computed": [0, 3, 8]}' >beyond.json
bad "a schedule beyond its steps" $render x --steps 8 -o no.y4m --cache lemica --schedule beyond.json
printf '{"steps": 8, "computed": [0, 3, 7]}' >fixed.json
bad "without sigmas for other steps" $render x --steps 9 -o no.y4m --cache lemica --schedule fixed.json
{ printf '{"steps": 6, "edges": ['; head -c 100000000 /dev/zero | tr '\000' ' '; printf ']}'; } >huge.json
bad "100 MB of graph" "$PRAXINO" schedule solve huge.json --budget 4 --json no.json
bad "100 MB of schedule" $render x --steps 6 -o no.y4m --cache lemica --schedule huge.json
bad "100 MB of trace" "$PRAXINO" replay huge.json --json no.json
bad "100 MB of graph to show" "$PRAXINO" schedule show huge.json --png no.json
bad "100 MB of graph to replay" $render x --steps 6 -o no.y4m --cache lemica --set cache.budget=4 --set cache.graph=huge.json
bad "100 MB of ratios" $render x --steps 6 -o no.y4m --cache magcache --set cache.mag_ratios=huge.json
rm huge.json
build="$PRAXINO schedule build -m $model $quiet $size --steps 8 -o no.json"
bad "no prompts" $build
bad "prompts absent" $build --prompts none.txt
printf '\n' >empty.txt
bad "prompts empty" $build --prompts empty.txt
for s in x 5-3 1,1 '' 1, 0-99999; do
    bad "seeds $s" $build --prompts prompts.txt --seeds "$s"
done
bad "a gap of 1" $build --prompts prompts.txt --max-gap 1
bad "an unknown setting" $build --prompts prompts.txt --set cache.order_=1
bad "a cache" $build --prompts prompts.txt --set cache=dbcache
bad "an attention with memory" $build --prompts prompts.txt --attention svg2
bad "an option of another part" "$PRAXINO" schedule solve graph.json --budget 4 --steps 8
bad "another part" "$PRAXINO" schedule plan graph.json
bad "a folder that is not there" "$PRAXINO" schedule build -m "$model" $quiet --prompts prompts.txt -o none/graph.json
finish
