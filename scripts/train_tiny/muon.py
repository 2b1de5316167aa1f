"""Muon: momentum with orthogonalised updates (Jordan et al. 2024), with the RMS scaling of Liu et al. 2025, so that
AdamW's learning rates fit. Convolution kernels count as matrices [out, in * taps]. Matrices of one shape form a batch."""
import math

import torch


class Muon:
    def __init__(self, params, momentum=0.95, decay=0.02):
        self.groups, self.momentum, self.decay, self.lr = {}, momentum, decay, 0.0
        for q in params:
            m = q.flatten(1)
            self.groups.setdefault(tuple(sorted(m.shape)), []).append(q)
        self.state = {k: [torch.zeros_like(q) for q in v] for k, v in self.groups.items()}

    @torch.no_grad()
    def step(self):
        for key, ps in self.groups.items():
            if any(q.grad is None for q in ps):  # a time convolution when all clips are single frames
                for q in ps:
                    q.grad = torch.zeros_like(q) if q.grad is None else q.grad
            ups = []
            for q, m in zip(ps, self.state[key]):
                m.lerp_(q.grad, 1 - self.momentum)
                g = q.grad.lerp(m, self.momentum).flatten(1)
                ups.append(g.T if g.shape[0] > g.shape[1] else g)
            x = torch.stack(ups).bfloat16()
            x = x / (x.float().norm(dim=(1, 2), keepdim=True) + 1e-9).bfloat16()
            for _ in range(5):
                a = x @ x.mT
                x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
            for q, u in zip(ps, x.float()):
                rows, cols = q.flatten(1).shape
                u = (u.T if rows > cols else u).reshape(q.shape)
                q.mul_(1 - self.lr * self.decay).add_(u, alpha=-self.lr * 0.2 * math.sqrt(max(rows, cols)))
