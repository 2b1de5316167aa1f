"""Writes models/tiny in the diffusers directory layout (bf16 safetensors) from the training checkpoints, then loads it
back with WanPipeline and checks tokenizer ids against SentencePiece.

  export.py [--from /tmp/tiny_ckpt] [--to models/tiny] [--raw] [--vae vae.pt before.pt]

--raw: the transformer's last weights instead of their average. --vae: checkpoints of the autoencoder whose mean is written.
"""
import argparse
import json
import os
import shutil

import numpy as np
import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline
from transformers import T5TokenizerFast

import clips
import train_dit
import train_vae

CHECKS = ["a red ball bounces on a blue floor", "", "A Violet hoop, gliding to the left!", "Grüße  an <b>rød</b> kloden",
          "ball", "a video of a pink heart fading away on a lawn."]


def write_tokenizer(src, dst):
    import sentencepiece as spm
    from sentencepiece import sentencepiece_model_pb2 as pb
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    os.makedirs(dst, exist_ok=True)
    shutil.copy(os.path.join(src, "spiece.model"), dst)
    model = pb.ModelProto()
    with open(os.path.join(src, "spiece.model"), "rb") as f:
        model.ParseFromString(f.read())
    tok = Tokenizer(models.Unigram([(q.piece, q.score) for q in model.pieces], unk_id=2, byte_fallback=False))
    tok.normalizer = normalizers.Precompiled(model.normalizer_spec.precompiled_charsmap)
    tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(),
                                                 pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="always")])
    tok.decoder = decoders.Metaspace(replacement="\u2581", prepend_scheme="always")
    tok.post_processor = processors.TemplateProcessing(single=["$A", "</s>"], pair=["$A", "</s>", "$B", "</s>"],
                                                       special_tokens=[("</s>", 1)])
    tok.add_special_tokens(["<pad>", "</s>", "<unk>"])
    tok.save(os.path.join(dst, "tokenizer.json"))
    config = dict(tokenizer_class="T5TokenizerFast", eos_token="</s>", unk_token="<unk>", pad_token="<pad>", extra_ids=0,
                  model_max_length=512, clean_up_tokenization_spaces=False, additional_special_tokens=[])
    with open(os.path.join(dst, "tokenizer_config.json"), "w") as f:
        json.dump(config, f, indent=2, sort_keys=True)
        f.write("\n")
    with open(os.path.join(dst, "special_tokens_map.json"), "w") as f:
        json.dump(dict(eos_token="</s>", pad_token="<pad>", unk_token="<unk>"), f, indent=2, sort_keys=True)
        f.write("\n")
    sp = spm.SentencePieceProcessor(model_file=os.path.join(dst, "spiece.model"))
    hf = T5TokenizerFast.from_pretrained(dst)
    texts = CHECKS + [clips.caption(clips.spec_from_seed(s), np.random.default_rng(s)) for s in range(500)]
    for t in texts:
        t = " ".join(t.split())
        got, want = hf(t).input_ids, sp.encode(t) + [1]
        assert got == want, (t, got, want)
    print("tokenizer:", len(model.pieces), "pieces, ids equal to SentencePiece for", len(texts), "texts")
    return hf


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--from", dest="src", default="/tmp/tiny_ckpt")
    p.add_argument("--to", default="models/tiny")
    p.add_argument("--raw", action="store_true")
    p.add_argument("--untrained", action="store_true", help="a new transformer, to look at the format")
    p.add_argument("--dit", default="dit.pt")
    p.add_argument("--vae", nargs="+", default=["vae.pt"])
    a = p.parse_args()
    dit, text = train_dit.build()
    ck = dict(step=0, samples=0)
    if not a.untrained:
        ck = torch.load(os.path.join(a.src, a.dit), map_location="cpu")
        weights = ck["model"] if a.raw else ck["ema"]
        dit.load_state_dict({k[4:]: v for k, v in weights.items() if k.startswith("dit.")})
        text.load_state_dict({k[5:]: v for k, v in weights.items() if k.startswith("text.")}, strict=False)
    states = [torch.load(os.path.join(a.src, name), map_location="cpu")["vae"] for name in a.vae]
    vae_state = {k: sum(s[k] for s in states) / len(states) for k in states[0]}
    stats = os.path.join(a.src, "latents_stats.npy")
    mean, std = np.load(stats).astype(float).tolist() if os.path.exists(stats) else ([0.0] * train_dit.Z, [1.0] * train_dit.Z)
    vae = AutoencoderKLWan(**dict(train_vae.CONFIG, latents_mean=[round(v, 5) for v in mean],
                                  latents_std=[round(v, 5) for v in std]))
    vae.load_state_dict(vae_state)
    tok = write_tokenizer(os.path.join(a.src, "tokenizer"), os.path.join(a.to, "tokenizer"))
    sched = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000,
                                    flow_shift=train_dit.SHIFT)
    for m in (dit, text, vae):
        m.to(torch.bfloat16)
    for part, name in ((dit, "transformer"), (vae, "vae"), (text, "text_encoder"), (sched, "scheduler")):
        part.save_pretrained(os.path.join(a.to, name))
    index = {"_class_name": "WanPipeline", "_diffusers_version": "0.42.1",
             "scheduler": ["diffusers", "UniPCMultistepScheduler"], "text_encoder": ["transformers", "UMT5EncoderModel"],
             "tokenizer": ["transformers", "T5TokenizerFast"], "transformer": ["diffusers", "WanTransformer3DModel"],
             "vae": ["diffusers", "AutoencoderKLWan"]}
    with open(os.path.join(a.to, "model_index.json"), "w") as f:
        json.dump(index, f, indent=2)
        f.write("\n")
    size = sum(os.path.getsize(os.path.join(d, n)) for d, _, names in os.walk(a.to) for n in names)
    pipe = WanPipeline.from_pretrained(a.to, torch_dtype=torch.float32, local_files_only=True)
    for t in CHECKS:
        assert pipe.tokenizer(t).input_ids == tok(t).input_ids, t
    x = pipe("a red ball", height=128, width=128, num_frames=5, num_inference_steps=2, guidance_scale=4.0, output_type="np").frames
    print("loaded with WanPipeline, frames", x.shape, "steps trained", ck["step"], "samples", ck["samples"],
          "directory %.2f MB" % (size / 1e6))


if __name__ == "__main__":
    main()
