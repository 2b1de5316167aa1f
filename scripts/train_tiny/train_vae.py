"""Trains the built-in model's video autoencoder (AutoencoderKLWan, the 2.2 form at 16x16x4) on procedural clips.

  train_vae.py --out DIR [--minutes M] [--resume] [--start-from models/tiny] [--freeze-encoder]

Loss: L1 + L1 of spatial and temporal differences + a small KL term; the decoder sees latents with a little noise so
that it forgives a small diffusion model. The published code works in chunks with caches; `whole_clip` runs the same
arithmetic over all frames at once (checked by --check), which trains several times faster.
"""
import argparse
import multiprocessing as mp
import os
import time
import types

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders import autoencoder_kl_wan as wan

import clips
from muon import Muon

Z = 16
CONFIG = dict(base_dim=48, decoder_base_dim=64, z_dim=Z, dim_mult=[1, 1, 1], num_res_blocks=1, attn_scales=[],
              temperal_downsample=[True, True], dropout=0.0, latents_mean=[0.0] * Z, latents_std=[1.0] * Z,
              is_residual=True, in_channels=48, out_channels=48, patch_size=4, scale_factor_temporal=4,
              scale_factor_spatial=16)

# Part of the run (its end) and how often crops of 1, 5, 9 and 33 frames come up in it. Single frames teach colour and
# detail fastest; whole lengths must come too, for what a network saw only near a clip's start drifts later on.
LENGTHS = [1, 5, 9, 33]
STAGES = [(0.2, [1, 0, 0, 0]), (0.4, [0.1, 0.3, 0.6, 0]), (2, [0.1, 0.05, 0.2, 0.65])]


def _resample_whole(self, x, feat_cache=None, feat_idx=None):
    """WanResample over a whole clip: the first frame stays alone in time, as in the chunked original."""
    b, c, t, h, w = x.shape
    if self.mode == "upsample3d" and t > 1:
        y = self.time_conv(x[:, :, 1:])
        y = y.reshape(b, 2, c, t - 1, h, w).permute(0, 2, 3, 1, 4, 5).reshape(b, c, 2 * (t - 1), h, w)
        x = torch.cat([x[:, :, :1], y], 2)
    t = x.shape[2]
    x = x.permute(0, 2, 1, 3, 4).reshape(b * t, c, h, w)
    if self.mode.startswith("upsample"):
        x = self.resample[1](F.interpolate(x, scale_factor=2.0, mode="nearest"))
    else:
        x = self.resample(x)
    x = x.view(b, t, x.size(1), x.size(2), x.size(3)).permute(0, 2, 1, 3, 4)
    if self.mode == "downsample3d" and t > 1:
        x = torch.cat([x[:, :, :1], self.time_conv(x)], 2)
    return x


def _norm_fast(self, x):
    """WanRMS_norm that stays in x's own type: no float32 copies of activations. (The original's floor is 1e-12, which
    no activation comes near; a higher one keeps the gradient of a dead one finite.)"""
    length = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=torch.float32).clamp_min(1e-3)
    return x * (self.scale / length).to(x.dtype) * self.gamma.to(x.dtype)


def _conv_single(self, x, cache_x=None):
    """WanCausalConv3d; of a single frame only the newest tap sees anything but zeros: a 2D convolution."""
    if x.shape[2] == 1 and self.kernel_size[0] == 3 and cache_x is None:
        return F.conv2d(x[:, :, 0], self.weight[:, :, 2], self.bias, padding=self._padding[0])[:, :, None]
    w, h, past = self._padding[0], self._padding[2], self._padding[4]
    if self.stride[0] > 1 or x.shape[2] < 3:  # (two frames: the library's weight gradient has NaN there)
        return torch.nn.Conv3d.forward(self, F.pad(x, self._padding))
    # padded on both sides in time and cut, which saves a copy of the input
    y = F.conv3d(x, self.weight, self.bias, self.stride, (past, h, w))
    return y[:, :, :x.shape[2]] if past else y


