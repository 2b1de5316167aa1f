#!/bin/sh
# praxino sweep: rows, metrics, resuming after a kill, refusals, a full disk.
. "$PRX_SOURCE/tests/cli/lib.sh"
cd "$tmp" || exit 1
flags="-m $model --threads 2 --progress none --dtype f32"
base='"base": {"steps": 4, "frames": 5, "width": 32, "height": 32}'
sweep() { "$PRAXINO" sweep "$@"; }

# ---- rows and metrics ----

printf '# two prompts\na red ball\n\na blue star\n' >prompts.txt
cat >spec.json <<EOF
{"prompts": "prompts.txt", "seeds": [0, 7], $base, "keep_clips": true, "repeats": 2,
 "settings": [{"label": "short", "steps": [2, 3]},
              {"cache": "dbcache", "cache.Fn_compute_blocks": 1, "cache.max_warmup_steps": 1, "cache.residual_diff_threshold": 5},
              {"label": "twin", "vae.tiling": false}]}
EOF
# shellcheck disable=SC2086
expect 0 "a sweep" sweep spec.json -o res $flags
check "a table with a line for each setting" test "$(grep -cE "^(reference|short steps=[23]|cache=dbcache|twin) " "$tmp/out")" = 5
python=$(command -v python3 || true)
[ -n "$python" ] || skip "no python3"
cat >rows.py <<'EOF'
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1] + "/results.jsonl")]
keys = [r["key"] for r in rows]
assert len(set(keys)) == len(keys), "a row doubled"
assert len(rows) == int(sys.argv[2]), f"{len(rows)} rows"
EOF
check "the rows are there once" "$python" rows.py res 40
cat >look.py <<'EOF'
import json, os
rows = [json.loads(line) for line in open("res/results.jsonl")]
for r in rows:
    assert r["status"] == "ok", r
    q = r["quality"]
    assert r["seconds"] > 0 and len(r["step_seconds"]) == r["steps"]
    assert abs(r["phases"]["denoise"] + r["phases"]["decode"] - r["seconds"]) < 1e-3 * r["seconds"] + 1e-5
    assert r["peak_memory_bytes"] > 0
    if r["label"] in ("reference", "twin"):
        assert q["identical"] and q["psnr"] is None and q["latent_error"] == 0, r
    elif r["label"].startswith("short"):
        assert r["steps"] in (2, 3) and 0 < q["latent_error"] and q["psnr"] < 100 and 0 < q["ssim"] <= 1, r
    else:
        assert "C" in r["branches"][0]["decisions"] and r["computed_steps"] < r["steps"], r
        assert sum(r["passes"]["cached"].values()) > 0, r
    if r["repeat"] == 0:
        assert os.path.getsize("res/" + r["clip"]) > 0
order = [(r["label"], r["prompt"], r["seed"]) for r in rows if r["repeat"] == 0]
assert order != sorted(order) and len(set(order)) == 20
summary = json.load(open("res/summary.json"))
by = {s["label"]: s for s in summary["settings"]}
assert by["reference"]["identical"] == 8 and abs(by["reference"]["speedup"] - 1) < 1e-9
times = sorted(r["seconds"] for r in rows if r["label"] == "twin")
assert abs(by["twin"]["seconds"]["median"] - (times[3] + times[4]) / 2) < 1e-9
assert len(summary["settings"]) == 5 and summary["rows"] == 40 and summary["failed"] == 0
EOF
check "what the rows say" "$python" look.py
cp res/results.jsonl before
# shellcheck disable=SC2086
expect 0 "again: nothing is left to do" sweep spec.json -o res $flags
check "and nothing was done" cmp before res/results.jsonl

# the numbers of a row are those of render and compare
# shellcheck disable=SC2086
expect 0 "reference by hand" "$PRAXINO" render "a red ball" -m "$model" --threads 2 --dtype f32 --progress none --steps 4 \
    --frames 5 --width 32 --height 32 --seed 7 --dump a.safetensors -o a.y4m
# shellcheck disable=SC2086
expect 0 "setting by hand" "$PRAXINO" render "a red ball" -m "$model" --threads 2 --dtype f32 --progress none --steps 2 \
    --frames 5 --width 32 --height 32 --seed 7 --dump b.safetensors -o b.y4m
