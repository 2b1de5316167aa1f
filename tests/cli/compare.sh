#!/bin/sh
# praxino compare beside ffmpeg's own filters on the same files, and on clips that trip metrics up.
. "$PRX_SOURCE/tests/cli/lib.sh"
cd "$tmp" || exit 1
command -v ffmpeg >/dev/null 2>&1 || skip "no ffmpeg"
python=$(command -v python3) || skip "no python3"
ff() { ffmpeg -v error -nostdin -y "$@"; }
# is EXPRESSION: of the JSON in r
is() { check "$1: $3" "$python" -c "
import json, sys
r = json.load(open('$2'))
assert $3, {k: v for k, v in r.items()}"; }

# ---- ffmpeg's figures; an odd size ----

for size in 64x48 75x53; do
    ff -f lavfi -i "testsrc2=size=$size:rate=8:duration=1" -pix_fmt gbrp -c:v ffv1 a.mkv
    ff -i a.mkv -vf noise=alls=20:allf=t:all_seed=3 -pix_fmt gbrp -c:v ffv1 b.mkv
    expect 0 "compare at $size" "$PRAXINO" compare a.mkv b.mkv --json r.json
    # without its assembly, whose SSIM drops windows at some widths (docs/PITFALLS.md)
    for f in psnr ssim; do ffmpeg -cpuflags 0 -v info -nostdin -i b.mkv -i a.mkv -lavfi $f -f null - 2>$f.txt; done
    check "ffmpeg's psnr and ssim at $size" "$python" -c "
import json, re
r = json.load(open('r.json'))
psnr = float(re.search(r'PSNR.*average:([0-9.]+)', open('psnr.txt').read()).group(1))
ssim = float(re.search(r'SSIM.*All:([0-9.]+)', open('ssim.txt').read()).group(1))
assert abs(r['psnr']['clip'] - psnr) < 5e-6 + 5e-7, (r['psnr']['clip'], psnr)
assert abs(r['ssim']['blocks'] - ssim) < 2e-6, (r['ssim']['blocks'], ssim)"
done

# ---- identical, constant, one frame, ten bits, variable rate ----

expect 0 "identical" "$PRAXINO" compare a.mkv a.mkv --json r.json
is identical r.json "r['identical'] and r['psnr']['clip'] is None and r['ssim']['luma'] == 1 and r['ssim']['blocks'] == 1"
ff -f lavfi -i color=gray:size=32x32:rate=8:duration=0.5 -pix_fmt gbrp -c:v ffv1 flat.mkv
ff -f lavfi -i color=0x909090:size=32x32:rate=8:duration=0.5 -pix_fmt gbrp -c:v ffv1 flat2.mkv
expect 0 "constant clips" "$PRAXINO" compare flat.mkv flat2.mkv --json r.json
is constant r.json "abs(r['psnr']['clip'] - 24.048) < 0.01 and 0.9 < r['ssim']['luma'] < 1 and r['temporal']['psnr'] is None"
ff -i a.mkv -frames:v 1 -c:v ffv1 one.mkv
ff -i b.mkv -frames:v 1 -c:v ffv1 two.mkv
expect 0 "one frame" "$PRAXINO" compare one.mkv two.mkv --json r.json
is one r.json "r['frames'] == 1 and r['psnr']['clip'] == r['psnr']['mean_of_frames'] and r['temporal']['psnr'] is None"
ff -f lavfi -i testsrc2=size=64x48:rate=8:duration=0.5 -pix_fmt gbrp -c:v ffv1 eight.mkv
ff -i eight.mkv -pix_fmt gbrp10le -c:v ffv1 ten.mkv
expect 0 "ten bits beside eight" "$PRAXINO" compare ten.mkv eight.mkv --json r.json
is ten r.json "r['frames'] == 4 and (r['identical'] or r['psnr']['clip'] > 45)"
ff -f lavfi -i testsrc2=size=64x48:rate=8:duration=1 -vf "setpts='(N+floor(N/3))/8/TB'" -fps_mode vfr -pix_fmt gbrp -c:v ffv1 vfr.mkv
ff -f lavfi -i testsrc2=size=64x48:rate=8:duration=1 -pix_fmt gbrp -c:v ffv1 cfr.mkv
expect 0 "a variable frame rate: frames are compared in their order" "$PRAXINO" compare vfr.mkv cfr.mkv --json r.json
is vfr r.json "r['frames'] == 8 and r['identical']"

# ---- refused ----

expect 2 "other lengths" "$PRAXINO" compare one.mkv b.mkv
says '1 frames' "other lengths"
expect 2 "other sizes" "$PRAXINO" compare flat.mkv ten.mkv
says '32x32' "other sizes"
finish
