"""Trains the built-in model's text encoder and diffusion transformer together (flow matching, procedural clips).

  train_dit.py --tokenizer                 SentencePiece model from the caption corpus (DIR/tokenizer)
  train_dit.py --prepare N                 encodes N clips with DIR/vae.pt into DIR/latents (can run beside the training)
  train_dit.py --minutes M [--resume]      trains; checkpoints to DIR/dit.pt every few minutes
  train_dit.py --start-from models/tiny    begins with published weights instead

The loss is the mean squared error of the velocity noise - x0 at sigma drawn uniform or logit-normal and shifted by 3.
Clip lengths grow during training: single frames first, then short clips, then whole ones.
"""
import argparse
import math
import multiprocessing as mp
import os
import time

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from transformers import UMT5Config, UMT5EncoderModel

import clips
import train_vae
from muon import Muon

SHIFT = 3.0
ROWS = 512      # the pipeline pads the text to this many rows
TOKENS = 32     # the longest caption kept, eos included
Z, LT, LH = train_vae.Z, 9, 8
P = 2            # spatial patch: 16 tokens a latent frame
DIT = dict(patch_size=[1, P, P], num_attention_heads=4, attention_head_dim=64, in_channels=Z, out_channels=Z, text_dim=128,
           freq_dim=256, ffn_dim=768, num_layers=6, cross_attn_norm=True, qk_norm="rms_norm_across_heads", eps=1e-6,
           rope_max_seq_len=1024)
TEXT = dict(vocab_size=256, d_model=128, d_kv=32, d_ff=256, num_layers=3, num_heads=4, relative_attention_num_buckets=32,
            relative_attention_max_distance=128, dropout_rate=0.0, feed_forward_proj="gated-gelu", layer_norm_epsilon=1e-6,
            pad_token_id=0, eos_token_id=1, decoder_start_token_id=0, tie_word_embeddings=False, is_encoder_decoder=False,
            use_cache=False)


# ---------------------------------------------------------------------------------------------------- tokenizer
def make_tokenizer(folder, vocab):
    """A unigram model whose pieces are the corpus' words, then single characters as a fallback. (SentencePiece's own
    EM prefers fragments on a corpus of so few words, and a colour that is one piece is easier to bind.)"""
    import collections
    import sentencepiece as spm
    from sentencepiece import sentencepiece_model_pb2 as pb
    os.makedirs(folder, exist_ok=True)
    lines = [clips.caption(clips.spec_from_seed(s), np.random.default_rng(s)) for s in range(60000)]
    corpus, prefix = os.path.join(folder, "captions.txt"), os.path.join(folder, "spiece")
    with open(corpus, "w") as f:
        f.write("\n".join(lines[:20000]))
    printable = "".join(chr(c) for c in range(33, 127) if not 65 <= c <= 90)
    # T5 numbering: unk must be 2, transformers' T5Tokenizer has that number built in
    spm.SentencePieceTrainer.train(
        input=corpus, model_prefix=prefix, vocab_size=vocab, model_type="unigram", pad_id=0, eos_id=1, unk_id=2,
        bos_id=-1, pad_piece="<pad>", eos_piece="</s>", unk_piece="<unk>", normalization_rule_name="nmt_nfkc_cf",
        required_chars=printable, hard_vocab_limit=False, num_threads=1, minloglevel=2)
    model = pb.ModelProto()
    with open(prefix + ".model", "rb") as f:
        model.ParseFromString(f.read())
    words = collections.Counter(w.strip(".,") for line in lines for w in line.lower().split())
    total = sum(words.values())
    pieces = [("\u2581" + w, math.log(n / total)) for w, n in sorted(words.items(), key=lambda i: (-i[1], i[0]))]
    pieces += [(",", -3.0), (".", -3.0)]
    pieces += [(c, -14.0 - 0.01 * k) for k, c in enumerate("\u2581etaoinsrhldcumfpgwybvkxjqz" + printable) if c not in ",."]
    seen, kind = set(), pb.ModelProto.SentencePiece
    del model.pieces[3:]
    for text, score in pieces:
        if text not in seen:
            seen.add(text)
            model.pieces.append(kind(piece=text, score=score))
    model.trainer_spec.vocab_size = len(model.pieces)
    with open(prefix + ".model", "wb") as f:
        f.write(model.SerializeToString())
    print(len(model.pieces), "pieces,", len(words), "words")


