"""Writes tests/vectors/golden/NAME/: tiny Wan models with random weights in diffusers layout, and what diffusers' WanPipeline makes of
them on the CPU in fp32. tests/golden/golden.c runs the engine on the same directories.

    python tests/golden/make_vectors.py [NAME ...]      (versions: tests/golden/requirements.txt)

NAME/model/             the model directory
NAME/case.json          prompt, size, steps ...; token ids; timesteps; how far the same pipeline in bf16 is from fp32
NAME/expect.safetensors prompt_embeds, negative_prompt_embeds [1,L,D]; latents.000 (noise) .. latents.NNN [1,C,T,H,W];
                        v.SSS.cond, v.SSS.uncond: the transformer's output in steps 0, 1 and the last; frames u8
                        [F,H,W,3] (cut, not rounded); frames_f32: every frames_stride-th value of the frames in [0,1]

Weights. diffusers' default initialisation makes a model that hardly reacts to its input (modulation and gates near 0, norms that
wash out the rest), so every tensor is drawn again: matrices and convolutions normal with 1/sqrt(fan-in), biases 0.1, norm weights
1 + 0.2 normal, modulation tables 0.5, the output of cross-attention times 3, so that each path carries an O(1) share.
check_reacts() asserts that text, timestep, expert and noise all move the result.
"""
import argparse
import contextlib
import json
import math
import pathlib
import shutil
import tempfile
import warnings

import numpy as np
import sentencepiece
import torch
from diffusers import (AutoencoderKLWan, DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler,
                       UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel)
from safetensors.torch import save_file
from diffusers.utils import logging as diffusers_logging
from transformers import T5TokenizerFast, UMT5Config, UMT5EncoderModel
from transformers.utils import logging as transformers_logging

warnings.filterwarnings("ignore")
for log in (diffusers_logging, transformers_logging):
    log.set_verbosity_error()
    log.disable_progress_bar()
torch.set_num_threads(1)
OUT = pathlib.Path(__file__).resolve().parent.parent / "vectors" / "golden"

CORPUS = """a red ball bounces on a blue floor
a green cube slides across a grey table
two white birds fly over the quiet sea at dawn
a small dog runs through tall grass, camera follows
the yellow car turns left and stops near a tree
blurry, low quality, static, worst, ugly, distorted hands
rain falls on a window while a lamp glows in the dark room
an old clock ticks slowly; close-up, shallow focus
snow covers the hill and a fox walks by, 4k, high detail
waves break against black rocks under a stormy sky
"""
# Normalisation of a few characters only: the whole NFKC table is 240 KB.
RULES = "FF0C\t2C\n3000\t20\nFB01\t66 69\nFF01\t21\nA0\t20\n9\t20\nA\t20\n"


def unipc(shift, order=2):
    return UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift, solver_order=order)


def dpmpp(shift):
    return DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift)


VAE21 = dict(base_dim=4, z_dim=16, dim_mult=[1, 2, 2, 2], num_res_blocks=1, temperal_downsample=[False, True, True])
VAE22 = dict(base_dim=2, decoder_base_dim=4, z_dim=48, dim_mult=[1, 2, 4, 4], num_res_blocks=1,
             temperal_downsample=[False, True, True], in_channels=12, out_channels=12, is_residual=True, patch_size=2,
             scale_factor_spatial=16, scale_factor_temporal=4)