def whole_clip(vae):
    for m in vae.modules():
        if isinstance(m, wan.WanCausalConv3d):
            m.forward = types.MethodType(_conv_single, m)
        elif isinstance(m, wan.WanResample):
            m.forward = types.MethodType(_resample_whole, m)
        elif isinstance(m, wan.WanRMS_norm):
            m.forward = types.MethodType(_norm_fast, m)
    return vae


@torch.no_grad()
def fresh():
    """A new model. Three things decide whether it learns colour and detail within minutes: residual branches of unit
    gain (the shortcuts alone carry block averages), old time taps that begin small (it starts as an image model), and
    biases of unit size at the inputs (the norms keep directions only, so lengths must show against a constant)."""
    vae = AutoencoderKLWan(**CONFIG)

    def gain(conv, g):
        taps = conv.kernel_size[0] if isinstance(conv, torch.nn.Conv3d) else 1
        conv.weight.normal_(0, g / (conv.weight[0].numel() / taps) ** 0.5)
        if taps == 3:
            conv.weight[:, :, :2] *= 0.1

    for m in vae.modules():
        if isinstance(m, wan.WanResample):
            gain(m.resample[1], 1.0)
        elif isinstance(m, wan.WanResidualBlock):
            gain(m.conv1, 1.0)
            gain(m.conv2, 0.7)
    for m, g in ((vae.encoder.conv_in, 1.0), (vae.encoder.conv_out, 0.5), (vae.decoder.conv_in, 1.0), (vae.decoder.conv_out, 1.0)):
        gain(m, g)
    for m in (vae.encoder.conv_in, vae.decoder.conv_in, vae.decoder.up_blocks[-1].resnets[0].conv_shortcut):
        if hasattr(m, "bias"):  # (a shortcut between equal widths has no convolution)
            m.bias.normal_()
    return vae


def encode(vae, x):
    """x [B,3,T,H,W] in [-1,1] -> mean, logvar [B,z,t,h,w]"""
    return vae.quant_conv(vae.encoder(wan.patchify(x, CONFIG["patch_size"]))).float().chunk(2, 1)


def decode(vae, z):
    return wan.unpatchify(vae.decoder(vae.post_quant_conv(z), first_chunk=True), CONFIG["patch_size"]).float()


def draw_crops(queue, seed, frames, crop):
    """Worker process: four crops [3,frames,crop,crop] of each clip, without end."""
    os.nice(10)
    rng, m, half = np.random.default_rng(seed), clips.SIZE - crop, crop // 2
    while True:
        spec = clips.spec_from_seed(1_000_000 + seed, pairs=0.4)
        seed += 1
        t0 = int(rng.integers(0, clips.FRAMES - frames + 1))
        full = clips.draw(spec, t0 + frames, t0)
        out = np.empty((4, 3, frames, crop, crop), np.uint8)
        for k in range(4):  # crops follow the objects, the backdrop is easy
            x, y = clips.state(spec["objects"][k % len(spec["objects"])], (t0 + rng.random() * frames) / 32)[:2]
            cx, cy = (int(np.clip(v - half + rng.integers(-20, 21), 0, m)) for v in (x, y))
            c = full[:, cy:cy + crop, cx:cx + crop]
            out[k] = (c[:, :, ::-1] if rng.random() < 0.5 else c).transpose(3, 0, 1, 2)
        queue.put(out)


