#!/bin/sh
# What ptxas says of the kernels, for every chip: they compile without warnings, keep everything in registers (no spills, no stack) and stay
# within the registers of their launch. gates.txt has the sources, by hash, that have passed for which chips; only what neither it nor the
# build folder has is compiled here, for PRX_GATE_SECONDS (45) at most, the rest next time; and one kernel that it has, whose registers
# must be those of the file.
# `sh tests/cuda/gates.sh --all` compiles everything and writes gates.txt anew, with the most registers of a kernel of each source, chip by
# chip, and processor seconds; their sum over the module, shared by two processors, may be PRX_GATE_MODULE (720) at most.
# PRX_GATE_ARCHS, PRX_GATE_KERNELS: others than all. Environment: PRX_SOURCE, PRX_BINARY, NVCC, CMAKE (these are looked for).
set -u
PRX_SOURCE=${PRX_SOURCE:-$(cd "$(dirname "$0")/../.." && pwd)}
NVCC=${NVCC:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
archs=${PRX_GATE_ARCHS:-80 86 89 90a 100 120}
record=$PRX_SOURCE/tests/cuda/gates.txt
seen=${PRX_BINARY:-$PRX_SOURCE/build}/gates.txt
begun=$(date +%s)
if ! "$NVCC" --version >/dev/null 2>&1; then echo "skipped: no nvcc"; exit 77; fi
tmp=$(mktemp -d "${TMPDIR:-/tmp}/praxino-gates.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM
passed=0 failed=0 left=0
: >"$tmp/none"
[ -f "$record" ] || record=$tmp/none
[ -d "$(dirname "$seen")" ] && touch "$seen" || seen=$tmp/none
"${CMAKE:-cmake}" -DROOT="$PRX_SOURCE" -DPRINT=ON -P "$PRX_SOURCE/cmake/ledger.cmake" >"$tmp/hashes" 2>&1 || { cat "$tmp/hashes"; exit 1; }

# Registers that a kernel may have: 65536 for the threads of two blocks, at most 255.
limit() {
    case $1 in
    attn | nearest_mma) echo 255 ;;     # 128 threads
    attn90) echo 168 ;;                 # 384 threads, alone
    *) echo 128 ;;                      # 256 threads
    esac
}

# Chips that a source is for.
chips() {
    case $1 in
    attn90) for a in $archs; do [ "$a" != 90a ] || echo "$a"; done ;;
    *) echo "$archs" ;;
    esac
}

# Processor seconds of everything that this script has waited for.
spent() {
    times >"$tmp/times"
    awk 'NR == 2 { for (i = 1; i < 3; i++) { split($i, t, /[ms]/); sum += 60 * t[1] + t[2] } printf "%.2f", sum }' "$tmp/times"
}

# Most registers of a kernel in the log, for each of the chips named.
registers() {
    awk -v chips="$*" '
        /Compiling entry/ { chip = $0; sub(/.* for .sm_/, "", chip); sub(/.$/, "", chip) }
        / registers/ { for (i = 1; i < NF; i++) if ($(i + 1) ~ /^registers/ && $i + 0 > most[chip]) most[chip] = $i + 0 }
        END { n = split(chips, c, " "); for (i = 1; i <= n; i++) printf "%s%d", (i > 1 ? " " : ""), most[c[i]] }' "$tmp/log"
}

# recorded NAME HASH ARCH: in either file.
recorded() {
    cat "$record" "$seen" | awk -v n="$1" -v h="$2" -v a="$3" '
        $1 == n && $2 == h { for (i = 3; i <= NF && $i != "|"; i++) if ($i == a) found = 1 }
        END { exit !found }'
}

# Registers that gates.txt has for NAME HASH ARCH, or nothing.
expected() {
    awk -v n="$1" -v h="$2" -v a="$3" '
        $1 == n && $2 == h {
            for (i = 3; i <= NF && $i != "|"; i++) if ($i == a) at = i - 2
            if (at) print $(i + at)
        }' "$record"
}

