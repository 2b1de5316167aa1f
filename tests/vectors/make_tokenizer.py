"""Vectors of the tokenizer: a small multilingual SentencePiece model, its tokenizer.json as transformers 4 writes it for UMT5, and ids.

    python tests/vectors/make_tokenizer.py      (sentencepiece, tokenizers, transformers,
        ftfy; writes tests/vectors/tokenizer/)

The ids come from Hugging Face's `tokenizers` on the whole tokenizer.json,
    over the prompt as diffusers' prompt_clean leaves it. What is
stored of tokenizer.json lacks the vocabulary and the normaliser's table,
    which are those of spiece.model; the engine reads neither.
Ids of transformers' own T5TokenizerFast and of plain SentencePiece are compared and the differences printed.
"""
import io, json, os, random, shutil, sys, tempfile
import sentencepiece as spm
from sentencepiece import sentencepiece_model_pb2 as pb
from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import Unigram
from diffusers.pipelines.wan.pipeline_wan import prompt_clean
from make_clean import FIXED, NEGATIVE

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tokenizer")
EXTRA = 300
WORDS = {
    "en": "the a of and in on with red blue green ball cat dog house river mountain camera slowly moves "
          "across sunny sky light dark city street rain "
          "walking running jumping beautiful cinematic realistic high quality detailed shot close up "
          "wide angle morning evening night ocean wave forest".split(),

    "de": "der die das und ein eine mit rot blau grün Kugel Katze Hund Haus Fluß Straße schön über größer Mädchen läuft springt".split(),

    "fr": "le la les un une et avec rouge bleu vert élève café forêt où très déjà garçon court saute".split(),
    "es": "el la los un una y con rojo azul verde niño montaña río corre salta mañana corazón".split(),
    "ru": "красный синий зелёный мяч кошка собака дом река гора город улица дождь медленно движется камера и в на с".split(),

    "el": "κόκκινος μπλε πράσινο σπίτι ποτάμι πόλη και το ένα".split(),
    "ar": "قطة كلب بيت نهر جبل مدينة أحمر أزرق في على مع".split(),
    "hi": "लाल नीला हरा गेंद बिल्ली कुत्ता घर नदी पहाड़ शहर और में".split(),
    "th": "แมว สุนัข บ้าน แม่น้ำ ภูเขา เมือง สีแดง".split(),
    "vi": "quả bóng đỏ nảy trên sàn nhà xanh con mèo chạy".split(),
    "ko": "빨간 공이 파란 바닥에서 튄다 고양이 강아지 도시 거리 비".split(),
    "ja": "赤い ボール が 青い 床 で 弾む 猫 犬 家 川 山 都市 雨 ゆっくり カメラ".split(),
    "zh": "红色 球 在 蓝色 地板 上 弹跳 猫 狗 房子 河 山 城市 街道 下雨 缓慢 镜头 静态 细节 模糊".split(),
}


def corpus(rng):
    for _ in range(12000):
        lang = rng.choice(list(WORDS))
        n = rng.randint(3, 14)
        sep = "" if lang in ("zh", "ja") else " "
        s = sep.join(rng.choice(WORDS[lang]) for _ in range(n))
        if rng.random() < 0.3:
            s += rng.choice([".", "!", "?", ", 4K", " (8K)", "。", "，"])
        yield s


def train(path):
    rng = random.Random(1)
    out = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=corpus(rng), model_writer=out, vocab_size=1100, model_type="unigram",
            character_coverage=0.9995, byte_fallback=True,
        normalization_rule_name="nmt_nfkc", pad_id=0, eos_id=1, bos_id=2, unk_id=3, pad_piece="<pad>",
            eos_piece="</s>", bos_piece="<s>",
        unk_piece="<unk>", num_threads=1, minloglevel=2, hard_vocab_limit=False, seed_sentencepiece_size=20000)
    with open(path, "wb") as f:
        f.write(out.getvalue())


def fast(proto, strip, split):
    """The conversion of transformers 4 (SpmConverter and T5Converter): strip since 4.36, split in the earliest files."""
    vocab = [(p.piece, p.score) for p in proto.pieces] + [(f"<extra_id_{i}>", 0.0) for i in range(EXTRA - 1, -1,
        -1)]
    t = Tokenizer(Unigram(vocab, unk_id=proto.trainer_spec.unk_id, byte_fallback=False))
    steps = [normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap)]
    if strip:
        steps.append(normalizers.Strip(left=False, right=True))
    steps.append(normalizers.Replace(Regex(" {2,}"), "▁" if strip else " "))
    t.normalizer = normalizers.Sequence(steps)
    meta = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), meta]) if split else meta
    t.post_processor = processors.TemplateProcessing(single=["$A", "</s>"], pair=["$A", "</s>", "$B", "</s>"],
        special_tokens=[("</s>", 1)])
    t.add_special_tokens([AddedToken(s, normalized=False, special=True) for s in ("<pad>", "</s>", "<unk>")] +
                         [AddedToken(f"<extra_id_{i}>", normalized=False, special=True, lstrip=i == 2,
                             rstrip=i == 2) for i in range(EXTRA)])
    return t