class Data:
    """Random crops of random clips. A pool of crops decorrelates them: a batch from one clip teaches one colour."""

    def __init__(self, seed, frames, crop, pool=1200):
        self.frames = frames
        self.pool = np.empty((pool, 3, frames, crop, crop), np.uint8)
        self.rng = np.random.default_rng(seed)
        self.filled = self.steps = 0
        self.queue = mp.Queue(2)
        mp.Process(target=draw_crops, args=(self.queue, seed, frames, crop), daemon=True).start()
        while self.filled < 240:
            self.add(self.queue.get())

    def add(self, crops):
        for c in crops:
            slot = self.filled if self.filled < len(self.pool) else int(self.rng.integers(len(self.pool)))
            self.filled = max(self.filled, slot + 1)
            self.pool[slot] = c

    def batch(self, n, frames):
        self.steps += 1
        if self.steps % 3 == 0 and not self.queue.empty():  # not at every step: drawing costs processor time too
            self.add(self.queue.get())
        t = int(self.rng.integers(0, self.frames - frames + 1))
        return torch.from_numpy(self.pool[self.rng.integers(0, self.filled, n), :, t:t + frames]).float() / 127.5 - 1


def diffs(x):
    return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :], x[:, :, 1:] - x[:, :, :-1]


def near_edges(x):
    """Weight of each pixel [B,1,T,H,W]: 1 on flat ground, up to 5 beside an outline. A star's tips are few pixels; without
    this they are cheaper to lose than to draw."""
    g = torch.zeros_like(x[:, :1])
    for d, at in zip(diffs(x)[:2], (np.s_[..., 1:], np.s_[..., 1:, :])):
        g[at] = torch.maximum(g[at], d.abs().amax(1, keepdim=True))
    g = F.max_pool3d(g, (1, 5, 5), 1, (0, 2, 2))
    return 1 + 4 * (g / 0.3).clamp_max(1)


