"""Two tokenizers: a tiny byte-level one, and the published one where it lies by the checkout."""

from __future__ import annotations

from pathlib import Path

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from motet.tokenizer import Tokenizer

PUBLISHED = Path(__file__).parents[3] / "shared/checkpoint-spec/tokenizer/tokenizer.json"
SPECIAL = ["<|endoftext|>", "<|return|>", "<|channel|>", "<|start|>", "<|end|>", "<|message|>"]


def tiny_backend(special: bool = True) -> tokenizers.Tokenizer:
    """256 bytes, the merge "t"+"h", and a few of harmony's special tokens after them."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {char: i for i, char in enumerate([*alphabet, "th"])}
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[("t", "h")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_tokens(
        [tokenizers.AddedToken(t, special=special, normalized=False) for t in SPECIAL]
    )
    return backend


@pytest.fixture(scope="session")
def tiny() -> Tokenizer:
    return Tokenizer(tiny_backend())


@pytest.fixture(scope="session")
def published() -> Tokenizer:
    if not PUBLISHED.is_file():
        pytest.skip(f"the published tokenizer is not at {PUBLISHED}")
    return Tokenizer.from_file(PUBLISHED)


@pytest.fixture(scope="session", params=["tiny", "published"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return request.getfixturevalue(request.param)
