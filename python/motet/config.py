"""A checkpoint's config.json and generation_config.json, checked into one `ModelConfig`."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

from motet._files import contents, read_json_object
from motet._json import JsonReader, show
from motet.checkpoint import Checkpoint
from motet.errors import CheckpointError

_MAX_CONFIG_BYTES = 1 << 20
_MXFP4_BLOCK = 32  # weights that share one scale, along the input axis
_LARGE = 1 << 20  # no published size is near it; keeps products of three within 63 bits


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Hyper-parameters of one checkpoint; every field has been checked for type and range.

    `layer_is_sliding` has one entry a layer. `rope_factor` 1 means plain RoPE, otherwise YaRN.
    `experts_mxfp4` says how the experts are stored: MXFP4 blocks and scales, or plain bf16.
    """

    num_layers: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    num_experts: int
    experts_per_token: int
    sliding_window: int
    layer_is_sliding: tuple[bool, ...]
    rms_norm_eps: float
    swiglu_limit: float
    max_position_embeddings: int
    rope_theta: float
    rope_factor: float
    rope_beta_fast: float
    rope_beta_slow: float
    rope_original_max_position: int
    rope_truncate: bool
    eos_token_ids: tuple[int, ...]
    experts_mxfp4: bool


def load_config(directory: Path) -> ModelConfig:
    """Read and check the configuration of the checkpoint in `directory`.

    Of two spellings of a key either will do; where both are there they must agree. `dtype` and
    `torch_dtype` are not read: the safetensors headers say what is stored. Raises CheckpointError
    naming file, key, expected and found.
    """
    path = directory / "config.json"
    if not os.path.lexists(path):
        raise CheckpointError(
            "not a checkpoint",
            file=str(directory),
            expected="config.json, tokenizer.json and safetensors files",
            found=contents(directory),
        )
    reader = JsonReader(read_json_object(path, _MAX_CONFIG_BYTES), path)
    reader.only("model_type", "gpt_oss", required=True)
    reader.only("hidden_act", "silu")
    reader.only("attention_bias", True)
    reader.only("tie_word_embeddings", False)
    reader.only("swiglu_alpha", 1.702)

    num_layers = reader.integer("num_hidden_layers", high=1024)
    num_heads = reader.integer("num_attention_heads", high=4096)
    num_kv_heads = reader.integer("num_key_value_heads", high=num_heads)
    if num_heads % num_kv_heads:
        raise reader.error("num_key_value_heads", f"a divisor of {num_heads}", num_kv_heads)
    head_dim = reader.integer("head_dim", high=256)
    if head_dim % 8:
        raise reader.error("head_dim", "a multiple of 8", head_dim)
    hidden_size = reader.integer("hidden_size", high=_LARGE)
    intermediate_size = reader.integer("intermediate_size", high=_LARGE)
    num_experts = reader.integer("num_local_experts", "num_experts", high=4096)
    vocab_size = reader.integer("vocab_size", high=1 << 24)
    max_positions = reader.integer("max_position_embeddings", high=1 << 24)

    experts_mxfp4 = _experts_mxfp4(reader, directory)
    if experts_mxfp4:
        for key, size in (("hidden_size", hidden_size), ("intermediate_size", intermediate_size)):
            if size % _MXFP4_BLOCK:
                raise reader.error(key, f"a multiple of {_MXFP4_BLOCK}, MXFP4's block", size)

    layer_is_sliding = _layer_is_sliding(reader, num_layers)
    rope = _rope(reader, max_positions)
    return ModelConfig(
        num_layers=num_layers,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        vocab_size=vocab_size,
        num_experts=num_experts,
        experts_per_token=reader.integer(
            "num_experts_per_tok", "experts_per_token", high=num_experts
        ),
        sliding_window=reader.integer(
            "sliding_window", high=_LARGE, default=None if any(layer_is_sliding) else 1
        ),
        layer_is_sliding=layer_is_sliding,
        rms_norm_eps=reader.number("rms_norm_eps", low=1e-30, high=0.5, default=1e-5),
        swiglu_limit=reader.number("swiglu_limit", low=1e-30, high=1e30, default=7.0),
        max_position_embeddings=max_positions,
        rope_theta=rope.theta,
        rope_factor=rope.factor,
        rope_beta_fast=rope.beta_fast,
        rope_beta_slow=rope.beta_slow,
        rope_original_max_position=rope.original_max_position,
        rope_truncate=rope.truncate,
        eos_token_ids=_eos_token_ids(reader, directory, vocab_size),
        experts_mxfp4=experts_mxfp4,
    )


