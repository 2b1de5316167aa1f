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
assert ($3), {k: v for k, v in r.items()}"; }

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
says '--align trim' "other lengths"
expect 2 "other sizes" "$PRAXINO" compare flat.mkv ten.mkv
says '32x32' "other sizes"
says '--resize' "other sizes"

# ---- aligned: what ffmpeg cuts and scales is what the options compare ----

line() { if grep -qxF -- "$1" "$tmp/out"; then pass; else fail "no line '$1' in: $(cat "$tmp/out")"; fi; }
ff -f lavfi -i testsrc2=size=48x40:rate=8:duration=1 -pix_fmt gbrp -c:v ffv1 long.mkv
ff -i long.mkv -vf trim=start_frame=3 -c:v ffv1 late.mkv
ff -i long.mkv -vf trim=end_frame=5 -c:v ffv1 early.mkv
expect 0 "trim" "$PRAXINO" compare long.mkv early.mkv --align trim
line "aligned  last 3 frames of A left out"
line "identical: every sample is the same"
expect 0 "trim as JSON" "$PRAXINO" compare early.mkv long.mkv --align trim --json r.json
is trim r.json "r['frames'] == 5 and r['identical'] and r['alignment'] == {'trim': True, 'offset': 0,
    'left_out': {'a': 0, 'b': 3}, 'resized': None}"
expect 0 "offset in A" "$PRAXINO" compare long.mkv late.mkv --offset -3
line "aligned  first 3 frames of A skipped"
line "identical: every sample is the same"
expect 0 "offset in B, trimmed" "$PRAXINO" compare late.mkv long.mkv --offset=3 --align trim --json r.json
is offset r.json "r['frames'] == 5 and r['identical'] and r['alignment']['left_out'] == {'a': 0, 'b': 0}"
expect 0 "another offset" "$PRAXINO" compare late.mkv long.mkv --offset 2 --align trim --json r.json
is "another offset" r.json "r['frames'] == 5 and not r['identical'] and r['alignment']['left_out'] == {'a': 0, 'b': 1}"
expect 0 "fits already" "$PRAXINO" compare long.mkv long.mkv --align trim --resize a
line "aligned  nothing to do"
expect 0 "not asked for" "$PRAXINO" compare long.mkv long.mkv --json r.json
is "not asked for" r.json "r['alignment'] is None"
expect 2 "offset beyond the end" "$PRAXINO" compare long.mkv early.mkv --offset 6 --align trim
says 'the second has only 5 frames' "offset beyond the end"
for how in "" "--align trim"; do
    # shellcheck disable=SC2086
    expect 2 "offset to the end $how" "$PRAXINO" compare long.mkv early.mkv --offset 5 $how
    says '--offset 5: no frame is left' "offset to the end $how"
done
expect 2 "lengths after an offset" "$PRAXINO" compare long.mkv early.mkv --offset 1
says 'first has 8 frames, the second 4, after the offset' "lengths after an offset"
for bad in x 1.5 "" 99999999999 "1,align=trim"; do expect 2 "offset '$bad'" "$PRAXINO" compare a.mkv b.mkv --offset "$bad"; done
expect 2 "align how" "$PRAXINO" compare a.mkv b.mkv --align cut
expect 2 "resize what" "$PRAXINO" compare a.mkv b.mkv --resize c
scaled() {  # SIZE: each channel of long.mkv scaled by ffmpeg
    f=scale=$1:flags=bicubic+accurate_rnd+bitexact
    ff -i long.mkv -lavfi "extractplanes=r+g+b[r][g][b];[g]$f[G];[b]$f[B];[r]$f[R];[G][B][R]mergeplanes=0x001020:gbrp" \
        -c:v ffv1 scaled.mkv
}
for to in 75:53 31:19 48:20; do
    scaled $to
    expect 0 "scaled to $to" "$PRAXINO" compare scaled.mkv long.mkv --resize a --json r.json
    is "scaled to $to" r.json "r['identical'] and [r['width'], r['height']] == [${to%:*}, ${to#*:}] and r['alignment']['resized'] ==
        {'clip': 'b', 'from': [48, 40], 'filter': 'bicubic on each channel (libswscale)'}"
done
expect 0 "the other way" "$PRAXINO" compare long.mkv scaled.mkv --resize b
line "aligned  A scaled from 48x40: bicubic on each channel (libswscale)"
ff -f lavfi -i color=gray:size=48x40:rate=8:duration=0.5 -pix_fmt gbrp -c:v ffv1 wide.mkv
expect 0 "a constant stays constant" "$PRAXINO" compare flat.mkv wide.mkv --resize b --json r.json
is constant r.json "r['identical']"
expect 0 "the table has the blocks" "$PRAXINO" compare a.mkv b.mkv
check "blocks" grep -q '^SSIM .*, blocks 0\.[0-9]*$' "$tmp/out"

