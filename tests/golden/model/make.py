#!/usr/bin/env python3
"""Writes tiny_llama.bin: what PyTorch and transformers compute for a tiny Llama.

Run by hand, with torch and transformers installed (made with torch 1.13.1 and
transformers 4.44.2 on the CPU, all in fp32):

    python tests/golden/model/make.py tests/golden/model/tiny_llama.bin

Layout, little-endian, no padding. "Parameters" are all tensors of state_dict()
in its order, each flattened: embedding, per layer q k v o gate up down
input_layernorm post_attention_layernorm, final norm, head.

    8 bytes   "MWGOLD1\\n"
    9 x i64   V C F L H G T B R
    4 x f64   rope_theta, rms_norm_eps, lora scale, clip norm
    f32       parameters
    u32       tokens (B, T), targets (B, T); 0xffffffff = ignored
    f32       logits (B, T, V)
    f32       losses (B, T), 0 where ignored
    f32       gradient of the mean loss over counted targets, layout of parameters
    f32       per layer Aq (R, C), Bq (C, R), Av (R, C), Bv (G*D, R)
    f64       mean loss with these adapters
    f32       its gradient with respect to the adapters, same layout
    i64       number of AdamW steps S; then for each step
              f64 learning rate, u32 tokens (B, T), u32 targets (B, T),
              f64 mean loss before the step, f64 gradient norm before clipping
    f32       parameters after the S steps
"""
import struct
import sys

import torch
from transformers import LlamaConfig, LlamaForCausalLM

V, C, F, L, H, G, T, B, R = 96, 32, 48, 2, 4, 2, 16, 2, 4
D = C // H
THETA, EPS, SCALE, CLIP, STEPS = 10000.0, 1e-5, 4.0, 1.0, 10
IGNORED = -100


def f32(x):
    return x.detach().to(torch.float32).contiguous().numpy().astype("<f4").tobytes()


def u32(x):
    return torch.where(x < 0, torch.tensor(0xFFFFFFFF), x).numpy().astype("<u4").tobytes()


def tiny():
    torch.manual_seed(20260101)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=V, hidden_size=C, intermediate_size=F, num_hidden_layers=L,
            num_attention_heads=H, num_key_value_heads=G, max_position_embeddings=T,
            rope_theta=THETA, rms_norm_eps=EPS, tie_word_embeddings=False,
            attn_implementation="eager"))
    # Larger than a real initialisation, so that no part of the network is nearly linear.
    for name, p in model.named_parameters():
        with torch.no_grad():
            if "norm" in name:
                p.copy_(1 + 0.2 * torch.randn_like(p))
            else:
                p.copy_(torch.randn_like(p) * (1.0 if "embed" in name else 0.25))
    return model.float()


def batch():
    """Tokens with repetitions, and two targets that do not count."""
    tokens = torch.randint(0, V, (B, T))
    tokens[1, :4] = 7
    targets = torch.randint(0, V, (B, T))
    targets[0, T - 1] = IGNORED
    targets[1, 5] = IGNORED
    return tokens, targets


def losses_of(model, tokens, targets):
    logits = model(tokens).logits
    losses = torch.nn.functional.cross_entropy(
        logits.view(-1, V), targets.view(-1), ignore_index=IGNORED, reduction="none")
    return logits, losses.view(B, T)


def mean(losses, targets):
    return losses.sum() / (targets != IGNORED).sum()


def params_of(model):
    return b"".join(f32(p) for p in model.state_dict().values())


def grads_of(model):
    named = dict(model.named_parameters())
    return b"".join(f32(named[k].grad) for k in model.state_dict())


def with_adapters(model, tokens, targets):
    """Adapters by their definition, y += scale * B A x, hooked onto q_proj and v_proj."""
    adapters, hooks = [], []
    for layer in model.model.layers:
        for proj in (layer.self_attn.q_proj, layer.self_attn.v_proj):
            A = (torch.randn(R, C) * 0.2).requires_grad_()
            b = (torch.randn(proj.out_features, R) * 0.2).requires_grad_()
            adapters += [A, b]
            hooks.append(proj.register_forward_hook(
                lambda mod, x, y, A=A, b=b: y + SCALE * (x[0] @ A.T) @ b.T))
    _, losses = losses_of(model, tokens, targets)
    loss = mean(losses, targets)
    grads = torch.autograd.grad(loss, adapters)
    for hook in hooks:
        hook.remove()
    return (b"".join(f32(a) for a in adapters) + struct.pack("<d", loss.item())
            + b"".join(f32(g) for g in grads))


def train(model, out):
    opt = torch.optim.AdamW(model.parameters(), lr=1.0, betas=(0.9, 0.95), eps=1e-8,
                            weight_decay=0.1)
    out.write(struct.pack("<q", STEPS))
    for step in range(1, STEPS + 1):
        lr = 3e-3 * min(1.0, step / 4) * (1.0 if step < 7 else 0.5)
        tokens, targets = batch()
        opt.zero_grad()
        _, losses = losses_of(model, tokens, targets)
        loss = mean(losses, targets)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        opt.param_groups[0]["lr"] = lr
        opt.step()
        out.write(struct.pack("<d", lr) + u32(tokens) + u32(targets))
        out.write(struct.pack("<2d", loss.item(), norm.item()))
        print(f"step {step}: loss {loss.item():.6f}, gradient norm {norm.item():.6f}")
    out.write(params_of(model))


def main():
    torch.set_num_threads(1)
    model = tiny()
    tokens, targets = batch()
    logits, losses = losses_of(model, tokens, targets)
    mean(losses, targets).backward()
    with open(sys.argv[1], "wb") as out:
        out.write(b"MWGOLD1\n")
        out.write(struct.pack("<9q", V, C, F, L, H, G, T, B, R))
        out.write(struct.pack("<4d", THETA, EPS, SCALE, CLIP))
        out.write(params_of(model) + u32(tokens) + u32(targets))
        out.write(f32(logits) + f32(losses) + grads_of(model))
        out.write(with_adapters(model, tokens, targets))
        train(model, out)


if __name__ == "__main__":
    main()
