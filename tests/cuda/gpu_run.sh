#!/bin/sh
# tests/gpu/run.sh from end to end on the emulated device, everything tiny: what passes is counted and entered, what fails is named, enters
# nothing and makes the run fail. Environment: PRX_SOURCE, PRX_BINARY.
set -u
passed=0 failed=0
tmp=$(mktemp -d "${TMPDIR:-/tmp}/praxino-gpu-run.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM
check() {
    what=$1
    shift
    if "$@" >/dev/null 2>&1; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $what"
        cat "$tmp"/*/summary.txt
    fi
}
run() { env OUT="$tmp/$1" PRX_GPU_DRY="$2" sh "$PRX_SOURCE/tests/gpu/run.sh"; }
fails() { ! "$@"; }

check "all of it" run good "$PRX_BINARY"
check "everything passed" grep -q "^10 passed, 0 failed" "$tmp/good/summary.txt"
check "rows of benches" grep -q '"attention_svg2"' "$tmp/good/bench_attention_dry.json"
check "what was checked is entered" grep -qE '"quant": \{"hash": "[0-9a-f]{16}", "gpu": "emulation"' "$tmp/good/ledger.json"
check "what was not is not" grep -qE '"attn90": \{"hash": "", "gpu": ""' "$tmp/good/ledger.json"
for f in "$tmp"/good/*.json; do
    check "$f is JSON" cmake -DF="$f" -P "$PRX_SOURCE/tests/cuda/is_json.cmake"
done

# A build folder in which one program fails.
mkdir -p "$tmp/half/tests"
for f in praxino libpraxino.so.0 tests/libpraxino_cuda_emu.so tests/cuda_act; do
    ln -s "$PRX_BINARY/$f" "$tmp/half/$f"
done
printf '#!/bin/sh\necho 1 of 2 wrong\nexit 1\n' >"$tmp/half/tests/cuda_quant"
chmod +x "$tmp/half/tests/cuda_quant"
check "a failure is one" fails run bad "$tmp/half"
check "it is named" grep -q "^FAILED  quant: 1 of 2 wrong" "$tmp/bad/summary.txt"
check "the rest goes on" grep -q "^9 passed, 1 failed" "$tmp/bad/summary.txt"
check "it enters nothing" grep -qE '"quant": \{"hash": "", "gpu": ""' "$tmp/bad/ledger.json"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
