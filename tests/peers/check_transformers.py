#!/usr/bin/env python3
"""Does transformers compute from our checkpoint folder what we compute?

Not part of `make test`: it needs Python with torch, transformers and safetensors.

    make peers
    python tests/peers/check_transformers.py              a folder with random weights
    python tests/peers/check_transformers.py SNAPSHOT...  e.g. runs/NAME/checkpoints/step-0001000

The folder is loaded as it is, the stored bf16 weights widened to fp32 on both
sides. Demanded: on 1,000 positions logits that differ by at most 1e-3 and the same
argmax; the same ids for a text; the same greedy continuation.
"""
import os
import random
import subprocess
import sys
import tempfile

import tokenizers
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PEER = os.path.join(ROOT, "bin", "peer_model")
MUNDWERK = os.path.join(ROOT, "bin", "mundwerk")
POSITIONS = 1000
TEXT = "Über Mundwerk: Die Gabe, viel zu reden."


def sequences(model, count):
    """Lists of random ids, none longer than the model's context, count ids in all."""
    rng = random.Random(5)
    while count > 0:
        n = min(count, model.config.max_position_embeddings)
        yield [rng.randrange(model.config.vocab_size) for _ in range(n)]
        count -= n


def our_logits(folder, ids, work):
    tokens, out = os.path.join(work, "tokens"), os.path.join(work, "logits")
    with open(tokens, "wb") as f:
        for i in ids:
            f.write(i.to_bytes(4, "little"))
    subprocess.run([PEER, "logits", folder, tokens, out], check=True)
    with open(out, "rb") as f:
        return torch.frombuffer(bytearray(f.read()), dtype=torch.float32).view(len(ids), -1)


def check_logits(model, folder, work):
    worst = largest = 0.0
    differ = 0
    for ids in sequences(model, POSITIONS):
        ours = our_logits(folder, ids, work)
        with torch.no_grad():
            theirs = model(torch.tensor([ids])).logits[0]
        worst = max(worst, (ours - theirs).abs().max().item())
        largest = max(largest, theirs.abs().max().item())
        differ += (ours.argmax(1) != theirs.argmax(1)).sum().item()
    print(f"  logits on {POSITIONS} positions: largest {largest:.2f}, largest difference "
          f"{worst:.1e}, {differ} other argmax")
    return worst <= 1e-3 and differ == 0


def run(*words, text=None):
    done = subprocess.run([MUNDWERK, *words], input=text, capture_output=True, check=True)
    return done.stdout


def check_ids(folder, ours):
    """The tokenizer, where this transformers' tokenizers can read it (0.20 and newer)."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except Exception as why:  # the old reader raises nothing more precise
        print(f"  ids of a text: not compared, tokenizers {tokenizers.__version__}: {why}")
        return True
    same = tokenizer(TEXT, add_special_tokens=False)["input_ids"] == ours
    print(f"  ids of a text: {'same' if same else 'OTHER'}")
    return same


def check_greedy(model, folder, ids):
    with torch.no_grad():
        out = model.generate(torch.tensor([[1] + ids]), do_sample=False, max_new_tokens=30)
    out = [i for i in out[0].tolist() if i > 3]
    theirs = run("tokenizer", "decode", "--tokenizer", folder,
                 text=" ".join(map(str, out)).encode() + b"\n")
    theirs = theirs.decode("utf-8", "replace")
    ours = run("generate", "--checkpoint", folder, "--greedy", "--max-tokens", "30", TEXT).decode()
    print(f"  greedy continuation: {'same' if ours == theirs else 'OTHER'}")
    if ours != theirs:
        print(f"    ours:   {ours!r}\n    theirs: {theirs!r}")
    return ours == theirs


def check(folder, work):
    print(folder)
    model, info = AutoModelForCausalLM.from_pretrained(
        folder, torch_dtype=torch.float32, output_loading_info=True)
    model.eval()
    clean = not any(info.values())
    if not clean:
        print(f"  loading was not clean: {info}")
    ids = run("tokenizer", "encode", "--tokenizer", folder, text=TEXT.encode() + b"\n")
    ids = [int(i) for i in ids.split()]
    results = [check_logits(model, folder, work), check_ids(folder, ids),
               check_greedy(model, folder, ids), clean]
    return all(results)


def main():
    folders = sys.argv[1:]
    with tempfile.TemporaryDirectory() as work:
        if not folders:
            subprocess.run([PEER, "make", os.path.join(work, "run")], check=True)
            folders = [os.path.join(work, "run", "checkpoints", "step-0000000")]
        good = [check(os.path.abspath(f), work) for f in folders]
    print("passed" if all(good) else "FAILED")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
