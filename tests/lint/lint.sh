#!/bin/sh
# Style of the tree, one check a call: lint.sh includes|text|budget|calls|symbols LIBRARY. Run from the root.
set -eu
export LC_ALL=C
here=tests/lint
[ -f "$here/includes.txt" ] || { echo "lint: run from the root of the tree"; exit 1; }

sources() { find "$@" -type f \( -name '*.[ch]' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' \) | sort; }
library="engine attention caching schedulers video_io"

# Prints the count line of a test program.
verdict() {
    if [ "$1" = 0 ]; then echo "1 passed, 0 failed"; else echo "0 passed, 1 failed"; fi
    exit "$1"
}

status=0
case $1 in
includes)
    # shellcheck disable=SC2046,SC2086
    awk -f $here/includes.awk $here/includes.txt $(sources $library include cli examples) || status=1
    ;;
text)
    # shellcheck disable=SC2046
    awk -f $here/text.awk praxino .ci/run CMakeLists.txt README.md $(find attention caching cli cmake configs docs \
        engine examples include schedulers scripts tests video_io -type f \( -name '*.[ch]' -o -name '*.cpp' \
        -o -name '*.cu' -o -name '*.cuh' -o -name '*.cmake' -o -name '*.in' -o -name '*.sh' -o -name '*.awk' \
        -o -name '*.py' -o -name '*.md' -o -name CMakeLists.txt -o -path 'configs/*.json' \) 2>/dev/null |
        sort) || status=1
    ;;
budget)
    # shellcheck disable=SC2046,SC2086
    awk -f $here/budget.awk $(sources $library cli examples tests) || status=1
    ;;
calls)
    # shellcheck disable=SC2046,SC2086
    awk -f $here/calls.awk $(sources $library) || status=1
    ;;
symbols)
    # Exactly the functions of the public header are exported.
    want=$(mktemp) have=$(mktemp)
    trap 'rm -f "$want" "$have"' EXIT
    tr '\n' ' ' <include/praxino/praxino.h | grep -o 'PRX_API [^;{]*(' | grep -o 'prx_[a-z0-9_]*(' | tr -d '(' |
        sort -u >"$want"
    nm -D --defined-only "$2" | awk '$2 != "A" { print $3 }' | sed 's/@.*//' | sort -u >"$have"
    comm -13 "$want" "$have" | sed 's/$/: exported, but not in praxino.h/' | grep . && status=1
    comm -23 "$want" "$have" | sed 's/$/: in praxino.h, but not exported/' | grep . && status=1
    ;;
*)
    echo "lint: $1: unknown check"
    status=1
    ;;
esac
verdict $status
