#!/bin/sh
# Frames go to ffmpeg while they are decoded, without a file in between: here they are enlarged and encoded by it.
#
#   examples/pipeline/y4m.sh "a blue star spins" star.webm [WIDTH] [praxino render options...]
set -eu
[ $# -ge 2 ] || { sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2; }
prompt=$1 out=$2
shift 2
width=512
case ${1:-} in [1-9]*) width=$1; shift ;; esac
part=${out%.*}.part.${out##*.}
pipe=$(mktemp -u)
mkfifo "$pipe"
trap 'rm -f "$pipe" "$part"' EXIT
# a pipe with a name: the exit codes of both programs count
"${PRAXINO:-./praxino}" render "$prompt" -o - --progress none "$@" >"$pipe" &
pid=$!
ffmpeg -v error -nostdin -y -f yuv4mpegpipe -i "$pipe" -vf "scale=$width:-2:flags=lanczos" "$part" || { kill $pid 2>/dev/null; exit 1; }
wait $pid
mv "$part" "$out"