@dataclass(frozen=True, slots=True)
class _Rope:
    theta: float
    factor: float
    beta_fast: float
    beta_slow: float
    original_max_position: int
    truncate: bool


def _rope(config: JsonReader, max_positions: int) -> _Rope:
    """`rope_parameters` (newer, rope_theta inside) or `rope_scaling` with rope_theta beside it."""
    key = "rope_parameters" if config.get("rope_parameters") is not None else "rope_scaling"
    values = config.get(key)
    if not isinstance(values, dict):
        # Absent is no plain RoPE here: transformers would fill in YaRN, so silence has no safe
        # meaning.
        raise config.error("rope_parameters", "an object (or rope_scaling)", values)
    outer_theta = config.get("rope_theta")
    if values.get("rope_theta") is None:
        values = {**values, "rope_theta": outer_theta}
    rope = JsonReader(values, config.path, f"{key}.")
    if outer_theta is not None and values["rope_theta"] != outer_theta:
        raise config.error(
            "rope_theta", f"{show(values['rope_theta'])}, as {key} says", outer_theta
        )
    theta = rope.number("rope_theta", low=1.0 + 1e-6, high=1e12)
    rope_type = rope.get("rope_type", "type")
    rope.only("partial_rotary_factor", 1.0)
    if rope_type == "default":
        return _Rope(theta, 1.0, 32.0, 1.0, max_positions, truncate=False)
    if rope_type != "yarn":
        raise rope.error("rope_type", '"yarn" or "default"', rope_type)
    factor = rope.number("factor", low=1.0, high=1e6)
    rope.only("attention_factor", 0.1 * math.log(factor) + 1.0)
    for unsupported in ("mscale", "mscale_all_dim"):
        if rope.get(unsupported) is not None:
            raise rope.error(unsupported, "no such key", rope.get(unsupported))
    truncate = rope.get("truncate")
    if truncate is not None and not isinstance(truncate, bool):
        raise rope.error("truncate", "true or false", truncate)
    beta_slow = rope.number("beta_slow", low=1e-6, high=1e6, default=1.0)
    return _Rope(
        theta=theta,
        factor=factor,
        beta_fast=rope.number("beta_fast", low=beta_slow * 1.001, high=1e6, default=32.0),
        beta_slow=beta_slow,
        original_max_position=rope.integer("original_max_position_embeddings", high=1 << 24),
        truncate=truncate is not False,  # absent means rounded bounds, by YaRN's default
    )


def _layer_is_sliding(config: JsonReader, num_layers: int) -> tuple[bool, ...]:
    kinds = config.get("layer_types")
    if kinds is None:
        return tuple(i % 2 == 0 for i in range(num_layers))
    if not isinstance(kinds, list) or len(kinds) != num_layers:
        found = len(kinds) if isinstance(kinds, list) else kinds
        raise config.error("layer_types", f"a list of {num_layers}, one a layer", found)
    for kind in kinds:
        if kind not in ("sliding_attention", "full_attention"):
            raise config.error("layer_types", '"sliding_attention" or "full_attention"', kind)
    return tuple(kind == "sliding_attention" for kind in kinds)


def _experts_mxfp4(config: JsonReader, directory: Path) -> bool:
    """What quantization_config says; without one, what the file holds: fine-tunes may be bf16."""
    quantization = config.get("quantization_config")
    if quantization is None:
        return any(name.endswith(".gate_up_proj_blocks") for name in Checkpoint(directory).tensors)
    if not isinstance(quantization, dict):
        raise config.error("quantization_config", "an object", quantization)
    JsonReader(quantization, config.path, "quantization_config.").only(
        "quant_method", "mxfp4", required=True
    )
    return True


def _eos_token_ids(config: JsonReader, directory: Path, vocab_size: int) -> tuple[int, ...]:
    """generation_config.json comes first: it knows more end tokens (<|call|>) than config.json."""
    source = config
    path = directory / "generation_config.json"
    if os.path.lexists(path):
        generation = JsonReader(read_json_object(path, _MAX_CONFIG_BYTES), path)
        if generation.get("eos_token_id") is not None:
            source = generation
    value = source.get("eos_token_id")
    ids = value if isinstance(value, list) else [] if value is None else [value]
    for token in ids:
        if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < vocab_size:
            raise source.error("eos_token_id", f"token ids in 0..{vocab_size - 1}", token)
    return tuple(dict.fromkeys(ids))