def tokenizer(folder):
    import sentencepiece as spm
    sp = spm.SentencePieceProcessor(model_file=os.path.join(folder, "spiece.model"))
    return lambda text: (sp.encode(text) + [1])[:TOKENS]


# ------------------------------------------------------------------------------------------------------ latents
def load_vae(out, start=None):
    if start:
        vae = AutoencoderKLWan.from_pretrained(start, subfolder="vae", torch_dtype=torch.float32)
        return train_vae.whole_clip(vae.eval().requires_grad_(False))
    ck = torch.load(os.path.join(out, "vae.pt"), map_location="cpu")
    vae = AutoencoderKLWan(**train_vae.CONFIG)
    vae.load_state_dict(ck["vae"])
    return train_vae.whole_clip(vae.eval().requires_grad_(False))


def prepare(out, count, first_frames, threads, start, bf16):
    """Latents (not normalised) as float16, seeds 0..count-1; the file grows, `ready` says how far it is valid."""
    torch.set_num_threads(threads)
    vae = load_vae(out, start)
    name = os.path.join(out, "images" if first_frames else "latents")
    t = 1 if first_frames else LT
    offset = 50_000_000 if first_frames else 0
    size = Z * t * LH * LH * 2
    done = os.path.getsize(name + ".f16") // size if os.path.exists(name + ".f16") else 0
    for m in vae.modules():
        if isinstance(m, torch.nn.Conv3d):
            m.weight.data = m.weight.data.contiguous(memory_format=torch.channels_last_3d)
        elif isinstance(m, torch.nn.Conv2d):
            m.weight.data = m.weight.data.contiguous(memory_format=torch.channels_last)
    n = 16 if first_frames else 1
    seeds = [[offset + done + k + i for i in range(n)] for k in range(0, count - done, n)]
    with open(name + ".f16", "r+b" if done else "wb") as f, mp.Pool(1) as pool:
        f.seek(done * size)
        for x in pool.imap(draw_first if first_frames else draw_whole, seeds):
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                z = train_vae.encode(vae, torch.from_numpy(x).float() / 127.5 - 1)[0]
            f.write(z.numpy().astype(np.float16).tobytes())
            f.flush()
            done += n
            if done % 500 < n:
                print(time.strftime("%H:%M:%S"), name, done, flush=True)


def draw_whole(seeds, frames=clips.FRAMES):
    x = np.stack([clips.draw(clips.spec_from_seed(s), frames) for s in seeds])
    return np.ascontiguousarray(x.transpose(0, 4, 1, 2, 3))


def draw_first(seeds):
    return draw_whole(seeds, 1)


class Store:
    """Latents of one kind and their specs; follows a file that is still being written."""

    def __init__(self, out, images):
        self.path = os.path.join(out, ("images" if images else "latents") + ".f16")
        self.t, self.offset = (1, 50_000_000) if images else (LT, 0)
        self.size = Z * self.t * LH * LH * 2
        self.specs, self.map = [], None

    def refresh(self):
        n = os.path.getsize(self.path) // self.size if os.path.exists(self.path) else 0
        if n > len(self.specs):
            self.specs += [clips.spec_from_seed(self.offset + s) for s in range(len(self.specs), n)]
            self.map = np.memmap(self.path, np.float16, "r", shape=(n, Z, self.t, LH, LH))
        return n


# -------------------------------------------------------------------------------------------------------- model
def build(start=None):
    if start:
        return (WanTransformer3DModel.from_pretrained(start, subfolder="transformer", torch_dtype=torch.float32),
                UMT5EncoderModel.from_pretrained(start, subfolder="text_encoder", torch_dtype=torch.float32))
    dit, text = WanTransformer3DModel(**DIT), UMT5EncoderModel(UMT5Config(**TEXT))
    d, layers = dit.config.num_attention_heads * dit.config.attention_head_dim, dit.config.num_layers
    with torch.no_grad():  # residual branches start small, the modulation starts neutral
        for m in dit.modules():
            if isinstance(m, torch.nn.Linear):
                m.weight.normal_(0, 1 / math.sqrt(m.in_features))
                m.bias.zero_()
        for b in dit.blocks:
            for lin in (b.attn1.to_out[0], b.attn2.to_out[0], b.ffn.net[2]):
                lin.weight.normal_(0, 0.5 / math.sqrt(lin.in_features * 2 * layers))
            b.scale_shift_table.zero_()
            b.scale_shift_table[:, 2], b.scale_shift_table[:, 5] = 1, 1
        dit.condition_embedder.time_proj.weight.normal_(0, 0.1 / math.sqrt(d))
        dit.scale_shift_table.zero_()
        dit.proj_out.weight.zero_()
        for name, q in text.named_parameters():
            if name == "shared.weight":
                q.normal_(0, 1)
            elif q.ndim == 2 and "relative" not in name:
                q.normal_(0, 1 / math.sqrt(q.shape[1]))
                if ".SelfAttention.q." in name:
                    q.mul_(1 / math.sqrt(text.config.d_kv))
                if ".o.weight" in name or ".wo.weight" in name:
                    q.mul_(0.5)
    return dit, text


