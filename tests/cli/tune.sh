#!/bin/sh
# praxino tune: a preset that was verified on prompts it never saw, its evidence, refusals, an interrupt.
. "$PRX_SOURCE/tests/cli/lib.sh"
cd "$tmp" || exit 1
flags="-m $model --threads 2 --dtype f32 -W 32 -H 32"
tune() { "$PRAXINO" tune --progress none -f 5 "$@"; }
python=$(command -v python3 || true)
[ -n "$python" ] || skip "no python3"
printf '# prompts\na red ball\na blue star\n\na green square\ntwo cats\na sailing boat\n' >prompts.txt

# ---- bad input: before anything runs, and nothing is written ----

# refuse TEXT NAME ARGS...
refuse() {
    text=$1 name=$2
    shift 2
    # shellcheck disable=SC2086
    expect 2 "$name" tune $flags -o never.json "$@"
    says "$text" "$name"
    absent never.json
}
good="--target psnr=12 --prompts prompts.txt --budget 30"
# shellcheck disable=SC2086
{
    refuse 'psnr=X, ssim=X' "a target that is not there" --target vmaf=90 --prompts prompts.txt
    refuse 'psnr=loud' "a target that is no number" --target psnr=loud --prompts prompts.txt
    refuse 'at most 60' "a target beyond 8 bits" --target psnr=99 --prompts prompts.txt
    refuse 'above 1' "no speedup" --speedup 1 --prompts prompts.txt
    refuse 'exclude each other' "two targets" $good --speedup 2
    refuse 'psnr=30' "no target" --prompts prompts.txt
    refuse 'prompts: missing' "no prompts" --target psnr=12
    refuse 'budget: 0 minutes' "no time" $good --budget 0
    refuse "--budget: 'soon'" "a budget that is no number" $good --budget soon
    refuse 'attention and cache are what tune chooses' "a cache setting in the base" $good --set cache.residual=1
    refuse 'attention and cache are what tune chooses' "a cache in the base" $good --set cache=dbcache
    refuse 'stps: unknown' "an unknown setting" $good --set stps=1
    refuse 'at least 176 pixels' "MS-SSIM of a small picture" --target ms-ssim=0.9 --prompts prompts.txt
    refuse 'No such file' "prompts that are not there" --target psnr=12 --prompts nothing.txt
    refuse 'budget: 0.0001 minutes' "too short a budget" $good -s 200 --budget 0.0001
}
head -n 4 prompts.txt >few.txt
refuse '2 prompts; at least 4' "too few prompts" --target psnr=12 --prompts few.txt
(cat prompts.txt && echo 'two cats') >twice.txt
refuse 'there twice' "a prompt that comes twice" --target psnr=12 --prompts twice.txt
# shellcheck disable=SC2086
expect 2 "no preset file" tune $flags $good

# ---- a target of quality ----

# 60 steps, of which a few suffice: a speed-up so large that a busy machine does not hide it
# shellcheck disable=SC2086
expect 0 "tune" tune $flags -s 60 $good --seed 3 -o preset.json --evidence evidence.json
check "it says what holds" grep -q '^psnr=12 holds on 3 held-out prompts' "$tmp/out"
cat >look.py <<'EOF'
import json, math, sys
e, preset = json.load(open("evidence.json")), json.load(open("preset.json"))
cal, held = e["split"]["calibration"], e["split"]["held_out"]
assert len(cal) == 2 and len(held) == 3 and not set(cal) & set(held)
r = e["result"]
rows = [t for t in e["trials"] if t.get("candidate") == r["candidate"] and t["phase"] == "verify"]
assert sorted(t["prompt"] for t in rows) == [2, 3, 4], rows
values = [min(t["psnr"], 60) for t in rows]
mean = sum(values) / 3
sd = math.sqrt(sum((v - mean) ** 2 for v in values) / 2)
bound = mean - 1.885618 * sd / math.sqrt(3)
assert abs(bound - r["bound"]) < 1e-3 and abs(mean - r["mean"]) < 1e-3 and bound >= 12, (bound, r)
assert abs(min(values) - r["worst"]) < 1e-3 and r["speedup_bound"] > 1 and r["holds"]
assert r["share_that_holds"] == round(sum(v >= 12 for v in values) / 3, 4)
used = {t["prompt"] for t in e["trials"] if t["phase"] not in ("verify", "reference")}
assert used <= {0, 1}, used                     # nothing was learnt from a held-out prompt
assert e["elapsed_seconds"] < e["budget_seconds"] == 1800
assert all(d["reason"] for d in e["dropped"]) and any("lemica" in d.get("ladder", "") for d in e["dropped"])
settings = dict(p.split("=", 1) for p in e["candidates"][r["candidate"]]["settings"].split())
assert settings and all(str(preset[k]) == v for k, v in settings.items()), (settings, preset)
assert preset["width"] == 32 and preset["frames"] == 5 and "psnr=12" in preset["description"]
assert any("+" in l["name"] for l in e["lines"]), "no combination was tried"
# in turns with the base at the end; what calibration predicts for that time is its share of the base's
turns = e["timing"]
assert turns["rounds"] == 5 and abs(turns["speedup"] - turns["reference_seconds"] / turns["seconds"]) < 1e-3 * turns["speedup"], turns
first = {t["prompt"]: t["seconds"] for t in e["trials"] if t["phase"] == "reference"}
shares = sorted(t["seconds"] / first[t["prompt"]] for t in e["trials"]
                if t.get("candidate") == r["candidate"] and t["phase"] not in ("verify", "reference"))