expect 0 "compared by hand" "$PRAXINO" compare a.safetensors b.safetensors --json hand.json
cat >same.py <<'EOF'
import json
hand = json.load(open("hand.json"))
row = next(r for r in map(json.loads, open("res/results.jsonl"))
           if r["label"] == "short steps=2" and r["prompt"] == "a red ball" and r["seed"] == 7)
for ours, theirs in ((row["quality"]["psnr"], hand["psnr"]["clip"]), (row["quality"]["ssim"], hand["ssim"]["luma"]),
                     (row["quality"]["motion_psnr"], hand["temporal"]["psnr"])):
    assert abs(ours - theirs) < 1e-5 * abs(theirs), (ours, theirs)
EOF
check "a row equals render and compare" "$python" same.py

# ---- refusals: before anything runs, naming the entry ----

# refuse TEXT NAME JSON: exit code 2, the message has the text, no folder appears.
refuse() {
    printf '%s\n' "$3" >bad.json
    # shellcheck disable=SC2086
    expect 2 "$2" sweep bad.json -o never $flags
    says "$1" "$2"
    absent never
}
p='"prompts": ["a"]'
refuse 'setings: unknown key; did you mean settings?' "unknown key" "{$p, $base, \"setings\": [{}]}"
refuse 'cache.tresh' "unknown setting" "{$p, $base, \"settings\": [{\"cache\": \"none\"}, {\"cache.tresh\": 1}]}"
refuse 'settings[1]' "unknown setting: its entry" "{$p, $base, \"settings\": [{\"steps\": 2}, {\"cache.tresh\": 1}]}"
refuse 'grid: steps: empty list' "empty grid" "{$p, $base, \"grid\": {\"steps\": []}}"
refuse 'nothing to run' "no settings" "{$p, $base}"
refuse 'nothing to run' "empty settings" "{$p, $base, \"settings\": []}"
refuse 'settings[0] (attention=nope)' "a policy that is not there" "{$p, $base, \"settings\": [{\"attention\": \"nope\"}]}"
refuse 'settings[0]' "a setting that cannot run" "{$p, $base, \"settings\": [{\"cache\": \"lemica\", \"schedule\": \"none.json\"}]}"
refuse '64x32' "another size than the reference" "{$p, $base, \"settings\": [{\"width\": 64}]}"
refuse 'the same settings as settings[0]' "twice the same" "{$p, $base, \"settings\": [{\"steps\": 2}, {\"steps\": 2}]}"
refuse 'prompts: empty' "no prompts" "{\"prompts\": [], $base, \"settings\": [{\"steps\": 2}]}"
refuse 'prompts belong' "a prompt in a setting" "{$p, $base, \"settings\": [{\"prompt\": \"b\"}]}"
refuse 'seeds[1]' "a seed that is none" "{$p, $base, \"seeds\": [1, -1], \"settings\": [{\"steps\": 2}]}"
refuse 'config: nope' "a preset that is not there" "{$p, $base, \"settings\": [{\"config\": \"nope\"}]}"
refuse 'dtype' "a dtype that is not there" "{$p, $base, \"settings\": [{\"dtype\": \"f8\"}]}"
ten='[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]'
refuse 'grid: 1000000000 combinations' "a thousand million" "{$p, $base, \"grid\": {\"steps\": $ten,
    \"seed2\": $ten, \"a\": $ten, \"b\": $ten,
    \"c\": $ten, \"d\": $ten, \"e\": $ten, \"f\": $ten, \"g\": $ten}}"
refuse 'settings[0]: label' "a label that is no text" "{$p, $base, \"settings\": [{\"label\": 3}]}"
printf '{"prompts": [' >bad.json
# shellcheck disable=SC2086
expect 2 "not JSON" sweep bad.json -o never $flags
absent never
# shellcheck disable=SC2086
expect 2 "no spec" sweep nothing.json -o never $flags
expect 2 "no folder" sweep spec.json
# shellcheck disable=SC2086
expect 2 "a folder inside nothing" sweep spec.json -o no/such/folder $flags

# ---- grid, config, no reference, a failing row ----

