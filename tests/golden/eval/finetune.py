#!/usr/bin/env python3
"""Makes finetune.txt: eight steps of LoRA and head in PyTorch, for tests/eval/test_finetune.c.

Needs torch and transformers (made with torch 1.13.1, transformers 4.41). All values come from
formulas that the test repeats, so that nothing but the results is stored.
"""
import math
import torch
from transformers import LlamaConfig, LlamaModel

C, L, H, G, F, V, R, K = 32, 2, 4, 2, 64, 48, 4, 3
ALPHA, LR, EPOCHS, CLIP, WD = 16.0, 3e-3, 8, 8.0, 0.01
WEIGHTS = [0.5, 2.0, 1.0]
LENGTHS = [3, 9, 5, 12, 1, 7]
TARGETS = [0, 1, 2, 1, 0, 2]

torch.set_default_dtype(torch.float64)


def wave(count, phase, size):
    return torch.tensor([size * math.sin(1.7 * i + phase) for i in range(count)])


model = LlamaModel(LlamaConfig(
    vocab_size=V, hidden_size=C, intermediate_size=F, num_hidden_layers=L, num_attention_heads=H,
    num_key_value_heads=G, max_position_embeddings=32, rms_norm_eps=1e-5, rope_theta=10000.0)).double()
order = ["embed_tokens.weight"]
for l in range(L):
    order += [f"layers.{l}.{n}.weight" for n in (
        "input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
        "self_attn.o_proj", "post_attention_layernorm", "mlp.gate_proj", "mlp.up_proj",
        "mlp.down_proj")]
order.append("norm.weight")
state = model.state_dict()
for name in order:
    phase = sum(name.encode()) % 100
    t = state[name]
    t.copy_(wave(t.numel(), phase, 0.2).reshape(t.shape) + (1.0 if t.dim() == 1 else 0.0))
for p in model.parameters():
    p.requires_grad_(False)

lora, phase = [], 0


def adapter(linear, out):
    global phase
    a = wave(R * C, phase, 0.1).reshape(R, C).requires_grad_()
    b = wave(out * R, phase + 1, 0.1).reshape(out, R).requires_grad_()
    phase += 2
    lora.extend([a, b])
    linear.register_forward_hook(
        lambda m, x, y: y + (x[0] @ a.t()) @ b.t() * (ALPHA / R))


for layer in model.layers:
    adapter(layer.self_attn.q_proj, C)
    adapter(layer.self_attn.v_proj, G * C // H)
w = wave(K * C, 50, 0.3).reshape(K, C).requires_grad_()
b = wave(K, 51, 0.3).requires_grad_()
params = lora + [w, b]
optimizer = torch.optim.AdamW(params, lr=LR, betas=(0.9, 0.999), eps=1e-8, weight_decay=WD)

T = max(LENGTHS)
ids = torch.zeros(len(LENGTHS), T, dtype=torch.long)
for i, n in enumerate(LENGTHS):
    for k in range(n):
        ids[i, k] = (7 * i + 5 * k * k + 3) % V


def logits():
    hidden = model(input_ids=ids).last_hidden_state
    last = torch.stack([hidden[i, n - 1] for i, n in enumerate(LENGTHS)])
    return last @ w.t() + b


n = len(LENGTHS)
total = int((n + n - 1) / n * EPOCHS)
warm = int(0.1 * total)
with open(__file__.replace(".py", ".txt"), "w") as out:
    for s in range(EPOCHS):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(
            logits(), torch.tensor(TARGETS), weight=torch.tensor(WEIGHTS), reduction="sum")
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(params, CLIP)
        rate = LR * (s / warm if s < warm else (total - s) / (total - warm))
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        print(f"step {s}: loss {loss.item():.6f}, norm {norm.item():.4f}, rate {rate:.6f}")
    out.write(f"{loss.item() / n:.9f}\n")
    for row in logits().tolist():
        out.write(" ".join(f"{x:.9f}" for x in row) + "\n")
