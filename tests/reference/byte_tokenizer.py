"""A tokenizer for checkpoints of small vocabularies: bytes, and harmony's special tokens."""

from __future__ import annotations

import json
from pathlib import Path

HARMONY_SPECIALS = (
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


def write_byte_tokenizer(directory: Path) -> None:
    """tokenizer.json of ids 0..255 for the bytes and 256..264 for harmony's special tokens."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {byte: chr(byte) for byte in printable}
    letters.update(
        {b: chr(256 + k) for k, b in enumerate(b for b in range(256) if b not in letters)}
    )
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    specials = [
        {"id": 256 + k, "content": text, **flags, "special": True}
        for k, text in enumerate(HARMONY_SPECIALS)
    ]
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    }
    tokenizer = {
        "version": "1.0",
        "added_tokens": specials,
        "pre_tokenizer": byte_level,
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": {letters[b]: b for b in range(256)}, "merges": []},
    }
    write_json(directory / "tokenizer.json", tokenizer)
    settings = {"eos_token": "<|return|>", "pad_token": "<|endoftext|>"}
    write_json(directory / "tokenizer_config.json", settings)
    generation = {"bos_token_id": 256, "eos_token_id": [258, 257, 264], "pad_token_id": 257}
    write_json(directory / "generation_config.json", generation)


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")