# ---- VMAF: by an ffmpeg that has libvmaf, else said to be absent ----

check "nothing of VMAF unless asked" sh -c "! grep -qi vmaf '$tmp/out'"
if ! ffmpeg -v error -filters | grep -q ' libvmaf '; then
    expect 4 "VMAF is absent" "$PRAXINO" compare a.mkv b.mkv --vmaf
    says 'built without libvmaf' "VMAF is absent"
else
    ff -f lavfi -i testsrc2=size=192x176:rate=8:duration=1 -pix_fmt yuv444p -c:v ffv1 "v a'.mkv"
    ff -i "v a'.mkv" -vf "noise=alls=20:allf=t:all_seed=3,setpts=N*N/8/TB" -fps_mode vfr -c:v ffv1 v_b.mkv
    ff -i v_b.mkv -i "v a'.mkv" -lavfi "[0:v]settb=1/8,setpts=N[b];[1:v]settb=1/8,setpts=N[a];[b][a]libvmaf=log_fmt=json:log_path=v.json" \
        -f null - 2>/dev/null
    expect 0 "VMAF" "$PRAXINO" compare "v a'.mkv" v_b.mkv --vmaf --json r.json
    is "ffmpeg's VMAF" r.json "r['vmaf']['mean'] == json.load(open('v.json'))['pooled_metrics']['vmaf']['mean'] and
        len(r['vmaf']['per_frame']) == 8"
    expect 0 "VMAF in the table" "$PRAXINO" compare "v a'.mkv" v_b.mkv --vmaf
    check "VMAF" grep -q '^VMAF     mean [0-9.]*, worst frame' "$tmp/out"
fi
expect 4 "no ffmpeg" env PATH="$tmp/none" "$PRAXINO" compare a.mkv b.mkv --vmaf
says 'no program ffmpeg' "no ffmpeg"
expect 2 "VMAF of a dump" "$PRAXINO" compare a.safetensors b.mkv --vmaf

# aligned: an ffmpeg that has PSNR for VMAF, frame by frame (100 where nothing differs)
real=$(command -v ffmpeg)
mkdir fake
cat >fake/ffmpeg <<EOF
#!/bin/sh
case "\$*" in *-filters*) echo " .. libvmaf VV->V"; exit ;; esac
for word; do
    case "\$word" in *libvmaf=*) word="\${word%libvmaf=*}psnr=stats_file=$tmp/psnr.log" ;; esac
    set -- "\$@" "\$word"
    shift
done
"$real" "\$@" >/dev/null || exit 1
awk '{ sub(/.*psnr_avg:/, ""); v = \$1 == "inf" ? 100 : \$1; s += v; list = list (NR > 1 ? "," : "") "{\"metrics\": {\"vmaf\": " v "}}" }
    END { print "{\"frames\": [" list "],"; mean = s / NR
          print "\"pooled_metrics\": {\"vmaf\": {\"mean\": " mean ", \"harmonic_mean\": " mean "}}}" }' "$tmp/psnr.log"
EOF
chmod +x fake/ffmpeg
ff -f lavfi -i testsrc2=size=192x176:rate=8:duration=2 -pix_fmt gbrp -c:v ffv1 all.mkv
ff -i all.mkv -vf "trim=start_frame=3:end_frame=11,setpts=PTS-STARTPTS" -c:v ffv1 part.mkv
ff -i part.mkv -vf scale=96:88:flags=bicubic -c:v ffv1 half.mkv
vmaf() { what=$1; shift; expect 0 "$what" env PATH="$tmp/fake:$PATH" "$PRAXINO" compare "$@" --vmaf --json r.json; }
vmaf "VMAF, frames of B skipped" part.mkv all.mkv --offset 3 --align trim
is "the same 8 frames" r.json "r['vmaf']['per_frame'] == [100] * 8"
vmaf "VMAF, frames of A skipped" all.mkv part.mkv --offset -3 --align trim
is "the same 8 frames" r.json "r['vmaf']['per_frame'] == [100] * 8"
vmaf "VMAF, another frame" all.mkv part.mkv --offset -4 --align trim
is "other frames" r.json "max(r['vmaf']['per_frame']) < 60 and len(r['vmaf']['per_frame']) == r['frames'] == 8"
vmaf "VMAF, scaled" part.mkv half.mkv --resize b
is "A scaled as B was" r.json "r['vmaf']['per_frame'] == [100] * 8 and r['width'] == 96"
finish