@torch.no_grad()
def psnr(vae, n=3):
    vals = []
    for s in range(n):
        x = torch.from_numpy(clips.draw(clips.spec_from_seed(9_000_000 + s)).transpose(3, 0, 1, 2)[:, :].copy())[None].float()
        x = x / 127.5 - 1
        y = decode(vae, encode(vae, x)[0].clone()).clamp(-1, 1)
        vals.append(float(-10 * torch.log10(((x - y) / 2).square().mean())))
    return vals


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--out", default="/tmp/tiny_ckpt")
    p.add_argument("--minutes", type=float, default=20)
    p.add_argument("--resume", action="store_true")
    p.add_argument("--start-from", help="a model directory with vae/ inside")
    p.add_argument("--freeze-encoder", action="store_true")
    p.add_argument("--lr", type=float, default=1e-2)
    p.add_argument("--batch", type=int, default=5)
    p.add_argument("--long", action="store_true", help="no length curriculum: for going on")
    p.add_argument("--crop", type=int, default=64)
    p.add_argument("--kl", type=float, default=2e-5, help="weight of the KL term; 5e-4 leaves six of sixteen channels unused")
    p.add_argument("--noise", type=float, default=0.1, help="noise on latents before decoding, in units of their std")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--bf16", action="store_true", help="autocast; float32 is as fast at these channel counts")
    p.add_argument("--check", action="store_true", help="compare with the chunked original and leave")
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(int(time.time()))
    os.makedirs(a.out, exist_ok=True)
    path = os.path.join(a.out, "vae.pt")
    vae = AutoencoderKLWan.from_pretrained(a.start_from, subfolder="vae") if a.start_from else fresh()
    step, spent, opt_state = 0, 0.0, None
    if a.resume and os.path.exists(path):
        ck = torch.load(path)
        vae.load_state_dict(ck["vae"])
        step, spent, opt_state = ck["step"], ck["spent"], ck["opt"]
    sizes = tuple(sum(q.numel() for q in m.parameters()) for m in (vae.encoder, vae.decoder))
    print("encoder %d, decoder %d parameters" % sizes, flush=True)
    if a.check:
        x = torch.rand(1, 3, 17, 64, 64) * 2 - 1
        with torch.no_grad():
            z0 = vae.encode(x).latent_dist.mean
            y0 = vae.decode(z0).sample
            whole_clip(vae)
            z1 = encode(vae, x)[0]
            y1 = decode(vae, z0)
        print("latents differ by", float((z0 - z1).abs().max()), "frames by", float((y0 - y1.clamp(-1, 1)).abs().max()))
        return
    whole_clip(vae)
    for m in vae.modules():
        if isinstance(m, torch.nn.Conv3d):
            m.weight.data = m.weight.data.contiguous(memory_format=torch.channels_last_3d)
        elif isinstance(m, torch.nn.Conv2d):
            m.weight.data = m.weight.data.contiguous(memory_format=torch.channels_last)
    if a.freeze_encoder:
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)
    convs = [q for q in vae.parameters() if q.requires_grad and q.ndim >= 4 and q.shape[0] > 1 and q.numel() > 512]
    ids = {id(q) for q in convs}
    muon = Muon(convs)
    others = [q for q in vae.parameters() if q.requires_grad and id(q) not in ids]
    opt = torch.optim.AdamW(others, lr=a.lr, betas=(0.9, 0.98), weight_decay=1e-4)
    if opt_state and not a.freeze_encoder:
        opt.load_state_dict(opt_state[0])
        muon.state = opt_state[1]
    data = Data(int(time.time()) % 10_000_000, clips.FRAMES, a.crop)
    began, last, saved = time.time(), time.time(), time.time()
    total = a.minutes * 60
    stats = []
    while True:
        used = time.time() - began
        if used > total:
            break
        frac = used / total
        lr = a.lr * min(1, (step + 1) / 30) * min(1, max(0.02, 1.35 * (1 - frac)))
        opt.param_groups[0]["lr"] = muon.lr = float(lr)
        opt.param_groups[0]["lr"] *= 2
        f = data.rng.choice(LENGTHS, p=next(p for end, p in STAGES if (1 if a.long else frac) < end))
        x = data.batch(max(2, round(a.batch * 9 / max(f, 3))), int(f))
        with torch.autocast("cpu", torch.bfloat16, enabled=a.bf16):
            mean, logvar = encode(vae, x)
            logvar = logvar.clamp(-20, 5)
            z = mean + torch.exp(0.5 * logvar) * torch.randn_like(mean)
            z = z + a.noise * torch.rand(len(z), 1, 1, 1, 1) * mean.detach().std() * torch.randn_like(z)
            y = decode(vae, z)
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        w = near_edges(x)
        d = (x - y).abs()
        rec = d.mean()
        edge = sum(e.abs().mean() for e in diffs(x - y) if e.numel())
        loss = (w * (d + 2 * d.square())).mean() / 2 + 0.5 * edge + a.kl * kl
        for q in vae.parameters():
            q.grad = None
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        if not torch.isfinite(norm):
            print("  step skipped: gradient", float(norm), flush=True)
            continue
        opt.step()
        muon.step()
        step += 1
        stats.append((float(rec.detach()), float(edge.detach()), float(kl.detach()), float(norm), float((x - y).detach().square().mean())))
        if step % 25 == 0:
            m = np.mean(stats, 0)
            stats = []
            print(f"{time.strftime('%H:%M:%S')} step {step} lr {lr:.5f} L1 {m[0]:.4f} edge {m[1]:.4f} kl {m[2]:.2f} grad {m[3]:.2f} "
                  f"psnr {-10 * np.log10(m[4] / 4):.2f} {(time.time() - last) / 25:.3f} s/step", flush=True)
            last = time.time()
        if time.time() - saved > 150:
            saved = time.time()
            save(path, vae, (opt.state_dict(), muon.state), step, spent + used)
            print("  clips psnr", " ".join("%.1f" % v for v in psnr(vae)), flush=True)
    save(path, vae, (opt.state_dict(), muon.state), step, spent + total)
    print("  final clips psnr", " ".join("%.1f" % v for v in psnr(vae, 8)), flush=True)


def save(path, vae, opt, step, spent):
    torch.save(dict(vae=vae.state_dict(), opt=opt, step=step, spent=spent), path + ".tmp")
    os.replace(path + ".tmp", path)


if __name__ == "__main__":
    main()
