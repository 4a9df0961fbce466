"""The least work that a step can be: bytes that must be read once, products that must be made.

A mode is what of precision and kv_cache_dtype is not the default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from motet.config import ModelConfig

BF16, F16, F32 = 2, 2, 4  # bytes
INT8 = 34 / 32  # bytes a weight: 32 of 8 bits share a scale of 16
Mode = Mapping[str, str]
DEFAULT: Mode = {}
MXFP4 = 17 / 32  # bytes a weight: 32 of 4 bits share a scale of 8


@dataclass(frozen=True)
class Work:
    bytes: float
    flops: float

    def seconds(self, bytes_s: float, flops_s: float) -> float:
        """The longer of the two by a device's measured rates."""
        return max(self.bytes / bytes_s, self.flops / flops_s)


def distinct_experts(c: ModelConfig, tokens: int) -> float:
    """How many experts of a layer so many tokens need, on average, if each token's are random."""
    return c.num_experts * (1 - (1 - c.experts_per_token / c.num_experts) ** tokens)


def decode(c: ModelConfig, batch: int, context: int, mode: Mode = DEFAULT) -> Work:
    """A step of one token of each of `batch` sequences that are `context` tokens long."""
    seen = _seen(c, context)
    return Work(
        bytes=_weight_bytes(c, batch, mode) + batch * seen * _kv_bytes(c, mode),
        flops=batch * (2 * (_token_weights(c) + _head(c)) + seen * _attention_flops(c)),
    )


def prefill(c: ModelConfig, tokens: int) -> Work:
    """A prompt, of which the last token alone has logits."""
    seen = sum(_seen(c, n) for n in range(1, tokens + 1))
    return Work(
        bytes=_weight_bytes(c, tokens, DEFAULT) + tokens * c.num_layers * _kv_bytes(c, DEFAULT),
        flops=2 * (tokens * _token_weights(c) + _head(c)) + seen * _attention_flops(c),
    )


def _seen(c: ModelConfig, context: int) -> int:
    """Keys that a token sees, over all layers."""
    sliding = sum(c.layer_is_sliding)
    return (c.num_layers - sliding) * context + sliding * min(context, c.sliding_window)


def _kv_bytes(c: ModelConfig, mode: Mode) -> int:
    int8 = mode.get("kv_cache_dtype") == "int8"
    return 2 * c.num_kv_heads * (c.head_dim + F32 if int8 else c.head_dim * F16)


def _attention_flops(c: ModelConfig) -> int:
    """Of one token and one key in one layer."""
    return 2 * 2 * c.num_heads * c.head_dim


def _attention(c: ModelConfig) -> int:
    """Its weights in a layer."""
    return c.hidden_size * 2 * (c.num_heads + c.num_kv_heads) * c.head_dim


def _router(c: ModelConfig) -> int:
    return c.hidden_size * c.num_experts


def _expert(c: ModelConfig) -> int:
    return 3 * c.hidden_size * c.intermediate_size


def _head(c: ModelConfig) -> int:
    return c.hidden_size * c.vocab_size


def _token_weights(c: ModelConfig) -> int:
    """Weights of all layers that a token is multiplied by."""
    layer = _attention(c) + _router(c) + c.experts_per_token * _expert(c)
    return c.num_layers * layer


def _weight_bytes(c: ModelConfig, tokens: int, mode: Mode) -> float:
    dense = INT8 if mode.get("precision") == "int8" else BF16
    expert = _expert(c) * (MXFP4 if c.experts_mxfp4 else dense)
    layer = _attention(c) * dense + _router(c) * BF16 + distinct_experts(c, tokens) * expert
    return c.num_layers * layer + _head(c) * dense
