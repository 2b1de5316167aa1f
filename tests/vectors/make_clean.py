"""Vectors of prompt cleaning: strings and what diffusers' prompt_clean makes of them (ftfy 6.3, Python 3.11).

    python tests/vectors/make_clean.py          (writes tests/vectors/clean.json)

Strings that ftfy takes for wrongly decoded text and repairs are left out: that repair is not part of the engine.
"""
import json, os, random
import ftfy
from diffusers.pipelines.wan.pipeline_wan import prompt_clean

HERE = os.path.dirname(os.path.abspath(__file__))
NEGATIVE = ("色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，JPEG压缩残留，丑陋的，残缺的，"
            "多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，静止不动的画面，杂乱的背景，三条腿，背景人很多，倒着走")
FIXED = [
    "", " ", "a red ball bounces on a blue floor", "  two\t spaces \n and lines\r\nhere ", NEGATIVE,
    "\u201cquotes\u201d \u2018single\u2019 \u201e \u201a \u02bc \u00ab \u00bb",
    "ﬁne ﬂuﬃest ﬀ ﬅ ﬆ Ĳ ĳ ŉ Ǆ ǆ ǉ Ǌ", "ＦＵＬＬ　ｗｉｄｔｈ！？，．～￣￥￦",
    "ﾊﾛｰ ﾜｰﾙﾄﾞ ｶﾞｷﾞ", "caf\u0065\u0301 \u0041\u030a \u1e9b\u0323 \u0958 \u0344 \u212b \u2126",
    "\u1100\u1161\u11a8 \uac00\u11a8 한글", "a\u0323\u0307 a\u0307\u0323 q\u0307\u0323 \u0308\u0301",
    "&amp; &lt;b&gt; &quot;x&quot; &#39; &#x27; &nbsp;x &copy &copy; &notit; &not; &hellip",
    "&amp;amp;amp;lt; &amp;amp;amp;amp;amp;",
    "P&EACUTE;REZ &NTILDE; BUNDESSTRA&SZLIG;E &Aacute &ALPHA; &HELLIP; &TIMES;",
    "<b>&amp;</b>", "one & two &\nthree < four &amp; five\n&lt;", "first &amp;\nsecond < &amp; \nthird &amp;",
    "&#0; &#1; &#128; &#x80; &#129; &#150; &#xD800; &#x110000; &#99999999999999; &#xFFFE; &#xfdd0; &#x1F600;",
    "&#59; &#x3b; &#38;amp; &# &#; &#x; &#xg; &; &&amp;; &a; &CounterClockwiseContourIntegral; &CounterClockwiseContourIntegralx;",
    "&fjlig; &NotEqualTilde; &acE; &amp;#39; &AMP &AMP; &LT &GT; &QUOT",
    "\x1b[31mred\x1b[0m plain \x1b[1;32mgreen\x1b[ not \x1b[12", "a\x00b".replace("\x00",
    "\x01") + "\x07\x08\x0b\x0c\x0e\x1c\x1f\x7f end",
    "zero\u200bwidth\u200djoin\u2060er\ufeff bom \u206a\ufffc\ufff9",
    "nbsp\u00a0x \u2003em \u3000ideo \u1680 \u202f \u205f \u2028 line \u2029 para",
    "c1 \x85 dots \x93quoted\x94 \x80", "emoji 😀 👩\u200d🚀 🇩🇪 ❤️ 1️⃣ ©️ ™", "tab\tand\vvertical\fform", "\ufeffstart",
    "Москва зимой, снег идёт", "مدينة في الليل", "नमस्ते दुनिया", "ภาษาไทย", "日本の城、桜", "ελληνικά ά ᾂ",
    "Tiếng Việt có dấu", "a\u0301\u0301\u0301 e\u0327\u0301", "½ ² № ℃ Ⅷ ㎏ ㈱ ㍿ ﷺ",
    "\u0f73 \u0f75 \u0f81 \u0344 \u1d15e \U0001d15e \U0001d160 \ufb1d \ufb2a", "K\u212a \u2000x\u2001y",
    "&lt;&lt; &gt;&gt;", "it\u2019s the dog\u2019s 1\u20442", "\ufb01\u0301 \uff21\u0301 \uff8a\uff9f",
    "&" * 40, "&amp" * 20, "&" + "a" * 40 + ";", "&#" + "9" * 40 + ";", "&#x" + "0" * 30 + "41;",
    "100% \\u00e9 \\n", "&ThickSpace;|&nbsp|&Tab;|&NewLine;|&zwj;x", "&apos;&apos &Apos; &APOS;",
]
POOL = (["&", "#", ";", "amp", "lt", "gt;", "x41", "&amp;", "&eacute;", "&EACUTE;", "&nbsp;", "&#39;",
    "&#x2019;", "&hellip;", "<", ">"] + list("abc XYZ 019,.!?'\"\n\t\r") +
        list("\u201c\u201d\u2018\u2019\u02bcﬁﬂ，。！Ａｂ１ｶﾞﾊﾟ\u3000\u00a0\u200b\u200d\ufeff\u2028\u0301\u0308"
             "\u0323\u0327\u0307éÅñüøß中文字日本語ひらがな한글\u1100\u1161\u11a8\uac00\u11a7абвгдеёйΩά") +
        list("😀🚀❤\ufe0f©™½№\x1b\x07\x1c\x7f") + ["\x1b[1m", "ा", "\u093c", "क", "ก", "ำ", "ש", "\u05bc",
            "\u05b0", "ا", "\u0654", "\u064b", "\u0651"])


def main():
    rng = random.Random(7)
    random_cases = ["".join(rng.choice(POOL) for _ in range(rng.randint(1, 30))) for _ in range(1500)]
    kept, repaired = [], []
    for text in FIXED + random_cases:
        if ftfy.fix_text(text) != ftfy.fix_text(text, fix_encoding=False):
            repaired.append(text)
            continue
        kept.append([text, prompt_clean(text)])
    print(len(kept), "cases;", len(repaired), "left out because ftfy repairs their encoding:", repaired[:5])
    kept = [k for i, k in enumerate(kept) if i < len(FIXED) or i % 2]
    with open(os.path.join(HERE, "clean.json"), "w") as f:
        f.write('{"cases": [\n' + ",\n".join(json.dumps(k) for k in kept) + "\n]}\n")
    print(len(kept), "written")


if __name__ == "__main__":
    main()
