"""Random-weight checkpoints in the published gpt-oss layout, at any size, the same bits everywhere.

Only a bit generator's raw output is used (numpy promises those streams, not its distributions), so
golden files made from a spec stay valid with every numpy.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.reference.byte_tokenizer import write_byte_tokenizer, write_json

Bits = npt.NDArray[np.uint16] | npt.NDArray[np.uint8]
Tensor = tuple[str, str, Bits]  # name, safetensors dtype, array

_CHUNK = 1 << 17  # weights drawn at a time, so that they stay in the cache
_EVEN_16 = np.uint64(0x0000FFFF0000FFFF)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSpec:
    """Sizes and format of one checkpoint; the byte tokenizer needs `vocab_size` >= 265."""

    num_layers: int = 2
    hidden_size: int = 64
    intermediate_size: int = 96
    num_heads: int = 4
    num_kv_heads: int = 2
    head_dim: int = 32
    vocab_size: int = 320
    num_experts: int = 8
    experts_per_token: int = 4
    sliding_window: int = 16
    max_position_embeddings: int = 131072
    rope_theta: float = 150000.0
    rope_factor: float = 32.0
    rope_original_max_position: int = 4096
    rope_truncate: bool = False
    layer_types: tuple[str, ...] | None = None  # None: sliding, full, sliding, ...
    experts_mxfp4: bool = True
    newer_config: bool = False  # rope_parameters and dtype instead of rope_scaling and torch_dtype
    num_shards: int = 1
    seed: int = 0


def write_checkpoint(directory: Path, spec: CheckpointSpec) -> Path:
    """Write weights, configuration and a byte-level tokenizer; return `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    shapes = tensor_shapes(spec)
    tensors = make_tensors(spec)
    if spec.num_shards == 1:
        write_safetensors(directory / "model.safetensors", shapes, tensors)
    else:
        weight_map = {}
        per_shard = math.ceil(len(shapes) / spec.num_shards)
        for k in range(spec.num_shards):
            part = shapes[k * per_shard : (k + 1) * per_shard]
            file = f"model-{k:05d}-of-{spec.num_shards - 1:05d}.safetensors"
            write_safetensors(directory / file, part, tensors)
            weight_map.update({name: file for name, _, _ in part})
        total = sum(_nbytes(dtype, shape) for _, dtype, shape in shapes)
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        write_json(directory / "model.safetensors.index.json", index)
    write_json(directory / "config.json", config_json(spec))
    write_byte_tokenizer(directory)
    return directory


def config_json(spec: CheckpointSpec) -> dict[str, Any]:
    """The config.json of a spec, in the published spelling or in that of newer savers."""
    layer_types = spec.layer_types or tuple(
        "sliding_attention" if i % 2 == 0 else "full_attention" for i in range(spec.num_layers)
    )
    rope = {
        "rope_type": "yarn",
        "factor": spec.rope_factor,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "original_max_position_embeddings": spec.rope_original_max_position,
        "truncate": spec.rope_truncate,
    }
    config: dict[str, Any] = {
        "architectures": ["GptOssForCausalLM"],
        "model_type": "gpt_oss",
        "attention_bias": True,
        "eos_token_id": 258,
        "pad_token_id": 257,
        "hidden_act": "silu",
        "hidden_size": spec.hidden_size,
        "intermediate_size": spec.intermediate_size,
        "num_hidden_layers": spec.num_layers,
        "num_attention_heads": spec.num_heads,
        "num_key_value_heads": spec.num_kv_heads,
        "head_dim": spec.head_dim,
        "vocab_size": spec.vocab_size,
        "num_local_experts": spec.num_experts,
        "num_experts_per_tok": spec.experts_per_token,
        "layer_types": list(layer_types),
        "sliding_window": spec.sliding_window,
        "max_position_embeddings": spec.max_position_embeddings,
        "rms_norm_eps": 1e-5,
        "swiglu_limit": 7.0,
        "tie_word_embeddings": False,
    }
    if spec.newer_config:
        config["rope_parameters"] = {**rope, "rope_theta": spec.rope_theta}
        config["dtype"] = "bfloat16"
    else:
        config["rope_scaling"] = rope
        config["rope_theta"] = spec.rope_theta
        config["torch_dtype"] = "bfloat16"
        config["experts_per_token"] = spec.experts_per_token
    if spec.experts_mxfp4:
        config["quantization_config"] = {"quant_method": "mxfp4"}
    return config


def tensor_shapes(spec: CheckpointSpec) -> list[tuple[str, str, tuple[int, ...]]]:
    """(name, dtype, shape) of every tensor, in file order."""
    hidden, inter, experts = spec.hidden_size, spec.intermediate_size, spec.num_experts
    q, kv = spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim
    out: list[tuple[str, str, tuple[int, ...]]] = []

    def bf16(name: str, *shape: int) -> None:
        out.append((name, "BF16", shape))

    def expert_matrix(name: str, rows: int, cols: int) -> None:
        if spec.experts_mxfp4:
            out.append((f"{name}_blocks", "U8", (experts, rows, cols // 32, 16)))
            out.append((f"{name}_scales", "U8", (experts, rows, cols // 32)))
        else:
            bf16(name, experts, cols, rows)
        bf16(f"{name}_bias", experts, rows)

    bf16("model.embed_tokens.weight", spec.vocab_size, hidden)
    for layer in range(spec.num_layers):
        prefix = f"model.layers.{layer}."
        bf16(prefix + "input_layernorm.weight", hidden)
        for name, rows, cols in (
            ("q", q, hidden),
            ("k", kv, hidden),
            ("v", kv, hidden),
            ("o", hidden, q),
        ):
            bf16(f"{prefix}self_attn.{name}_proj.weight", rows, cols)
            bf16(f"{prefix}self_attn.{name}_proj.bias", rows)
        bf16(prefix + "self_attn.sinks", spec.num_heads)
        bf16(prefix + "post_attention_layernorm.weight", hidden)
        bf16(prefix + "mlp.router.weight", experts, hidden)
        bf16(prefix + "mlp.router.bias", experts)
        expert_matrix(prefix + "mlp.experts.gate_up_proj", 2 * inter, hidden)
        expert_matrix(prefix + "mlp.experts.down_proj", hidden, inter)
    bf16("model.norm.weight", hidden)
    bf16("lm_head.weight", spec.vocab_size, hidden)
    return out


def make_tensors(spec: CheckpointSpec) -> Iterator[Tensor]:
    """Yield tensors one at a time (they may be large), scaled to keep activations finite."""
    stream = np.random.PCG64(spec.seed)
    for name, dtype, shape in tensor_shapes(spec):
        if name.endswith("_blocks"):
            yield name, dtype, _random_bytes(stream, shape)
        elif name.endswith("_scales"):
            # Uniform e2m1 codes have an rms of about 2.9; exponents around that of 1/sqrt(inputs).
            middle = 127 + round(math.log2((shape[-1] * 32) ** -0.5 / 2.9))
            yield name, dtype, (middle - 1 + _random_bytes(stream, shape) % 3).astype(np.uint8)
        else:
            mean, std = _moments(name, shape)
            yield name, dtype, _normal(stream, shape, mean, std)


def _moments(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    if "norm" in name:
        return 1.0, 0.1
    if name.endswith("bias"):
        return 0.0, 0.1
    if name.endswith(("sinks", "embed_tokens.weight")):
        return 0.0, 1.0
    inputs = shape[1]  # [rows, inputs], and bf16 experts [experts, inputs, rows]
    return 0.0, inputs**-0.5


def _random_bytes(stream: np.random.PCG64, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    count = math.prod(shape)
    return stream.random_raw(-(-count // 8)).astype("<u8").view(np.uint8)[:count].reshape(shape)


def _normal(
    stream: np.random.PCG64, shape: tuple[int, ...], mean: float, std: float
) -> npt.NDArray[np.uint16]:
    """About normal: sums of four 16-bit uniform numbers, the same on every machine."""
    out = np.empty(math.prod(shape), np.uint16)
    for start in range(0, out.size, _CHUNK):
        part = out[start : start + _CHUNK]
        raw = stream.random_raw(part.size)
        pairs = (raw & _EVEN_16) + (raw >> 16 & _EVEN_16)
        sums = ((pairs & 0xFFFFFFFF) + (pairs >> 32)).astype(np.int64)
        unit = (sums - 2 * 65535).astype(np.float32) * np.float32(math.sqrt(3) / 65536)
        part[:] = bf16_bits(np.float32(mean) + unit * np.float32(std))
    return out.reshape(shape)


def bf16_bits(x: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """Round float32 to bf16, ties to even, as bit patterns."""
    u = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype(np.uint16)


def write_safetensors(
    path: Path, shapes: list[tuple[str, str, tuple[int, ...]]], tensors: Iterator[Tensor]
) -> None:
    """Write the next len(shapes) tensors of the iterator as one safetensors file."""
    header: dict[str, Any] = {}
    offset = 0
    for name, dtype, shape in shapes:
        end = offset + _nbytes(dtype, shape)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    with path.open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        for _ in shapes:
            next(tensors)[2].tofile(file)


def _nbytes(dtype: str, shape: tuple[int, ...]) -> int:
    return math.prod(shape) * (2 if dtype == "BF16" else 1)