# store: components whose files hold another type than f32; the values are rounded to it before anything is run.
CASES = {
    "wan21_unipc": dict(
        dit=dict(num_attention_heads=2, attention_head_dim=12, num_layers=3, ffn_dim=64, text_dim=32),
        text=dict(d_kv=8, num_heads=4, d_ff=64, num_layers=2), vae=VAE21, scheduler=unipc(3.0),
        prompt="a red ball bounces on a blue floor", negative="blurry, low quality",
        width=80, height=48, frames=9, steps=4, guidance=5.0, max_text=512, seed=11),
    # one head of 128, no guidance, one frame
    "wan21_euler": dict(
        dit=dict(num_attention_heads=1, attention_head_dim=128, num_layers=1, ffn_dim=96, text_dim=16, freq_dim=64),
        text=dict(d_kv=16, num_heads=1, d_ff=40, num_layers=1),
        vae=dict(VAE21, base_dim=2, dim_mult=[1, 2, 4, 4]), scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        prompt="two white birds fly over the quiet sea at dawn", negative=None,
        store=dict(transformer="bf16", text_encoder="bf16", vae="bf16"),
        width=112, height=16, frames=1, steps=3, guidance=1.0, max_text=24, seed=2),
    # two experts, the second in shards
    "wan22_a14b": dict(
        dit=dict(num_attention_heads=3, attention_head_dim=16, num_layers=2, ffn_dim=80, text_dim=24), experts=2,
        text=dict(d_kv=8, num_heads=3, d_ff=48, num_layers=2), vae=VAE21, scheduler=unipc(12.0), boundary=0.875,
        prompt="snow covers the hill and a fox walks by\uff0c 4k", negative="",
        width=32, height=64, frames=5, steps=6, guidance=4.0, guidance_2=3.0, max_text=48, seed=5, shard="150KB",
        store=dict(vae="f16")),
    # a timestep per token, 48 channels, the 16x16x4 VAE
    "wan22_ti2v": dict(
        dit=dict(num_attention_heads=1, attention_head_dim=64, num_layers=2, ffn_dim=112, text_dim=40, in_channels=48,
                 out_channels=48),
        text=dict(d_kv=12, num_heads=2, d_ff=64, num_layers=3), vae=VAE22, scheduler=unipc(5.0), expand=True,
        prompt="rain falls on a window while a lamp glows in the dark room", negative="static, worst, ugly",
        width=96, height=64, frames=13, steps=3, guidance=5.0, max_text=64, seed=2**40 + 7,
        store=dict(transformer="bf16", vae="bf16")),
    # no cross-attention norm, five steps of DPM++
    "wan21_dpmpp": dict(
        dit=dict(num_attention_heads=3, attention_head_dim=24, num_layers=2, ffn_dim=100, text_dim=32, cross_attn_norm=False),
        text=dict(d_kv=8, num_heads=4, d_ff=64, num_layers=2), vae=dict(VAE21, num_res_blocks=2, base_dim=3), scheduler=dpmpp(8.0),
        prompt="the yellow car turns left and stops near a tree", negative="distorted hands",
        width=48, height=80, frames=13, steps=5, guidance=3.0, max_text=40, seed=42, store=dict(transformer="f16")),
    # two latent frames in a patch, widths that fit no vector, UniPC of order 1, prompt cut to 12 tokens
    "wan21_patch2": dict(
        dit=dict(num_attention_heads=3, attention_head_dim=20, num_layers=1, ffn_dim=52, text_dim=20, patch_size=(2, 2, 2)),
        text=dict(d_kv=10, num_heads=3, d_ff=36, num_layers=2), vae=VAE21, scheduler=unipc(5.0, 1),
        prompt="an old clock ticks slowly; close-up, shallow focus", negative="low quality",
        width=48, height=32, frames=5, steps=2, guidance=6.0, max_text=12, seed=0, store=dict(text_encoder="bf16")),
}


