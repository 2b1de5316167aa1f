#!/bin/sh
# Caches on the command: the line of what was saved, calibration files, traces, and what is refused with nothing written.
. "$PRX_SOURCE/tests/cli/lib.sh"
cd "$tmp" || exit 1
# shellcheck disable=SC2086
render() { "$PRAXINO" render "a red ball" $quick --steps 8 "$@"; }
flat() { tr -d ' \n\t' <"$1"; }

for cache in dbcache easycache dbprune; do
    expect 0 "$cache" render --cache $cache -o x.y4m --progress auto
    says "cache $cache: " "$cache says what it did"
    says "passes " "$cache says why"
done
for cache in teacache magcache; do
    expect 2 "$cache without numbers" render --cache $cache -o none.y4m
    says "cache.calibrate=FILE" "$cache says how they are measured"
    expect 0 "$cache measures" render --cache $cache --set cache.calibrate=$cache.json -o x.y4m
    check "$cache: a file of the model" sh -c "tr -d ' \n\t' <$cache.json | grep -q '\"policy\":\"$cache\",\"model\":\"model\"'"
done
expect 0 "teacache takes its file" render --cache teacache --set cache.coefficients=teacache.json --set cache.teacache_thresh=9 \
    -o x.y4m --stats tea.json
check "and caches" sh -c 'grep -q acc_lt tea.json'
expect 0 "magcache takes its file" render --cache magcache --set cache.mag_ratios=magcache.json --set cache.magcache_thresh=9 \
    -o x.y4m --stats mag.json
check "and caches" sh -c 'grep -q err_lt mag.json'
expect 2 "ratios for a polynomial" render --cache teacache --set cache.coefficients=magcache.json -o none.y4m
expect 2 "no such file" render --cache magcache --set cache.mag_ratios=nowhere.json -o none.y4m
printf '{"policy": "magcache", "cond": [1, 0.9, -1]}' >bad.json
expect 2 "a negative ratio" render --cache magcache --set cache.mag_ratios=bad.json -o none.y4m
printf '{"policy": "magcache", "cond": [1, 0.9, "a"]}' >bad.json
expect 2 "a ratio that is no number" render --cache magcache --set cache.mag_ratios=bad.json -o none.y4m
printf '{"policy": "teacache", "coefficients": [1, 2, 3]}' >bad.json
expect 2 "three coefficients" render --cache teacache --set cache.coefficients=bad.json -o none.y4m
expect 2 "a setting of another cache" render --cache easycache --set cache.magcache_K=2 -o none.y4m
expect 2 "a folder that is not there" render --cache magcache --set cache.calibrate=nowhere/m.json -o none.y4m
expect 2 "seven blocks of three" render --cache dbprune --set cache.Fn_compute_blocks=7 -o none.y4m

# ---- nothing cached: never without a word ----

# idle NAME TEXT FLAGS: nothing is cached, and TEXT is what would change that
idle() {
    # shellcheck disable=SC2086
    expect 0 "$1" render $3 -o x.y4m --progress auto --stats idle.json
    says ", 0 cached" "$1: the count"
    says "nothing was cached, nothing saved; what would change that: " "$1: in words"
    says "$2" "$1: what to change"
    check "$1: in the stats" grep -q '"advice":' idle.json
}
idle "a warm-up as long as the run" "fewer cache.max_warmup_steps" "--cache dbcache --set cache.max_warmup_steps=8"
idle "a warm-up longer than the run" "fewer cache.max_warmup_steps" "--cache dbcache --set cache.max_warmup_steps=99"
idle "dbcache on a short run" "fewer cache.max_warmup_steps, or more steps" "--cache dbcache --steps 3"
idle "a small threshold" "a larger cache.residual_diff_threshold" "--cache dbcache --set cache.residual_diff_threshold=1e-9"
idle "a threshold of 0" "a cache.residual_diff_threshold above 0" "--cache dbcache --set cache.residual_diff_threshold=0"
idle "no cached steps wanted" "more cache.max_cached_steps" "--cache dbcache --set cache.max_cached_steps=0"
idle "no runs wanted" "more cache.max_continuous_cached_steps" "--cache dbcache --set cache.max_continuous_cached_steps=0"
idle "a mask of ones" "zeros in cache.steps_computation_mask" "--cache dbcache --set cache.steps_computation_mask=11111111"
idle "dbprune on a short run" "fewer cache.max_warmup_steps, or more steps" "--cache dbprune --steps 3"
idle "easycache on a short run" "fewer cache.ret_steps, or more steps" "--cache easycache --steps 5"
idle "easycache, small threshold" "a larger cache.thresh" "--cache easycache --set cache.ret_steps=2 --set cache.thresh=0"
idle "teacache, small threshold" "a larger cache.teacache_thresh" \
    "--cache teacache --set cache.coefficients=teacache.json --set cache.teacache_thresh=0"
idle "magcache, small threshold" "a larger cache.magcache_thresh" \
    "--cache magcache --set cache.mag_ratios=magcache.json --set cache.magcache_thresh=0"
