#!/bin/sh
# What ptxas says of the kernels: they compile without warnings, keep everything in registers (no spills, no stack) and stay within the
# registers of their launch. PRX_GATE_ARCHS: chips (80); PRX_GATE_KERNELS: sources (attn norm). Environment: PRX_SOURCE, NVCC.
set -u
if [ -z "${NVCC:-}" ] || [ "${NVCC%NOTFOUND}" != "$NVCC" ]; then echo "skipped: no nvcc"; exit 77; fi
tmp=$(mktemp -d "${TMPDIR:-/tmp}/praxino-gates.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM
passed=0 failed=0

# Registers that a kernel may have: 65536 for the threads of two blocks, at most 255.
limit() {
    case $1 in
    attn) echo 255 ;;       # 128 threads
    *) echo 128 ;;          # 256 threads
    esac
}

for arch in ${PRX_GATE_ARCHS:-80}; do
    for name in ${PRX_GATE_KERNELS:-attn norm}; do
        if ! "$NVCC" -std=c++17 -O3 -fmad=false -I"$PRX_SOURCE" -I"$PRX_SOURCE/include" "-gencode=arch=compute_$arch,code=sm_$arch" \
            -Xptxas -v -cubin -o "$tmp/out.cubin" "$PRX_SOURCE/engine/cuda/dev/$name.cu" >"$tmp/log" 2>&1; then
            echo "FAILED: $name.cu for sm_$arch does not compile"
            head -n 5 "$tmp/log"
            failed=$((failed + 1))
            continue
        fi
        if awk -v name="$name sm_$arch" -v limit="$(limit "$name")" '
            /[Ww]arning/ { print name ": " $0; bad++ }
            /Compiling entry/ { kernel = $0; sub(/.*function ./, "", kernel); sub(/. for.*/, "", kernel) }
            /bytes stack frame/ { if ($1 + $5 + $9 > 0) { print name " " kernel ": " $0; bad++ } }
            / registers/ {
                for (i = 1; i < NF; i++)
                    if ($(i + 1) ~ /^registers/ && $i + 0 > limit) { print name " " kernel ": " $i " registers, " limit " allowed"; bad++ }
                seen++
            }
            END { exit bad > 0 || seen == 0 }' "$tmp/log"; then
            passed=$((passed + 1))
        else
            failed=$((failed + 1))
        fi
    done
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
