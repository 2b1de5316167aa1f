#!/bin/sh
# scripts/sweep_report.py: a page from a small sweep. With chromium, screenshots at two widths in the build folder.
. "$PRX_SOURCE/tests/cli/lib.sh"
cd "$tmp" || exit 1
python=$(command -v python3) || skip "no python3"
cat >spec.json <<EOF
{"prompts": ["a red <ball>", "a star"], "base": {"steps": 4, "frames": 5, "width": 48, "height": 32},
 "keep_clips": true, "description": "<b>",
 "settings": [{"label": "<short>", "steps": [2, 3]},
              {"cache": "dbcache", "cache.Fn_compute_blocks": 1, "cache.max_warmup_steps": 1, "cache.residual_diff_threshold": 5},
              {"label": "same", "vae.tiling": false}]}
EOF
expect 0 "a sweep" "$PRAXINO" sweep spec.json -o res -m "$model" --threads 2 --dtype f32 --progress none
printf '{"key":"torn' >>res/results.jsonl
expect 0 "a page" "$python" "$PRX_SOURCE/scripts/sweep_report.py" res -o page.html
cat >look.py <<'EOF'
import html.parser, json, re, shutil
page = open("page.html", encoding="utf-8").read()
class Check(html.parser.HTMLParser):
    void = {"meta", "img", "br", "path", "circle", "rect", "polyline", "link", "input"}
    def __init__(self):
        super().__init__(); self.stack, self.seen, self.titles, self.loads = [], {}, [], []
    def handle_starttag(self, tag, attrs):
        self.seen[tag] = self.seen.get(tag, 0) + 1
        self.loads += [v for k, v in attrs if k in ("src", "href", "poster")]
        self.titles += [v for k, v in attrs if k == "title"]
        if tag not in self.void or tag in ("path", "circle", "rect"): self.stack.append(tag)
    def handle_startendtag(self, tag, attrs): self.seen[tag] = self.seen.get(tag, 0) + 1
    def handle_endtag(self, tag):
        assert self.stack and self.stack[-1] == tag, (tag, self.stack[-3:]); self.stack.pop()
c = Check(); c.feed(page)
assert not c.stack, c.stack
assert all(v.startswith("data:") for v in c.loads) and not re.search(r"https?://|@import|url\(", page), "needs the network"
assert "<short>" not in page and "&lt;short&gt; steps=2" in page and "a red &lt;ball&gt;" in page
assert page.count('<tr class=') == 5 and c.seen["circle"] == 3, c.seen
assert any("cached" in t for t in c.titles) and any("computed" in t for t in c.titles)
row = next(s for s in json.load(open("res/summary.json"))["settings"] if s["label"] == "<short> steps=2")
assert f'{row["psnr"]["median"]:.2f}' in page and f'{row["seconds"]["median"]:.3f}' in page
if shutil.which("ffmpeg"):
    assert c.seen["img"] == 4 and c.seen["video"] == 4, c.seen
EOF
check "what is on it" "$python" look.py
expect 1 "no folder" "$python" "$PRX_SOURCE/scripts/sweep_report.py" nothing
if command -v chromium >/dev/null 2>&1 && [ -n "${PRX_BINARY:-}" ]; then
    for width in 1200 390; do
        shot=$PRX_BINARY/sweep_report_$width.png
        rm -f "$shot"
        check "a screenshot $width wide" timeout 120 chromium --headless=new --no-sandbox --disable-gpu --hide-scrollbars \
            --window-size=$width,2400 --screenshot="$shot" "file://$tmp/page.html"
        check "it is there" test -s "$shot"
    done
fi
finish
