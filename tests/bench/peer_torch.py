#!/usr/bin/env python3
"""Training speed of PyTorch on CPUs: a Llama of Mundwerk's shapes, as PyTorch does it best.

    python tests/bench/peer_torch.py german120m --compile --json
    python tests/bench/peer_torch.py german1b --layers 4 --precision pure

One step is forward, backward and AdamW on one micro-batch of random tokens. Needs
nothing but torch (2.0 or later). See tests/bench/README.md.
"""
import argparse
import json
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F

# The letters of model/model.h: C channels, L layers, H heads, G key-value heads,
# F hidden units of the MLP, V vocabulary, T positions.
CONFIGS = {
    "german120m": {"C": 768, "L": 12, "H": 12, "G": 4, "F": 2048, "V": 32000},
    "german1b": {"C": 2048, "L": 22, "H": 32, "G": 4, "F": 5632, "V": 32000},
    "tiny": {"C": 128, "L": 2, "H": 4, "G": 2, "F": 256, "V": 512},
}
ROPE_THETA = 10000.0
NORM_EPS = 1e-5


class RMSNorm(nn.Module):
    """x [.., C] -> x / rms(x) * weight, the square mean in fp32."""

    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x):
        wide = x.float()
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + NORM_EPS)
        return (wide * scale).to(x.dtype) * self.weight.to(x.dtype)


def rope_tables(positions, size):
    """cos, sin [T, size], both halves of a head turning by the same angles."""
    frequency = ROPE_THETA ** (-torch.arange(0, size, 2).float() / size)
    angle = torch.outer(torch.arange(positions).float(), frequency)
    return torch.cat((angle, angle), -1).cos(), torch.cat((angle, angle), -1).sin()


def rotate(x, cos, sin):
    """x [B, heads, T, size], Hugging Face's order: element i turns with i + size / 2."""
    low, high = x.chunk(2, -1)
    return x * cos + torch.cat((-high, low), -1) * sin


def explicit_attention(q, k, v):
    """softmax(q k^T / sqrt(size)) v, the scores written out; q, k, v [B, H, T, size]."""
    T = q.shape[-2]
    future = torch.ones(T, T, dtype=torch.bool, device=q.device).triu(1)
    scores = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5
    return scores.masked_fill(future, float("-inf")).softmax(-1).to(v.dtype) @ v


def fused_attention(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


class Attention(nn.Module):
    def __init__(self, C, H, G, attend):
        super().__init__()
        self.H, self.G, self.size, self.attend = H, G, C // H, attend
        self.qkv = nn.Linear(C, (H + 2 * G) * self.size, bias=False)
        self.out = nn.Linear(C, C, bias=False)

    def forward(self, x, cos, sin):
        B, T, C = x.shape
        heads = self.qkv(x).view(B, T, self.H + 2 * self.G, self.size).transpose(1, 2)
        q, k, v = heads.split((self.H, self.G, self.G), 1)
        cos, sin = cos.to(q.dtype), sin.to(q.dtype)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        k, v = (y.repeat_interleave(self.H // self.G, 1) for y in (k, v))
        return self.out(self.attend(q, k, v).transpose(1, 2).reshape(B, T, C))


class MLP(nn.Module):
    """down(silu(gate x) * up x), gate and up in one product."""

    def __init__(self, C, hidden):
        super().__init__()
        self.gate_up = nn.Linear(C, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, C, bias=False)

    def forward(self, x):
        gate, up = self.gate_up(x).chunk(2, -1)
        return self.down(F.silu(gate) * up)


class Layer(nn.Module):
    def __init__(self, config, attend):
        super().__init__()
        C = config["C"]
        self.norm1, self.norm2 = RMSNorm(C), RMSNorm(C)
        self.attention = Attention(C, config["H"], config["G"], attend)
        self.mlp = MLP(C, config["F"])

    def forward(self, x, cos, sin):
        x = x + self.attention(self.norm1(x), cos, sin)
        return x + self.mlp(self.norm2(x))


class Llama(nn.Module):
    def __init__(self, config, positions, attend):
        super().__init__()
        C, V = config["C"], config["V"]
        self.embed = nn.Embedding(V, C)
        self.layers = nn.ModuleList(Layer(config, attend) for _ in range(config["L"]))
        self.norm = RMSNorm(C)
        self.head = nn.Linear(C, V, bias=False)
        cos, sin = rope_tables(positions, C // config["H"])
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        for weight in self.parameters():
            if weight.dim() > 1:
                nn.init.normal_(weight, std=0.02)

    def forward(self, tokens, targets):
        """Mean cross entropy; tokens, targets [B, T]."""
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x, self.cos, self.sin)
        logits = self.head(self.norm(x))
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


def adamw(parameters, kind):
    return torch.optim.AdamW(parameters, lr=6e-4, betas=(0.9, 0.95), weight_decay=0.1,
                             fused=kind == "fused", foreach=kind == "foreach")


def time_steps(args, config):
    """Seconds of each measured step, and the loss before and after."""
    attend = explicit_attention if args.attention == "explicit" else fused_attention
    model = Llama(config, args.tokens, attend)
    if args.precision == "pure":
        model = model.to(torch.bfloat16)
    optimizer = adamw(model.parameters(), args.optimizer)
    forward = torch.compile(model) if args.compile else model
    text = torch.randint(config["V"], (args.batch, args.tokens + 1))
    seconds, losses = [], []
    for _ in range(args.warmup + args.steps):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=args.precision == "autocast"):
            loss = forward(text[:, :-1], text[:, 1:])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        seconds.append(time.perf_counter() - start)
    return seconds[args.warmup:], losses[0], losses[-1]


def parse():
    p = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    p.add_argument("config", choices=CONFIGS)
    p.add_argument("--layers", type=int, help="fewer or more layers than the configuration has")
    p.add_argument("--tokens", type=int, default=2048, help="T, positions of a sequence")
    p.add_argument("--batch", type=int, default=1, help="sequences of a step")
    p.add_argument("--precision", choices=("autocast", "pure", "fp32"), default="autocast",
                   help="pure: parameters and moments in bf16 too")
    p.add_argument("--attention", choices=("sdpa", "explicit"), default="sdpa")
    p.add_argument("--optimizer", choices=("fused", "foreach", "loop"), default="fused")
    p.add_argument("--compile", action="store_true", help="torch.compile, wants g++")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--warmup", type=int, default=2)
    p.add_argument("--steps", type=int, default=5)
    p.add_argument("--json", action="store_true", help="one line of JSON")
    return p.parse_args()


def main():
    args = parse()
    torch.manual_seed(1)
    torch.set_num_threads(args.threads)
    config = dict(CONFIGS[args.config])
    config["L"] = args.layers or config["L"]
    seconds, first, last = time_steps(args, config)
    count = args.batch * args.tokens
    result = {"peer": f"torch-{torch.__version__}", **vars(args), "layers": config["L"],
              "mkl": torch.backends.mkl.is_available(),
              "isa": torch.backends.cpu.get_cpu_capability(),
              "tokens_per_s": round(count / statistics.median(seconds), 2),
              "tokens_per_s_max": round(count / min(seconds), 2),
              "seconds": [round(s, 3) for s in seconds], "loss": [first, last]}
    del result["json"]
    print(json.dumps(result) if args.json
          else f"{result['peer']} {args.config}: {result['tokens_per_s']} tokens/s")


if __name__ == "__main__":
    main()
