#!/bin/sh
# The ledger has a row for every source with kernels, and claims nothing without a GPU, a date, a hash and checks.
# Environment: PRX_SOURCE, CMAKE.
set -u
passed=0 failed=0
tmp=$(mktemp)
trap 'rm -f "$tmp"' EXIT
"$CMAKE" -DROOT="$PRX_SOURCE" -DPRINT=ON -P "$PRX_SOURCE/cmake/ledger.cmake" >"$tmp" 2>&1 || { cat "$tmp"; failed=1; }
for f in "$PRX_SOURCE"/engine/cuda/dev/*.cu; do
    name=$(basename "$f" .cu)
    case $name in device | module) continue ;; esac
    if grep -q "^$name [0-9a-f]\{16\} " "$tmp"; then
        passed=$((passed + 1))
    else
        echo "FAILED: $name is not in the ledger"
        failed=$((failed + 1))
    fi
done
grep '": {"hash"' "$PRX_SOURCE/tests/gpu/ledger.json" >"$tmp"
if awk '/"gpu": ""/ && !/"hash": "", .*"date": "", "checks": \{\}, "timings": \{\}/ { print "half a claim: " $0; bad++ }
        /"gpu": "emulation"/ { print "not hardware: " $0; bad++ }
        !/"gpu": ""/ && (/"hash": ""/ || /"date": ""/ || /"checks": \{\}/) { print "a claim without evidence: " $0; bad++ }
        END { exit bad > 0 || NR == 0 }' "$tmp"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