share = (shares[0] + shares[-1]) / 2           # of one or two prompts
assert abs(turns["seconds_predicted"] / (share * turns["reference_seconds"]) - 1) < 1e-3, (turns, shares)
# no single ladder has a rung that holds in calibration, was not refuted, and is faster
tried = {v["candidate"] for v in e["verified"]}
mine = e["candidates"][r["candidate"]]["seconds"]
for line in e["lines"]:
    for k in line["candidates"]:
        c = e["candidates"][k] if k is not None else None
        if c and "+" not in line["name"] and c["verdict"] == "holds" and k not in tried and "changes nothing" not in c.get("reason", ""):
            assert c["seconds"] > 0.95 * mine, (c, mine)
EOF
check "the evidence proves it" "$python" look.py
# the preset is one: render takes it, and the picture is as far away as the evidence says
prompt=$("$python" -c 'import json; print(json.load(open("evidence.json"))["split"]["held_out"][0])')
plain="-m $model --threads 2 --progress none --dtype f32 --seed 3"
# shellcheck disable=SC2086
expect 0 "render with the preset" "$PRAXINO" render "$prompt" $plain --config preset.json --dump a.safetensors -o a.y4m
# shellcheck disable=SC2086
expect 0 "render the reference" "$PRAXINO" render "$prompt" $plain -W 32 -H 32 -f 5 -s 60 --dump b.safetensors -o b.y4m
expect 0 "compare" "$PRAXINO" compare b.safetensors a.safetensors --json hand.json
check "as the evidence says" "$python" -c '
import json
e, hand = json.load(open("evidence.json")), json.load(open("hand.json"))
t = next(t for t in e["trials"] if t.get("candidate") == e["result"]["candidate"] and t["prompt"] == 2)
assert abs(hand["psnr"]["clip"] - t["psnr"]) < 1e-3, (hand["psnr"], t)'

# ---- nothing can hold a target of no difference at all: exit code 1, nothing written ----

# shellcheck disable=SC2086
expect 1 "a target that nothing holds" tune $flags -s 4 --target ssim=1 --prompts prompts.txt --budget 1 -o none.json --evidence why.json
says 'nothing is written' "a target that nothing holds"
absent none.json
check "but there is evidence" "$python" -c 'import json; e = json.load(open("why.json")); assert e["result"] is None and e["trials"]'

# ---- a target of speed: kept, or nothing is written ----

code=0
# shellcheck disable=SC2086
tune $flags -s 60 --speedup 1.5 --prompts prompts.txt --budget 30 -o fast.json --evidence fast_why.json >seen 2>&1 || code=$?
check "speed: exit code $code" test "$code" -le 1
check "a preset exists only where it was verified" "$python" -c "
import json, os
r = json.load(open('fast_why.json'))['result']
assert os.path.exists('fast.json') == ($code == 0) == (r is not None)
assert r is None or r['bound'] >= 1.5 and r['psnr_mean'] > 0, r"

# ---- interrupted ----

# shellcheck disable=SC2086
env --default-signal=INT "$PRAXINO" tune $flags --progress json -s 60 -f 17 --target psnr=12 --prompts prompts.txt --budget 9 -o int.json \
    2>err >seen &
pid=$!
interrupt grep -q '"phase": "search"' err
check "and says that nothing was written" grep -q 'nothing was verified yet' err
absent int.json
finish