def context(text, ids, lens, stand_for=ROWS):
    """Encoder rows [B,L,d], zero past each prompt, and the cross-attention bias that makes L rows stand for more.

    Most of the pipeline's 512 rows are padding, which takes 96 % of a new network's attention and so of the gradient
    that binds words: the training begins with few (rows_at)."""
    length = ids.shape[1]
    keep = torch.arange(length)[None] < lens[:, None]
    rows = text(ids, keep.long()).last_hidden_state * keep[..., None]
    pads = (length - lens).clamp(min=1).float()
    bias = torch.where(keep, 0.0, torch.log((stand_for - lens).float() / pads)[:, None])
    return rows, bias[:, None, None, :]


def rows_at(frac):
    """How many text rows the padding stands for at a part of the run: from 34 to the pipeline's 512 in a quarter of it."""
    return ROWS if frac >= 0.25 else 34.0 * (ROWS / 34.0) ** (frac / 0.25)


def rope_tables(dit, t, h, w):
    x = torch.empty(1, Z, t, P * h, P * w)
    cos, sin = dit.rope(x)
    return cos[0, :, 0, 0::2].float(), sin[0, :, 0, 1::2].float()  # [S, head_dim/2]


def _rope(x, cos, sin):
    """x [B,H,S,D], interleaved pairs."""
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    a, b = a.float(), b.float()
    return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2).to(x.dtype)


def _attend(att, q_in, kv_in, heads, cos=None, sin=None, bias=None):
    q, k, v = att.norm_q(att.to_q(q_in)), att.norm_k(att.to_k(kv_in)), att.to_v(kv_in)
    split = lambda y: y.unflatten(-1, (heads, -1)).transpose(1, 2)
    q, k, v = split(q), split(k), split(v)
    if cos is not None:
        q, k = _rope(q, cos, sin), _rope(k, cos, sin)
    s = q.to(v.dtype) @ (k * q.shape[-1] ** -0.5).to(v.dtype).mT  # short sequences: faster than the fused kernel
    y = torch.softmax(s if bias is None else s + bias, -1).to(v.dtype) @ v
    return att.to_out[0](y.transpose(1, 2).flatten(2))


