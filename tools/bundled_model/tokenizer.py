"""The tokenizer: byte-level, digits one by one, frequent words whole, all others by letters.

The vocabulary is the 256 bytes, the pieces that are frequent in generated conversations and
harmony's special tokens. There are no merges (`ignore_merges` looks a piece up whole, as in the
published tokenizer), so a word that is not in the vocabulary is spelled; that is what lets a small
model copy, reverse and count letters.
"""

from __future__ import annotations

import argparse
import collections
import random
import re
from pathlib import Path

from conversation import parts
from mixture import sample
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

SPECIAL = (
    "<|startoftext|>",
    "<|endoftext|>",
    "<|return|>",
    "<|constrain|>",
    "<|channel|>",
    "<|start|>",
    "<|end|>",
    "<|message|>",
    "<|call|>",
)
# Fixed phrases of harmony prompts are one piece each: a prompt is then a few tokens long.
PHRASES = (
    "You are ChatGPT, a large language model trained by OpenAI.\nKnowledge cutoff: ",
    "\nCurrent date: ",
    "\n\nReasoning: ",
    "\n\n# Valid channels: analysis, commentary, final. "
    "Channel must be included for every message.",
    "\nCalls to these tools must go to the commentary channel: 'functions'.",
    "# Instructions\n\n",
    "# Tools\n\n## functions\n\nnamespace functions {\n\n",
    "\n\n} // namespace functions",
    "# Response Formats\n\n## ",
    "\ntype ",
    " = (_: {\n",
    "}) => any;",
    " = () => any;",
    ": string,\n",
    ": number,\n",
    '{"type":"object","properties":{',
    '":{"type":"string"}',
    '":{"type":"integer"}',
    '},"required":[',
)
PATTERN = "|".join(
    [
        *(re.escape(phrase).replace("\\ ", " ").replace("\\\n", "\\n") for phrase in PHRASES),
        r"\d",
        r" [-+*/x\u00d7=] (?=\d)",
        r"[,;:.] (?=\d)",
        r" ?\p{L}+",
        r" ?[^\s\p{L}\d]+",
        r"\s*\n+",
        r"\s+",
    ]
)


def build(vocabulary: list[str]) -> Tokenizer:
    """A tokenizer: ids are the bytes, these pieces (byte-level spelling), the special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = alphabet + [piece for piece in vocabulary if len(piece) > 1]
    model = models.BPE({piece: i for i, piece in enumerate(pieces)}, [], ignore_merges=True)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in SPECIAL]
    )
    return tokenizer


def frequent_pieces(n_samples: int, size: int) -> list[str]:
    """The most frequent pieces of generated conversations, byte-level spelling."""
    rng = random.Random(1)
    splitter = build([]).pre_tokenizer
    counts: collections.Counter[str] = collections.Counter()
    special = re.compile("|".join(map(re.escape, SPECIAL)))
    for _ in range(n_samples):
        seen: set[str] = set()
        for text, _ in parts(sample(rng)):
            for plain in special.split(text):
                seen.update(piece for piece, _ in splitter.pre_tokenize_str(plain))
        counts.update(piece for piece in seen if len(piece) > 1)
    return [piece for piece, _ in counts.most_common(size)]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("output", type=Path)
    arguments.add_argument(
        "--size", type=int, default=768, help="vocabulary size, special tokens included"
    )
    options = arguments.parse_args()
    kept = frequent_pieces(30000, options.size - 256 - len(SPECIAL))
    tokenizer = build(kept)
    tokenizer.save(str(options.output))
    print(f"{tokenizer.get_vocab_size()} tokens")


if __name__ == "__main__":
    main()