def draw_weights(module, seed):
    """See the top of the file. Names decide, so that the draw is the same whatever the class calls first."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in sorted(module.named_parameters()):
            r = torch.randn(p.shape, generator=g)
            last = name.rsplit(".", 1)[-1]
            if last == "scale_shift_table":
                r = 0.5 * r
            elif "relative_attention_bias" in name:
                r = 0.5 * r
            elif name.startswith(("shared", "encoder.embed_tokens")):
                pass
            elif last == "gamma" or (p.ndim == 1 and last == "weight"):
                r = 1 + 0.2 * r
            elif p.ndim == 1:
                r = 0.1 * r
            else:
                fan = math.prod(p.shape[1:])
                gain = 0.5 if "time_proj" in name else 3.0 if "attn2.to_out" in name else 1.0
                if "SelfAttention.q" in name:      # T5 does not scale the logits
                    gain = module.config.d_kv ** -0.5
                r = gain * r / math.sqrt(fan)
            p.copy_(r)


def make_tokenizer(folder):
    with tempfile.TemporaryDirectory() as tmp:
        tmp = pathlib.Path(tmp)
        (tmp / "corpus.txt").write_text(CORPUS * 20)
        (tmp / "rules.tsv").write_text(RULES)
        with contextlib.chdir(tmp):      # the model keeps the names of its files
            sentencepiece.SentencePieceTrainer.train(
                input="corpus.txt", model_prefix="sp", vocab_size=240, model_type="unigram", pad_id=0, eos_id=1, bos_id=2,
                unk_id=3, pad_piece="<pad>", unk_piece="<unk>", normalization_rule_tsv="rules.tsv",
                hard_vocab_limit=False, character_coverage=1.0, num_threads=1, minloglevel=2)
        shutil.copy(tmp / "sp.model", tmp / "spiece.model")
        tok = T5TokenizerFast.from_pretrained(str(tmp), extra_ids=0)
        tok.save_pretrained(str(folder))
        shutil.copy(tmp / "spiece.model", folder / "spiece.model")
    return T5TokenizerFast.from_pretrained(str(folder))


def build(name, case, folder):
    seed = sum(name.encode()) * 1000
    (folder / "tokenizer").mkdir(parents=True)
    tokenizer = make_tokenizer(folder / "tokenizer")
    torch.manual_seed(0)
    text = UMT5EncoderModel(UMT5Config(
        vocab_size=-(-len(tokenizer) // 8) * 8, d_model=case["dit"]["text_dim"], feed_forward_proj="gated-gelu", dropout_rate=0.0,
        tie_word_embeddings=False, tokenizer_class="T5Tokenizer", **case["text"])).eval()
    draw_weights(text, seed + 1)
    dits = []
    for k in range(case.get("experts", 1)):
        d = WanTransformer3DModel(**{"in_channels": 16, "out_channels": 16, "rope_max_seq_len": 64, **case["dit"]}).eval()
        draw_weights(d, seed + 2 + k)
        dits.append(d)
    vae = AutoencoderKLWan(**case["vae"], **({} if case["vae"]["z_dim"] == 16 else latent_statistics(48))).eval()
    draw_weights(vae, seed + 9)
    pipe = WanPipeline(tokenizer=tokenizer, text_encoder=text, vae=vae, scheduler=case["scheduler"], transformer=dits[0],
                       transformer_2=dits[1] if len(dits) > 1 else None, boundary_ratio=case.get("boundary"),
                       expand_timesteps=case.get("expand", False))
    for part, dtype in case.get("store", {}).items():
        getattr(pipe, part).to({"bf16": torch.bfloat16, "f16": torch.float16}[dtype])
    pipe.save_pretrained(str(folder))
    make_tokenizer(folder / "tokenizer")
    if "shard" in case:
        shutil.rmtree(folder / "transformer_2")
        dits[1].save_pretrained(str(folder / "transformer_2"), max_shard_size=case["shard"])
    for f in folder.rglob("README.md"):
        f.unlink()


def latent_statistics(z):
    g = torch.Generator().manual_seed(z)
    return dict(latents_mean=[round(float(x), 4) for x in 0.3 * torch.randn(z, generator=g)],
                latents_std=[round(float(x), 4) for x in 0.4 + torch.rand(z, generator=g)])


def load(folder, dtype, vae_dtype=None):
    pipe = WanPipeline.from_pretrained(str(folder), torch_dtype=dtype)
    if vae_dtype is not None:
        pipe.vae.to(vae_dtype)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def run(pipe, case, **override):
    """Frames in [0, 1] and everything on the way: embeddings, inputs and outputs of the transformers, latents."""
    calls, latents = [], []

    def hook(which):
        def f(module, args, kwargs, output):
            calls.append(dict(which=which, x=kwargs["hidden_states"].float(), t=kwargs["timestep"],
                              text=kwargs["encoder_hidden_states"].float(), v=output[0].float()))
        return f

    def after(p, i, t, kw):
        latents.append(kw["latents"].float().clone())
        return {}

    handles = [m.register_forward_hook(hook(k), with_kwargs=True)
               for k, m in enumerate((pipe.transformer, pipe.transformer_2)) if m is not None]
    kw = dict(prompt=case["prompt"], negative_prompt=case["negative"], width=case["width"], height=case["height"],
              num_frames=case["frames"], num_inference_steps=case["steps"], guidance_scale=case["guidance"],
              max_sequence_length=case["max_text"], generator=torch.Generator().manual_seed(case["seed"]), output_type="np",
              callback_on_step_end=after)
    if "guidance_2" in case:
        kw["guidance_scale_2"] = case["guidance_2"]
    kw.update(override)
    with torch.no_grad():
        frames = pipe(**kw).frames[0]
    for h in handles:
        h.remove()
    return dict(frames=torch.from_numpy(np.asarray(frames, np.float32)), calls=calls, latents=latents)


def rms(a):
    return float(a.double().square().mean().sqrt())


def distance(a, truth):
    """[rms of the difference, largest difference], each relative to the truth's."""
    d = (a - truth).double()
    return [rms(d) / rms(truth), float(d.abs().max() / truth.double().abs().max())]


