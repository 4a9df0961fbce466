"""gpt-oss in plain numpy, in float64 or float32: the meaning of the model, written to be read.

Shapes: n tokens, H hidden, I intermediate, A query heads, G key/value heads, D head size, E
experts, V vocabulary.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.floating[Any]]

# e2m1: the sign in bit 3, two bits of exponent, one of mantissa.
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


class ReferenceModel:
    """One checkpoint, read by the few lines at this file's end, none of them the engine's.

    A `precision` rounds what motet's rounds: keys after RoPE and values to half precision, the
    inputs of products and dense weights to fixed point or 8-bit integers. Everything else, and
    with "f32" everything, stays in `dtype`.
    """

    def __init__(
        self,
        directory: Path,
        dtype: type[np.floating[Any]] = np.float64,
        precision: Literal["exact", "int8", "f32"] = "f32",
    ) -> None:
        self.config: dict[str, Any] = json.loads((directory / "config.json").read_text())
        self.rope: dict[str, Any] = self.config.get("rope_parameters") or {
            **self.config["rope_scaling"],
            "rope_theta": self.config["rope_theta"],
        }
        self.tensors = read_tensors(directory)
        self.dtype = dtype
        self.precision = precision

    def logits(self, token_ids: Sequence[int]) -> Float:
        """[n, V]"""
        x = self.weight("model.embed_tokens.weight")[np.asarray(token_ids)]  # [n, H]
        for layer in range(self.config["num_hidden_layers"]):
            prefix = f"model.layers.{layer}."
            x = x + self.attention(layer, self.norm(x, prefix + "input_layernorm"))
            x = x + self.mlp(prefix + "mlp.", self.norm(x, prefix + "post_attention_layernorm"))
        return self.dense(self.norm(x, "model.norm"), self.weight("lm_head.weight"))

    def norm(self, x: Float, name: str) -> Float:
        rms = np.sqrt((x * x).mean(-1, keepdims=True) + self.config["rms_norm_eps"])
        normed: Float = x / rms * self.weight(name + ".weight")
        return normed

    def attention(self, layer: int, h: Float) -> Float:
        prefix = f"model.layers.{layer}.self_attn."
        n, size = len(h), self.config["head_dim"]
        q = self.rotate(self.linear(h, prefix + "q_proj").reshape(n, -1, size))  # [n, A, D]
        k = self.rotate(self.linear(h, prefix + "k_proj").reshape(n, -1, size))  # [n, G, D]
        v = self.linear(h, prefix + "v_proj").reshape(n, -1, size)  # [n, G, D]
        if self.precision != "f32":
            k, v = (a.astype(np.float16).astype(self.dtype) for a in (k, v))
        sinks = self.weight(prefix + "sinks")  # [A]
        i, j = np.arange(n)[:, None], np.arange(n)[None, :]
        hidden = j > i
        if self.config["layer_types"][layer] == "sliding_attention":
            hidden |= j <= i - self.config["sliding_window"]
        out = np.empty_like(q)
        for head in range(q.shape[1]):
            group = head // (q.shape[1] // k.shape[1])
            scores = q[:, head] @ k[:, group].T / self.dtype(math.sqrt(size))  # [n, n]
            scores[hidden] = -np.inf
            # The sink is a logit that takes part in the softmax and has no value.
            top = np.maximum(scores.max(1), sinks[head])[:, None]
            weights = np.exp(scores - top)
            total = weights.sum(1, keepdims=True) + np.exp(sinks[head] - top)
            out[:, head] = (weights / total) @ v[:, group]
        return self.linear(out.reshape(n, -1), prefix + "o_proj")

    def rotate(self, x: Float) -> Float:
        """RoPE of [n, heads, D]: the halves (i, i + D/2) turn as pairs, by YaRN's frequencies."""
        frequencies, scale = yarn_frequencies(self.rope, x.shape[-1])
        angles = np.arange(len(x))[:, None, None] * frequencies  # [n, 1, D/2], float64
        cos, sin = (
            (np.cos(angles) * scale).astype(self.dtype),
            (np.sin(angles) * scale).astype(self.dtype),
        )
        a, b = np.split(x, 2, axis=-1)
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

    def mlp(self, prefix: str, h: Float) -> Float:
        router = h @ self.weight(prefix + "router.weight").T + self.weight(prefix + "router.bias")
        # A stable sort of the negated logits: of equal ones the lower index comes first.
        chosen = np.argsort(-router, axis=1, kind="stable")
        chosen = chosen[:, : self.config["num_experts_per_tok"]]  # [n, top]
        picked = np.take_along_axis(router, chosen, axis=1)
        shares = np.exp(picked - picked.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        limit = self.config["swiglu_limit"]
        out = np.zeros_like(h)
        for expert in np.unique(chosen):
            token, slot = np.nonzero(chosen == expert)
            both = self.expert(prefix + "experts.gate_up_proj", expert, h[token])  # [tokens, 2 I]
            gate = np.minimum(both[:, 0::2], limit)
            up = np.clip(both[:, 1::2], -limit, limit)
            act = (up + 1) * gate / (1 + np.exp(-self.dtype(1.702) * gate))  # [tokens, I]
            y = self.expert(prefix + "experts.down_proj", expert, act)  # [tokens, H]
            out[token] += shares[token, slot, None] * y
        return out

    def expert(self, name: str, expert: int, x: Float) -> Float:
        """x [tokens, inputs] times one expert's matrix, plus its bias."""
        if name + "_blocks" in self.tensors:
            matrix = decode_mxfp4(
                self.tensors[name + "_blocks"][expert], self.tensors[name + "_scales"][expert]
            ).astype(self.dtype)
            product = self.rounded(x) @ matrix.T
        else:
            product = self.dense(x, bf16_values(self.tensors[name][expert]).astype(self.dtype).T)
        bias = bf16_values(self.tensors[name + "_bias"][expert]).astype(self.dtype)
        total: Float = product + bias
        return total

    def linear(self, x: Float, name: str) -> Float:
        return self.dense(x, self.weight(name + ".weight")) + self.weight(name + ".bias")

    def dense(self, x: Float, matrix: Float) -> Float:
        weights = int8_weights(matrix) if self.precision == "int8" else self.rounded(matrix)
        product: Float = self.rounded(x) @ weights.astype(self.dtype).T
        return product

    def rounded(self, x: Float) -> Float:
        if self.precision == "f32":
            return x
        integers = fixed_point if self.precision == "exact" else int8_values
        return integers(x).astype(self.dtype)

    def weight(self, name: str) -> Float:
        return bf16_values(self.tensors[name]).astype(self.dtype)


def yarn_frequencies(rope: dict[str, Any], size: int) -> tuple[npt.NDArray[np.float64], float]:
    """Angle a position of each pair [D/2], and what cosine and sine are multiplied by."""
    theta, factor = rope["rope_theta"], rope["factor"]

    def pair_with(turns: float) -> float:
        """The (fractional) pair that makes so many turns over the original length."""
        length = rope["original_max_position_embeddings"]
        return size * math.log(length / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low, high = pair_with(rope["beta_fast"]), pair_with(rope["beta_slow"])
    if rope["truncate"]:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, size - 1)
    pairs = np.arange(size // 2)
    slow = np.clip((pairs - low) / max(high - low, 0.001), 0, 1)  # 1: interpolated in full
    plain = theta ** (-2.0 * pairs / size)
    return plain * (1 - slow) + plain / factor * slow, 0.1 * math.log(factor) + 1


def decode_mxfp4(
    blocks: npt.NDArray[np.uint8], scales: npt.NDArray[np.uint8]
) -> npt.NDArray[np.float64]:
    """[rows, B, 16] and [rows, B] -> [rows, 32 B]; the low nibble is the even column."""
    codes = np.stack([blocks & 15, blocks >> 4], axis=-1).reshape(*scales.shape, 32)
    values: npt.NDArray[np.float64] = np.ldexp(
        E2M1[codes], scales.astype(np.int32)[..., None] - 127
    )
    return values.reshape(len(blocks), -1)


def fixed_point(x: Float) -> npt.NDArray[np.float64]:
    """32 values each as multiples of a power of two, see fixed_exponents."""
    padded = np.pad(np.asarray(x, np.float64), [(0, 0)] * (x.ndim - 1) + [(0, -x.shape[-1] % 32)])
    blocks = padded.reshape(*x.shape[:-1], -1, 32)
    exponents = fixed_exponents(blocks)
    steps = np.minimum(np.rint(np.ldexp(blocks, -exponents)), 32767)
    return np.ldexp(steps, exponents).reshape(padded.shape)[..., : x.shape[-1]]


def fixed_exponents(blocks: Float) -> npt.NDArray[np.int32]:
    """Powers of two for blocks [..., 32]: [..., 1].

    The largest magnitude is 2^14 to 2^15 of it. All are halved, at most twice, while the norm of
    the integers, before rounding, is above 2^15.5 by its square less a 512th.
    """
    _, exponents = np.frexp(np.abs(blocks).max(-1, keepdims=True))  # largest < 2^exponent
    exponents = exponents - 15
    squares = np.square(np.ldexp(blocks, -exponents)).sum(-1, keepdims=True)
    for bound in (2.0**31, 2.0**33):
        exponents = exponents + (squares > bound * (1 - 1 / 512))
    return exponents


def int8_values(x: Float) -> npt.NDArray[np.float64]:
    """32 values each as multiples of a 127th of their largest magnitude."""
    return _multiples(x, lambda largest: largest.astype(np.float32) / np.float32(127))


def int8_weights(weights: Float) -> npt.NDArray[np.float64]:
    """The same, where the 127th is rounded up to a bf16 number."""

    def scale(largest: Float) -> npt.NDArray[Any]:
        bits = (largest.astype(np.float32) / np.float32(127)).view(np.uint32)
        return ((bits + 0xFFFF) & np.uint32(0xFFFF0000)).view(np.float32)

    return _multiples(weights, scale)


def _multiples(x: Float, scale: Callable[[Float], npt.NDArray[Any]]) -> npt.NDArray[np.float64]:
    padded = np.pad(np.asarray(x, np.float64), [(0, 0)] * (x.ndim - 1) + [(0, -x.shape[-1] % 32)])
    blocks = padded.reshape(*x.shape[:-1], -1, 32)
    scales = scale(np.abs(blocks).max(-1, keepdims=True)).astype(np.float64)
    steps = np.rint(blocks / np.where(scales > 0, scales, 1))
    return (steps * scales).reshape(padded.shape)[..., : x.shape[-1]]


def bf16_values(bits: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def read_tensors(directory: Path) -> dict[str, npt.NDArray[Any]]:
    """Every tensor of every .safetensors file, mapped: U8 as uint8, BF16 as uint16 bits."""
    tensors = {}
    for path in sorted(directory.glob("*.safetensors")):
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
        data = np.memmap(path, np.uint8, "r", offset=8 + length)
        for name, entry in header.items():
            if name != "__metadata__":
                raw = data[slice(*entry["data_offsets"])]
                dtype = {"U8": np.uint8, "BF16": np.uint16}[entry["dtype"]]
                tensors[name] = raw.view(dtype).reshape(entry["shape"])
    return tensors