cat >grid.json <<EOF
{"prompts": ["a"], $base, "reference": null, "grid": [{"steps": [1, 2], "dtype": ["f32", "bf16"]}, {"width": [32, 64], "steps": 1}]}
EOF
# shellcheck disable=SC2086
expect 0 "grids without a reference" sweep grid.json -o grids $flags
check "six rows without metrics" "$python" -c "
import json; r = [json.loads(l) for l in open('grids/results.jsonl')]
assert len(r) == 6 and all(x['quality'] is None and x['status'] == 'ok' for x in r), r"
printf '{"steps": 2, "cache": {"residual_diff_threshold": 0.3}}' >preset.json
cat >fail.json <<EOF
{"prompts": ["a"], $base, "settings": [{"config": "preset.json", "cache": "dbcache"}, {"guidance": 1e2, "label": "ok"}]}
EOF
# shellcheck disable=SC2086
expect 0 "a preset beside the spec" sweep fail.json -o f $flags
check "its keys arrived" grep -q '"cache.residual_diff_threshold":"0.3"' f/results.jsonl

# ---- torn line, two at once, full disk ----

cp -r res torn
head -c -20 res/results.jsonl >torn/results.jsonl
# shellcheck disable=SC2086
expect 0 "a torn last line" sweep spec.json -o torn $flags
check "is run again, once" "$python" rows.py torn 40
printf 'not a row\n' >>torn/results.jsonl
# shellcheck disable=SC2086
expect 2 "a line of something else" sweep spec.json -o torn $flags
says 'line 41' "a line of something else"

small='"prompts": ["a"], "seeds": [0, 1, 2, 3, 4, 5, 6, 7]'
echo "{$small, $base, \"settings\": [{\"steps\": [1, 2, 3]}]}" >small.json
# files may have 16 blocks of 512 bytes, which no reference clip fits; 40, which not all rows fit
for blocks in 16 40; do
    code=0
    # shellcheck disable=SC2086
    (ulimit -f $blocks; exec "$PRAXINO" sweep small.json -o full $flags) >seen 2>err || code=$?
    check "a full disk at $blocks blocks gives 3, not $code" test $code = 3
    check "and a message" grep -q '^praxino: .*File too large' err
done
check "rows so far are whole" "$python" rows.py full "$(wc -l <full/results.jsonl)"
check "there are some" test -s full/results.jsonl
# shellcheck disable=SC2086
expect 0 "room again" sweep small.json -o full $flags
check "every row is there once" "$python" rows.py full 32
absent full/reference/.part

# ---- killed at random times ----

cat >kill.json <<EOF
{$small, $base, "settings": [{"steps": [1, 2, 3]}], "repeats": 12}
EOF
# each time after some more rows, and then a little later: wherever that hits
rows_of() { if [ -f killed/results.jsonl ]; then wc -l <killed/results.jsonl; else echo 0; fi; }
random() { awk -v seed="$1" -v n="$2" 'BEGIN { srand(seed); rand(); printf "%03d", n * rand() }'; }
i=0 kills=0
while [ $i -lt 20 ]; do
    i=$((i + 1))
    # shellcheck disable=SC2086
    "$PRAXINO" sweep kill.json -o killed $flags >seen 2>&1 &
    pid=$!
    enough=$(($(rows_of) + 1$(random $i 4) - 1000))
    while kill -0 $pid 2>/dev/null && [ "$(rows_of)" -lt $enough ]; do sleep 0.005; done
    sleep "0.$(random "$((i + 99))" 20)"
    if kill -9 $pid 2>/dev/null; then kills=$((kills + 1)); fi
    wait $pid 2>/dev/null
done
check "20 kills, of which $kills hit" test $kills = 20
check "rows after the kills" test "$(rows_of)" -gt 0
check "and rows to come" test "$(rows_of)" -lt 384
echo half >killed/summary.json.1-0.tmp
# shellcheck disable=SC2086
expect 0 "goes on" sweep kill.json -o killed $flags
check "no row lost or doubled" "$python" rows.py killed 384
find killed -type f | grep -vE '/(sweep\.json|summary\.json|results\.jsonl|[0-9a-f]{24}\.safetensors)$' >left
check "nothing half-written is left: $(cat left)" test ! -s left

# ---- interrupted ----

# shellcheck disable=SC2086
env --default-signal=INT "$PRAXINO" sweep kill.json -o int $flags 2>err >seen &
pid=$!
interrupt test -s int/results.jsonl
check "and says how to go on" grep -q 'interrupted: the rows so far' err
finish