def prompts():
    rng = random.Random(3)
    out = list(FIXED)
    out += ["</s>", "a </s> b", "a</s>b", "x <extra_id_0> y <extra_id_299>z", "a <extra_id_2> b", "<extra_id_300>",
        "<pad><pad>", "<unk> and <s>", "a <s> b", "<0x41> byte",
            "</s> </s>", "▁", "▁a", "a▁b ▁ c", "a ▁b", "🙂🙂 🙂 x🙂y", "ℵℶℷ ℵ", "龘龗 山", "unknownzzz Ꙁꙁ", "¨ a ¨",
                "a" * 200, "山" * 300, "red " * 300,
            "Ａ\u0301", "e\u0301\u0323 q\u0301 #\ufe0f 1\u20e3", "①② ﷺ ½", "x" + "\u0301" * 5]
    words = [w for v in WORDS.values() for w in v]
    chars = [c for w in words for c in w] + list(" .,!?-'\"()0123456789") + list("éàüñøß😀🚀龘½№™©")
    for _ in range(160):
        out.append(" ".join(rng.choice(words) for _ in range(rng.randint(1, 25))))
    for _ in range(240):
        out.append("".join(rng.choice(chars) for _ in range(rng.randint(1, 40))))
    return out


def slim(path):
    with open(path) as f:
        j = json.load(f)
    for n in j["normalizer"]["normalizers"]:
        n.pop("precompiled_charsmap", None)
    j["model"]["vocab"] = j["model"]["vocab"][:5]
    j["added_tokens"] = [a for a in j["added_tokens"] if not a["content"].startswith("<extra_id_") or
                         a["id"] % 50 == 0 or "_2>" in a["content"] or
                         a["content"] in ("<extra_id_0>", "<extra_id_299>")]
    with open(path, "w") as f:
        json.dump(j, f, ensure_ascii=False, separators=(",", ":"))


def main():
    os.makedirs(HERE, exist_ok=True)
    model = os.path.join(HERE, "spiece.model")
    if "--train" in sys.argv or not os.path.exists(model):
        train(model)
    with open(model, "rb") as f:
        proto = pb.ModelProto.FromString(f.read())
    plain = spm.SentencePieceProcessor(model_file=model)
    texts = prompts()
    cases = []
    variants = {"none": fast(proto, False, False), "strip": fast(proto, True, False), "split": fast(proto, False,
        True)}
    for text in texts:
        clean = prompt_clean(text)
        row = [text] + [t.encode(clean).ids for t in variants.values()]
        while len(row) > 2 and row[-1] == row[1]:      # equal in all variants: stored once
            row.pop()
        cases.append(row if len(row) == 2 else [text] + [t.encode(clean).ids for t in variants.values()])
    for name, t in variants.items():
        folder = os.path.join(HERE, name)
        os.makedirs(folder, exist_ok=True)
        t.save(os.path.join(folder, "tokenizer.json"))
        if name == "strip":
            with tempfile.TemporaryDirectory() as d:
                shutil.copy(model, d)
                shutil.copy(os.path.join(folder, "tokenizer.json"), d)
                with open(os.path.join(d, "tokenizer_config.json"), "w") as f:
                    json.dump({"tokenizer_class": "T5TokenizerFast", "extra_ids": EXTRA}, f)
                from transformers import T5TokenizerFast
                hf = T5TokenizerFast.from_pretrained(d)
                diff = [x for x in texts if hf(prompt_clean(x)).input_ids != t.encode(prompt_clean(x)).ids]
                unk = sum(hf(prompt_clean(x)).input_ids != [2 if i == 3 else i for i in t.encode(prompt_clean(x)).ids] for x in texts)
                import transformers
                print(f"T5TokenizerFast of transformers {transformers.__version__}: {len(diff)} of {len(texts)} "
                      f"differ; {unk} when its unknown id 2 "
                      "is read as 3;", diff[:4])
        slim(os.path.join(folder, "tokenizer.json"))

    def raw(x):
        ids, out = plain.encode(x), []
        for i in ids:      # bytes of unknown text: one unknown id a run
            i = 3 if plain.is_byte(i) else i
            if not (i == 3 and out and out[-1] == 3):
                out.append(i)
        return out + [1]
    diff = [x for x in texts if raw(prompt_clean(x)) != variants["strip"].encode(prompt_clean(x)).ids]
    print(f"SentencePiece with joined bytes: {len(diff)} of {len(texts)} differ:", diff[:12])
    with open(os.path.join(HERE, "cases.json"), "w") as f:
        f.write('{"variants": ' + json.dumps(list(variants)) + ', "cases": [\n' + ",\n".join(json.dumps(k,
            separators=(",", ":")) for k in cases) + "\n]}\n")
    print(len(cases), "cases,", sum(len(k) > 2 for k in cases), "of them differ between variants; vocabulary",
        len(proto.pieces))


if __name__ == "__main__":
    main()
