"""NaN and infinity among a checkpoint's numbers are refused where they would be every answer's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from motet import LLM
from motet.checkpoint import Checkpoint
from motet.config import load_config
from motet.weights import load_weights
from tests.checkpoint.damage import join, refused, split

WEIGHTS = "model.safetensors"
SINKS = "model.layers.1.self_attn.sinks"
SCALES = "model.layers.1.mlp.experts.down_proj_scales"


def test_nan_scale(single: Path) -> None:
    header, data = split(single / WEIGHTS)
    begin, end = header[SCALES]["data_offsets"]
    scales = np.frombuffer(data, np.uint8)[begin:end].reshape(header[SCALES]["shape"]).copy()
    scales[5, 63, 2] = 255
    join(
        single / WEIGHTS,
        json.dumps(header).encode(),
        data[:begin] + scales.tobytes() + data[end:],
    )
    error = refused(single)
    assert error.file == str(single / WEIGHTS)
    assert error.tensor == SCALES
    assert error.found == "255 (NaN) at [5, 63, 2]"


def set_bits(directory: Path, tensor: str, index: int, bits: int) -> None:
    header, data = split(directory / WEIGHTS)
    at = header[tensor]["data_offsets"][0] + 2 * index
    data = data[:at] + bits.to_bytes(2, "little") + data[at + 2 :]
    join(directory / WEIGHTS, json.dumps(header).encode(), data)


@pytest.mark.parametrize("bits", [0x7FC0, 0xFFFF, 0x7F80], ids=["NaN", "-NaN", "infinity"])
@pytest.mark.parametrize(
    "tensor",
    [
        "model.norm.weight",
        "model.layers.0.input_layernorm.weight",
        "model.layers.1.post_attention_layernorm.weight",
        "model.layers.0.self_attn.q_proj.bias",
        "model.layers.0.self_attn.o_proj.bias",
        SINKS,
        "model.layers.1.mlp.router.weight",
        "model.layers.1.mlp.router.bias",
        "model.layers.0.mlp.experts.gate_up_proj_bias",
        "model.layers.0.mlp.experts.down_proj_bias",
    ],
)
def test_numbers_that_are_not_finite(single: Path, tensor: str, bits: int) -> None:
    """Every logit would be NaN. Of the large matrices the core says it, as it packs them."""
    set_bits(single, tensor, 3, bits)
    error = refused(single)
    assert (error.file, error.tensor) == (str(single / WEIGHTS), tensor)
    assert error.expected == "finite numbers"
    assert str(error.found).startswith("NaN or infinity at [")
    assert str(error.found).endswith("3]")


@pytest.mark.parametrize("tensor", [SINKS, "model.layers.1.mlp.router.bias"])
def test_minus_infinity_says_never(single: Path, tensor: str) -> None:
    """No sink, an expert that is never chosen: finite answers."""
    set_bits(single, tensor, 3, 0xFF80)
    load_weights(Checkpoint(single), load_config(single))
    with LLM(single, max_context=64, threads=1) as llm:
        assert np.isfinite(llm.logits([1, 2, 3])).all()