printf '{"steps": 8, "computed": [0, 1, 2, 3, 4, 5, 6, 7]}' >all.json
idle "a schedule of all steps" "a smaller cache.budget, or more steps" "--cache lemica --schedule all.json"
expect 0 "something cached" render --cache dbcache --set cache.residual_diff_threshold=1 -o x.y4m --progress auto --stats busy.json
check "no advice then" sh -c '! grep -q "nothing was cached" err && ! grep -q advice busy.json'
# the policy none has nothing to say
expect 0 "no cache" render -o x.y4m --progress auto
check "nothing is said of it" sh -c '! grep -q "^cache" err'

expect 0 "a trace" render --cache dbcache --set cache.residual_diff_threshold=0.3 --set cache.max_warmup_steps=2 --stats run.json \
    --record-trace trace.json -o x.y4m
expect 0 "its replay" "$PRAXINO" replay trace.json --set cache.residual_diff_threshold=0.3 --set cache.max_warmup_steps=2 --json replay.json
cached=$(flat run.json | grep -o '"decision":"cached"' | wc -l)
check "caches" test "$cached" -gt 0
check "as many passes as the render" test "$(flat replay.json | sed 's/"diffs".*//' | grep -o '"C"' | wc -l)" = "$cached"
expect 2 "a trace of a cache without probes" render --cache easycache --record-trace none.json -o none.y4m
expect 2 "a trace into no folder" render --record-trace nowhere/t.json -o none.y4m
absent none.y4m none.json

# ---- traces of another shape: one line, exit code 2, nothing written ----

bad() {
    what=$1; shift
    expect 2 "$what" "$PRAXINO" replay "$@" --json none.json
    says "$file" "$what: names the file"
    absent none.json
}
# $1: what the trace is; $2: its members
trace() { printf '{%s}' "$2" >bad.json; file=bad.json; bad "a trace with $1" bad.json; }
good='"steps": 3, "branches": ["cond"]'
probes='"probes": [[[1, 2], [1, 3], [2, 2]]]'
printf '{%s, %s}' "$good" "$probes" >ok.json
expect 0 "a small trace" "$PRAXINO" replay ok.json --set cache.max_warmup_steps=1 --json ok.out
check "has three decisions" test "$(flat ok.out | grep -o '"[FC]"' | wc -l)" = 3
trace "no steps" "$probes"
trace "no probes" "$good"
trace "0 steps" "\"steps\": 0, $probes"
trace "2.5 steps" "\"steps\": 2.5, $probes"
trace "a million steps" "\"steps\": 1000000, $probes"
trace "more steps than probes" "\"steps\": 4, $probes"
trace "fewer steps than probes" "\"steps\": 2, $probes"
trace "two names for a branch" "\"steps\": 3, \"branches\": [\"cond\", \"uncond\"], $probes"
trace "a number for names" "\"steps\": 3, \"branches\": 1, $probes"
trace "three branches" "\"steps\": 1, \"probes\": [[[1]], [[1]], [[1]]]"
trace "ragged values" "$good, \"probes\": [[[1, 2], [1], [2, 2]]]"
trace "no values" "$good, \"probes\": [[[], [], []]]"
trace "text for a value" "$good, \"probes\": [[[1, 2], [1, \"2\"], [2, 2]]]"
trace "NaN" "$good, \"probes\": [[[1, 2], [1, NaN], [2, 2]]]"
trace "infinity" "$good, \"probes\": [[[1, 2], [1, 1e999], [2, 2]]]"
trace "an expert too many" "$good, $probes, \"experts\": [0, 0, 1, 1]"
trace "a third expert" "$good, $probes, \"experts\": [0, 1, 2]"
trace "too few diffs" "$good, $probes, \"measured\": [[null, null]]"
trace "a diff without its step" "$good, $probes, \"measured\": [[null, [0.5], null]]"
trace "an infinite diff" "$good, $probes, \"measured\": [[null, [0, 1e999], null]]"
trace "a metric that is no object" "$good, $probes, \"metric\": 1"
trace "the metric of states" "$good, $probes, \"metric\": {\"states\": true}"
printf '[1, 2]' >bad.json; bad "a list" bad.json
printf '{"steps": 3' >bad.json; bad "half a trace" bad.json
: >bad.json; bad "an empty file" bad.json
file=nowhere.json; bad "no file" nowhere.json
file=trace.json; bad "blocks other than recorded" trace.json --set cache.Fn_compute_blocks=2
file=cache.; bad "an unknown option" ok.json --set cache.residual_dif_threshold=1
bad "a threshold that is no number" ok.json --set cache.residual_diff_threshold=nan
bad "an order without a calibrator" ok.json --set cache.order=2
bad "a mask of other steps" ok.json --set cache.steps_computation_mask=10
file=teacache; bad "another cache" ok.json --cache teacache

if [ -f "$builtin/model_index.json" ]; then
    small="-m $builtin --steps 25 --frames 9 --seed 7 --threads 2 --progress none"
    for cache in teacache magcache easycache dbprune dbcache; do
        # shellcheck disable=SC2086
        expect 0 "$cache, built-in model" "$PRAXINO" render "a red ball" $small --cache $cache -o x.y4m --stats s.json
        check "$cache caches something by default" grep -q '"decision":.*"cached"' s.json
    done
fi
finish