# compile NAME ARCHS
compile() {
    codes=
    before=$(cat "$tmp/spent")
    for a in $2; do codes="$codes -gencode=arch=compute_$a,code=sm_$a"; done
    # shellcheck disable=SC2086
    if ! "$NVCC" -std=c++17 -O3 -fmad=false --threads "${PRX_GATE_THREADS:-2}" -I"$PRX_SOURCE" -I"$PRX_SOURCE/include" $codes \
        -Xptxas -v -c -o "$tmp/out.o" "$PRX_SOURCE/engine/cuda/dev/$1.cu" >"$tmp/log" 2>&1; then
        echo "FAILED: $1.cu does not compile for $2"
        head -n 5 "$tmp/log"
        return 1
    fi
    spent >"$tmp/spent"
    seconds=$(awk -v a="$before" 'NR == 1 { printf "%.1f", $1 - a }' "$tmp/spent")
    awk -v name="$1" -v limit="$(limit "$1")" '
        /[Ww]arning/ { print name ": " $0; bad++ }
        /serializ|setmaxnreg/ { print name ": " $0; bad++ }
        /Compiling entry/ { kernel = $0; sub(/.*function ./, "", kernel) }
        /bytes stack frame/ { if ($1 + $5 + $9 > 0) { print name " " kernel ": " $0; bad++ } }
        / registers/ {
            for (i = 1; i < NF; i++)
                if ($(i + 1) ~ /^registers/ && $i + 0 > limit) { print name " " kernel ": " $i " registers, " limit " allowed"; bad++ }
        }
        END { exit (bad > 0) }' "$tmp/log" || { echo "FAILED: $1"; return 1; }
}

# check NAME HASH ARCHS
check() {
    if compile "$1" "$3"; then
        passed=$((passed + 1))
        # shellcheck disable=SC2086
        echo "$1 $2" $3 "|" "$(registers $3)" "registers, $seconds s" >>"$tmp/record"
        tail -n 1 "$tmp/record" >>"$seen"
    else
        failed=$((failed + 1))
    fi
}

# Everything that is compiled for the module, kernels or not; fails where two processors would take too long.
whole() {
    for name in device gemm_lt; do compile "$name" "$archs" || return 1; done
    awk -v limit="${PRX_GATE_MODULE:-720}" '
        { printf "module | %.0f s of one processor, %.0f s of two\n", $1, $1 / 2; exit $1 / 2 > limit }' "$tmp/spent" >>"$tmp/record" ||
        { echo "FAILED: the module takes too long"; tail -n 1 "$tmp/record"; return 1; }
}

one=
: >"$tmp/record"
echo 0 >"$tmp/spent"
for name in ${PRX_GATE_KERNELS:-$(cut -d' ' -f1 "$tmp/hashes")}; do
    case $name in gemm_lt) continue ;; esac             # host code
    hash=$(sed -n "s/^$name \([0-9a-f]*\) .*/\1/p" "$tmp/hashes")
    missing=
    for a in $(chips "$name"); do
        [ "${1:-}" != --all ] && recorded "$name" "$hash" "$a" || missing="$missing $a"
    done
    if [ -z "$missing" ]; then
        [ -n "$one" ] || one=$name
        passed=$((passed + 1))
    elif [ "${1:-}" = --all ]; then
        check "$name" "$hash" "$missing"
    else
        for a in $missing; do
            if [ $(($(date +%s) - begun)) -ge "${PRX_GATE_SECONDS:-45}" ]; then left=$((left + 1)); else check "$name" "$hash" "$a"; fi
        done
    fi
done
if [ -n "$one" ]; then
    a=$(chips "$one") && a=${a%%[!0-9a-z]*}
    hash=$(sed -n "s/^$one \([0-9a-f]*\) .*/\1/p" "$tmp/hashes")
    want=$(expected "$one" "$hash" "$a")
    if ! compile "$one" "$a"; then
        failed=$((failed + 1))
    elif [ -n "$want" ] && [ "$want" != "$(registers "$a")" ]; then
        echo "FAILED: $one takes $(registers "$a") registers on sm_$a, gates.txt has $want"
        failed=$((failed + 1))
    fi
fi
if [ "${1:-}" = --all ] && [ "$failed" = 0 ]; then whole || failed=1; fi
[ "${1:-}" != --all ] || [ "$failed" != 0 ] || cp "$tmp/record" "$PRX_SOURCE/tests/cuda/gates.txt"
[ "$left" = 0 ] || echo "$left pairs of source and chip not compiled this time: sh tests/cuda/gates.sh --all"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