def branches(case):
    return 2 if case["guidance"] > 1 else 1


def check_reacts(name, pipe, case, truth):
    last = truth["latents"][-1]
    moved = {"prompt": run(pipe, case, prompt="waves break against black rocks")["latents"][-1],
             "seed": run(pipe, case, generator=torch.Generator().manual_seed(case["seed"] + 1))["latents"][-1]}
    if branches(case) == 2:
        moved["guidance"] = run(pipe, case, guidance_scale=case["guidance"] + 1)["latents"][-1]
    call = truth["calls"][0]
    model = pipe.transformer
    with torch.no_grad():
        t = model(hidden_states=call["x"], timestep=call["t"] - 100, encoder_hidden_states=call["text"], return_dict=False)[0]
    report = {k: distance(m, last)[0] for k, m in moved.items()}
    report["timestep"] = distance(t, call["v"])[0]
    if pipe.transformer_2 is not None:
        with torch.no_grad():
            v = pipe.transformer_2(hidden_states=call["x"], timestep=call["t"], encoder_hidden_states=call["text"],
                                   return_dict=False)[0]
        report["expert"] = distance(v, call["v"])[0]
        assert {c["which"] for c in truth["calls"]} == {0, 1}, "both experts must be used"
    f = truth["frames"]
    clipped = float(((f == 0) | (f == 1)).float().mean())
    print(f"  reacts {({k: round(v, 3) for k, v in report.items()})}; |v| {rms(call['v']):.2f} |latents| {rms(last):.2f} "
          f"frames {float(f.mean()):.2f} +- {float(f.std()):.2f}, clipped {clipped:.2f}")
    assert all(v > 0.01 for v in report.values()) and f.std() > 0.05 and clipped < 0.25, name


def bf16_distances(folder, case, truth):
    """The same pipeline in bf16 (transformer and text encoder; VAE in bf16 and in fp32), from start to end and stage by stage with the
    inputs of the fp32 run."""
    pipe = load(folder, torch.bfloat16)
    free = run(pipe, case)
    n = branches(case)
    out = dict(text=[distance(free["calls"][k]["text"], truth["calls"][k]["text"]) for k in range(n)],
               latents=[distance(a, b) for a, b in zip(free["latents"], truth["latents"])],
               frames=frame_distance(free["frames"], truth["frames"]))
    out["v"] = []
    with torch.no_grad():
        for c in truth["calls"]:
            model = pipe.transformer_2 if c["which"] else pipe.transformer
            v = model(hidden_states=c["x"].bfloat16(), timestep=c["t"], encoder_hidden_states=c["text"].bfloat16(),
                      return_dict=False)[0]
            out["v"].append(distance(v.float(), c["v"]))
        out["vae"] = frame_distance(decode(pipe, truth["latents"][-1]), truth["frames"])
    out["frames_vae_f32"] = frame_distance(run(load(folder, torch.bfloat16, torch.float32), case)["frames"], truth["frames"])
    return out