def forward(dit, x, t, rows, bias, cos, sin):
    """WanTransformer3DModel's forward with a compact text context; x [B,Z,T,H,W] -> velocity."""
    ce, heads = dit.condition_embedder, dit.config.num_attention_heads
    b, _, tt, hh, ww = x.shape
    # patches as a matrix product: order (c, ph, pw)
    p = x.view(b, Z, tt, hh // P, P, ww // P, P).permute(0, 2, 3, 5, 1, 4, 6).reshape(b, -1, Z * P * P)
    h = F.linear(p, dit.patch_embedding.weight.flatten(1), dit.patch_embedding.bias)
    temb = ce.time_embedder(ce.timesteps_proj(t))
    mod = ce.time_proj(F.silu(temb)).float().unflatten(1, (6, -1))
    ctx = ce.text_embedder(rows)
    for blk in dit.blocks:
        s1, c1, g1, s2, c2, g2 = (blk.scale_shift_table + mod).unsqueeze(2).unbind(1)
        n = F.layer_norm(h, h.shape[-1:], eps=1e-6) * (1 + c1) + s1
        h = h + _attend(blk.attn1, n, n, heads, cos, sin) * g1
        n = F.layer_norm(h, h.shape[-1:], blk.norm2.weight, blk.norm2.bias, 1e-6)
        h = h + _attend(blk.attn2, n, ctx, heads, bias=bias)
        n = F.layer_norm(h, h.shape[-1:], eps=1e-6) * (1 + c2) + s2
        h = h + blk.ffn.net[2](F.gelu(blk.ffn.net[0].proj(n), approximate="tanh")) * g2
    shift, scale = (dit.scale_shift_table + temb[:, None].float()).chunk(2, 1)
    y = dit.proj_out(F.layer_norm(h, h.shape[-1:], eps=1e-6) * (1 + scale) + shift)
    return y.view(b, tt, hh // P, ww // P, P, P, Z).permute(0, 6, 1, 2, 4, 3, 5).reshape(b, Z, tt, hh, ww)


# ------------------------------------------------------------------------------------------------------- training
def batch(rng, store, n, t, tok, mean, std):
    idx = np.sort(rng.integers(0, len(store.specs), n))
    x = torch.from_numpy(np.ascontiguousarray(store.map[idx, :, :t])).float()
    ids = [tok("" if rng.random() < 0.1 else clips.caption(store.specs[i], rng)) for i in idx]
    lens = torch.tensor([len(i) for i in ids])
    mat = torch.zeros(n, TOKENS, dtype=torch.long)
    for k, i in enumerate(ids):
        mat[k, :len(i)] = torch.tensor(i)
    return (x - mean) / std, mat, lens


def sigmas(n):
    u = torch.where(torch.rand(n) < 0.5, torch.rand(n), torch.sigmoid(torch.randn(n)))
    return SHIFT * u / (1 + (SHIFT - 1) * u)


def schedule(frac, rng, stages):
    """(latent frames, batch) at a fraction of the run."""
    for end, mix in stages:
        if frac < end:
            break
    k = rng.choice(len(mix), p=[m[0] for m in mix])
    return mix[k][1], mix[k][2]


STAGES = [(0.06, [(1.0, 1, 256)]),
          (0.16, [(0.1, 1, 256), (0.7, 3, 96), (0.2, 9, 32)]),
          (1.01, [(0.05, 1, 256), (0.05, 3, 96), (0.90, 9, 32)])]
STAGES_LONG = [(1.01, [(0.03, 1, 256), (0.07, 3, 96), (0.90, 9, 32)])]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--out", default="/tmp/tiny_ckpt")
    p.add_argument("--tokenizer", action="store_true")
    p.add_argument("--vocab", type=int, default=256)
    p.add_argument("--prepare", type=int)
    p.add_argument("--images", action="store_true", help="with --prepare: single frames")
    p.add_argument("--minutes", type=float, default=80)
    p.add_argument("--resume", action="store_true")
    p.add_argument("--start-from")
    p.add_argument("--long", action="store_true", help="no length curriculum")
    p.add_argument("--lr", type=float, default=1.5e-3)
    p.add_argument("--decay", type=float, default=0.3, help="the last part of the run in which the rate falls to 0")
    p.add_argument("--ema", type=float, default=0.998)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--bf16", action="store_true", help="autocast: 4 times as fast where the CPU multiplies bf16 at full rate")
    p.add_argument("--compile", action="store_true", help="torch.compile for whole clips: 1.2 times as fast")
    p.add_argument("--steps", type=int, default=0, help="leave after this many steps (timing)")
    a = p.parse_args()
    os.makedirs(a.out, exist_ok=True)
    folder = os.path.join(a.out, "tokenizer")
    if a.tokenizer:
        return make_tokenizer(folder, a.vocab)
    if a.prepare:
        return prepare(a.out, a.prepare, a.images, a.threads, a.start_from, a.bf16)
    torch.set_num_threads(a.threads)
    seed = int(time.time())
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    tok = tokenizer(os.path.join(a.start_from, "tokenizer") if a.start_from else folder)
    videos, images = Store(a.out, False), Store(a.out, True)
    while images.refresh() < 1000 or videos.refresh() < 64:
        time.sleep(5)
    stat = os.path.join(a.out, "latents_stats.npy")
    if a.start_from and not os.path.exists(stat):  # published weights know their own scale
        cfg = AutoencoderKLWan.load_config(a.start_from, subfolder="vae")
        np.save(stat, np.array([cfg["latents_mean"], cfg["latents_std"]]))
    if not os.path.exists(stat):
        v = torch.from_numpy(np.array(videos.map[:256])).float()
        std = v.std((0, 2, 3, 4)).numpy()
        # a channel that the autoencoder left unused must not be blown up into something to be learnt
        np.save(stat, np.stack([v.mean((0, 2, 3, 4)).numpy(), np.where(std < 0.1 * std.max(), std.max(), std)]))
    mean, std = (torch.from_numpy(v).view(1, Z, 1, 1, 1) for v in np.load(stat).astype(np.float32))

    dit, text = build(a.start_from)
    whole = torch.compile(forward) if a.compile else forward
    path = os.path.join(a.out, "dit.pt")
    params = dict([("dit." + k, q) for k, q in dit.named_parameters()] + [("text." + k, q) for k, q in text.named_parameters()])
    print("dit %.2f M, text %.2f M parameters, %d clips, %d images" % (
        sum(q.numel() for q in dit.parameters()) / 1e6, sum(q.numel() for q in text.parameters()) / 1e6,
        len(videos.specs), len(images.specs)), flush=True)
    mats = [q for k, q in params.items() if q.ndim == 2 and k.startswith("dit.blocks")]
    ids_m = {id(q) for q in mats}
    muon = Muon(mats)
    adam = torch.optim.AdamW([q for q in params.values() if id(q) not in ids_m], lr=a.lr, betas=(0.9, 0.98), weight_decay=0.01)
    ema = {k: q.detach().clone() for k, q in params.items()}
    step, samples, spent = 0, 0, 0.0
    if a.resume and os.path.exists(path):
        ck = torch.load(path, map_location="cpu")
        with torch.no_grad():
            for k, q in params.items():
                q.copy_(ck["model"][k])
        ema, step, samples, spent = ck["ema"], ck["step"], ck["samples"], ck["spent"]
        adam.load_state_dict(ck["adam"])
        muon.state = ck["muon"]
    tables = {t: rope_tables(dit, t, LH // P, LH // P) for t in (1, 3, 5, 9)}
    begin, last, saved = time.time(), time.time(), time.time()
    base, total = spent, a.minutes * 60
    hist = {}
    while True:
        spent = base + time.time() - begin
        frac = spent / total
        if frac >= 1 or (a.steps and step >= a.steps):
            break
        lr = a.lr * min(1, (step + 1) / 100) * min(1, max(0.01, (1 - frac) / a.decay))
        muon.lr = lr
        adam.param_groups[0]["lr"] = lr
        t, n = schedule(frac, rng, STAGES_LONG if a.long else STAGES)
        store = images if t == 1 else videos
        x0, ids, lens = batch(rng, store, n, t, tok, mean, std)
        sig = sigmas(n)
        noise = torch.randn_like(x0)
        s = sig.view(-1, 1, 1, 1, 1)
        xt = (1 - s) * x0 + s * noise
        with torch.autocast("cpu", torch.bfloat16, enabled=a.bf16):
            rows, bias = context(text, ids, lens, ROWS if a.long or a.start_from else rows_at(frac))  # published words bind
            v = (whole if t == LT else forward)(dit, xt, sig * 1000, rows, bias, *tables[t])
        err = (v.float() - (noise - x0)).square().mean((1, 2, 3, 4))
        loss = err.mean()
        adam.zero_grad(set_to_none=True)
        for q in mats:
            q.grad = None
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(params.values(), 1.0)
        adam.step()
        muon.step()
        step, samples = step + 1, samples + n
        decay = min(a.ema, (step + 1) / (step + 20))
        with torch.no_grad():
            torch._foreach_lerp_(list(ema.values()), list(params.values()), 1 - decay)
        hist.setdefault(t, []).append(float(loss.detach()))
        if step % 25 == 0:
            line = " ".join(f"T{k} {np.mean(v_):.4f}" for k, v_ in sorted(hist.items()))
            print(f"{time.strftime('%H:%M:%S')} step {step} samples {samples} {100 * frac:.1f}% lr {lr:.5f} {line} grad {float(norm):.2f} "
                  f"{(time.time() - last) / 25:.3f} s/step", flush=True)
            hist, last = {}, time.time()
            videos.refresh(), images.refresh()
        if time.time() - saved > 180:
            saved = time.time()
            save(path, params, ema, step, samples, spent, adam, muon)
    save(path, params, ema, step, samples, spent, adam, muon)


def save(path, params, ema, step, samples, spent, adam, muon):
    torch.save(dict(model={k: q.detach() for k, q in params.items()}, ema=ema, step=step, samples=samples, spent=spent,
                    adam=adam.state_dict(), muon=muon.state), path + ".tmp")
    os.replace(path + ".tmp", path)


if __name__ == "__main__":
    main()
