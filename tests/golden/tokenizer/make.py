#!/usr/bin/env python3
"""Makes the golden files beside it with Hugging Face tokenizers (0.23.2 when they were made).

  corpus.txt           input: German statutes (public domain, section 5 UrhG), then hostile lines
  merges_*_lines.txt   merges learned with train(files): each line is a sequence
  merges_*_docs.txt    merges learned with train_from_iterator(corpus split at blank lines)
  encode.jsonl         ids of texts under the tokenizers of merges_*_lines.txt

Usage: python3 make.py   (in an environment with `pip install tokenizers==0.23.2`)
"""
import json
import os
import random

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

os.chdir(os.path.dirname(os.path.abspath(__file__)))
VOCAB_SIZE = 800
SPECIALS = ["<unk>", "<s>", "</s>", "<pad>"]
SPACES = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
WORD_END = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
UPPER, LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
LEAD = r"[^\r\n\p{L}\p{N}]?"
PATTERNS = {
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "llama3": WORD_END + "|" + LEAD + r"\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*" + SPACES,
    "qwen2": WORD_END + "|" + LEAD + r"\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*" + SPACES,
    "o200k": f"{LEAD}[{UPPER}]*[{LOWER}]+{WORD_END}?|{LEAD}[{UPPER}]+[{LOWER}]*{WORD_END}?"
    + r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*" + SPACES,
    "german": r" ?[\p{L}\p{M}]+| ?\p{N}{1,3}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*" + SPACES,
}


def train(regex, files=None, texts=None):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(regex), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    t.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE, special_tokens=SPECIALS, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    if files:
        t.train(files, trainer)
    else:
        t.train_from_iterator(texts, trainer)
    return t


def write_merges(t, path):
    merges = json.loads(t.to_str())["model"]["merges"]
    with open(path, "w", encoding="utf8", newline="\n") as f:
        f.writelines(f"{a} {b}\n" for a, b in merges)


def random_text(rng):
    """Characters that were assigned long ago: Unicode versions must not matter here."""
    pools = [
        "abcdeghinrstuABDEGS", "äöüßÄÖÜẞéłß", " \t\r\n\u00a0\u202f\u3000", "0123456789½²٣",
        "'’„“.,;:-/()<>\\\"", "\u0308\u0301\u00ad\u200b\u200d", "你好שלוםпривет", "😀👩🇩🇪",
        ["'s", "'S", "'ll", "  ", "der ", " die", "ung", "<s>", "</s>", "schaft", "\r\n"],
    ]
    return "".join(rng.choice(rng.choice(pools)) for _ in range(rng.randint(1, 40)))


def main():
    corpus = open("corpus.txt", encoding="utf8", newline="").read()
    rng = random.Random(20261122)
    texts = ["", " ", "\n", "a", "  a", "a  ", "\r\n\r\n x", "ſ'ſ'S", "1234567", "<s>", "<s>a</s>",
             "x<pad><pad>", "< s>", "a" * 200, "ab" * 150, " " * 100 + "x", "\n" * 70, "ä" * 90,
             "Rindfleischetikettierungsüberwachungsaufgabenübertragungsgesetz" * 3]
    texts += [line for line in corpus.split("\n") if line][-16:]
    texts += [random_text(rng) for _ in range(60)]
    with open("encode.jsonl", "w", encoding="utf8", newline="\n") as out:
        for name, regex in PATTERNS.items():
            t = train(regex, files=["corpus.txt"])
            write_merges(t, f"merges_{name}_lines.txt")
            write_merges(train(regex, texts=corpus.split("\n\n")), f"merges_{name}_docs.txt")
            for text in texts:
                row = {"pattern": name, "text": text}
                for key, ordinary in (("ids", True), ("ids_special", False)):
                    t.encode_special_tokens = ordinary
                    row[key] = t.encode(text, add_special_tokens=False).ids
                if row["ids_special"] == row["ids"]:
                    del row["ids_special"]
                out.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