def frame_distance(a, truth):
    """[rms, largest] in units of the full range."""
    d = (a - truth).double()
    return [rms(d), float(d.abs().max())]


def decode(pipe, latents):
    cfg = pipe.vae.config
    z = latents.to(pipe.vae.dtype)
    std = 1.0 / torch.tensor(cfg.latents_std).view(1, -1, 1, 1, 1).to(z.dtype)
    z = z / std + torch.tensor(cfg.latents_mean).view(1, -1, 1, 1, 1).to(z.dtype)
    video = pipe.vae.decode(z, return_dict=False)[0]
    return torch.from_numpy(pipe.video_processor.postprocess_video(video.float(), output_type="np"))[0]


def make(name, case):
    print(name)
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    build(name, case, folder / "model")
    pipe = load(folder / "model", torch.float32)
    truth = run(pipe, case)
    check_reacts(name, pipe, case, truth)
    n = branches(case)
    assert len(truth["calls"]) == n * case["steps"]
    noise = torch.randn(truth["latents"][0].shape, generator=torch.Generator().manual_seed(case["seed"]))
    assert torch.equal(noise, truth["calls"][0]["x"])
    tensors = {"prompt_embeds": truth["calls"][0]["text"], "latents.000": noise}
    if n == 2:
        tensors["negative_prompt_embeds"] = truth["calls"][1]["text"]
    for i, x in enumerate(truth["latents"]):
        tensors[f"latents.{i + 1:03d}"] = x
        if i not in (0, 1, case["steps"] - 1):
            continue
        for k, b in zip(range(n), ("cond", "uncond")):
            tensors[f"v.{i:03d}.{b}"] = truth["calls"][n * i + k]["v"]
    frames = truth["frames"]
    stride = max(1, frames.numel() // 4096) | 1
    tensors["frames"] = (frames * 255).to(torch.uint8)
    tensors["frames_f32"] = frames.flatten()[::stride].clone()
    save_file({k: v.contiguous() for k, v in tensors.items()}, str(folder / "expect.safetensors"))

    def ids(text):
        t = pipe.tokenizer([text], max_length=case["max_text"], truncation=True, add_special_tokens=True)
        return t.input_ids[0]

    keep = ("prompt", "negative", "width", "height", "frames", "steps", "guidance", "guidance_2", "max_text", "seed", "boundary")
    doc = {k: case[k] for k in keep if case.get(k) is not None}
    doc.update(branches=n, scheduler={"UniPCMultistepScheduler": "unipc", "DPMSolverMultistepScheduler": "dpmpp",
                                      "FlowMatchEulerDiscreteScheduler": "euler"}[type(case["scheduler"]).__name__],
               ids=ids(case["prompt"].replace("\uff0c", ",")), frames_stride=stride,
               timesteps=[float(t) for t in pipe.scheduler.timesteps],
               expert=[truth["calls"][n * i]["which"] for i in range(case["steps"])],
               bf16=json.loads(json.dumps(bf16_distances(folder / "model", case, truth)),
                               parse_float=lambda s: float(f"{float(s):.4g}")))
    if n == 2:
        doc["negative_ids"] = ids(case["negative"])
    (folder / "case.json").write_text(json.dumps(doc, indent=1) + "\n")
    b = doc["bf16"]
    print("  bf16: text", b["text"], "v", [max(x[k] for x in b["v"]) for k in (0, 1)], "latents", b["latents"][-1], "frames", b["frames"],
          b["frames_vae_f32"], "vae", b["vae"])
    print("  bytes", sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()))


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("names", nargs="*", default=list(CASES))
    for case_name in p.parse_args().names:
        make(case_name, CASES[case_name])
