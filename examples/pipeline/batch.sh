#!/bin/sh
# A video for each line of a prompt list, several at once; run again after an interruption, it does what is missing.
#
#   examples/pipeline/batch.sh prompts.txt videos [JOBS] [praxino render options...]
#
# A finished video stands under its name and is not rendered again: praxino renames only complete files. The name is the line's number.
set -eu
[ $# -ge 2 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
list=$1 out=$2
shift 2
jobs=1
case ${1:-} in [1-9]*) jobs=$1; shift ;; esac
praxino=${PRAXINO:-./praxino}
cores=$(nproc 2>/dev/null || echo 1)
threads=$(((cores + jobs - 1) / jobs))
mkdir -p "$out"

# One line of the list; the options of praxino follow.
render_line() {
    number=$1; shift
    video=$out/$(printf '%04d' "$number").mp4
    [ ! -s "$video" ] || return 0
    sed -n "${number}p" "$list" >"$video.txt"
    if "$praxino" render --prompt-file "$video.txt" -o "$video" --threads "$threads" --progress none "$@" 2>"$video.log"; then
        rm -f "$video.txt" "$video.log"
        echo "$video"
    else
        echo "batch: line $number: $(tail -n 1 "$video.log")" >&2
        rm -f "$video.txt"
        return 1
    fi
}

# Lines are dealt to as many workers as there are jobs; a worker goes on after a failure and reports it at the end.
worker() {
    first=$1; shift
    bad=0
    while read -r number; do
        render_line "$number" "$@" || bad=1
    done <<EOF
$(awk -v jobs="$jobs" -v first="$first" 'NF && !/^#/ && n++ % jobs == first { print NR }' "$list")
EOF
    return $bad
}

pids='' status=0 i=0
trap 'kill $pids 2>/dev/null || true; exit 130' INT TERM
while [ "$i" -lt "$jobs" ]; do
    worker "$i" "$@" &
    pids="$pids $!"
    i=$((i + 1))
done
for pid in $pids; do
    wait "$pid" || status=1
done
exit $status
