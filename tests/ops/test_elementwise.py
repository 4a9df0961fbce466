"""Norm, rotary embedding, SwiGLU and rounding of every instruction set against float64."""

from __future__ import annotations

import numpy as np
import pytest

from motet import _core
from tests.reference.checkpoint_writer import bf16_bits
from tests.reference.model import bf16_values, round_bf16

ISAS = _core.isas()
SIZES = [1, 7, 8, 9, 33, 2880, 4099]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_rms_norm(isa: str, size: int, scale: float) -> None:
    rng = np.random.default_rng(size)
    x = (rng.standard_normal(size) * scale).astype(np.float32)
    weight = bf16_bits(1 + 0.1 * rng.standard_normal(size).astype(np.float32))
    wide = x.astype(np.float64)
    expected = wide / np.sqrt((wide * wide).mean() + 1e-5) * bf16_values(weight)
    np.testing.assert_allclose(_core.ops.rms_norm(isa, x, weight, 1e-5), expected, rtol=1e-6)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("heads", "head_dim"), [(1, 8), (5, 64), (3, 40)])
def test_rope_rotates_halves(isa: str, heads: int, head_dim: int) -> None:
    rng = np.random.default_rng(heads)
    x = rng.standard_normal((heads, head_dim)).astype(np.float32)
    angle = rng.uniform(0, 6, head_dim // 2)
    cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    first, second = np.split(x.astype(np.float64), 2, axis=1)
    expected = np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=1)
    np.testing.assert_allclose(_core.ops.rope(isa, x, cos, sin), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("size", SIZES)
def test_swiglu_clamps_gate_above_and_up_on_both_sides(isa: str, size: int) -> None:
    rng = np.random.default_rng(size)
    gate_up = (rng.standard_normal(2 * size) * 8).astype(np.float32)
    gate = np.minimum(gate_up[0::2].astype(np.float64), 7)
    up = np.clip(gate_up[1::2].astype(np.float64), -7, 7)
    expected = (up + 1) * gate / (1 + np.exp(-1.702 * gate))
    out = _core.ops.swiglu(isa, gate_up, 7.0)
    # The argument of exp, up to 60 here, is itself rounded to float32.
    np.testing.assert_allclose(out, expected, rtol=4e-6, atol=1e-30)


@pytest.mark.parametrize("isa", ISAS)
def test_swiglu_of_extreme_gates(isa: str) -> None:
    gates = np.array([-1e30, -1000, -88, -60, -1e-30, 0, 1e-30, 7, 1e30], dtype=np.float32)
    gate_up = np.stack([gates, np.zeros_like(gates)], axis=1).ravel()
    gate = np.minimum(gates.astype(np.float64), 7)
    with np.errstate(over="ignore"):
        expected = gate / (1 + np.exp(-1.702 * gate))
    np.testing.assert_allclose(_core.ops.swiglu(isa, gate_up, 7.0), expected, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("isa", ISAS)
def test_round_to_bf16_ties_to_even(isa: str) -> None:
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 1 << 32, 10007, dtype=np.uint64).astype(np.uint32)
    halves = (bits[:100] & 0xFFFF0000) | 0x8000
    x = np.concatenate([bits, halves]).astype(np.uint32).view(np.float32)
    x = x[np.isfinite(x)]
    assert np.array_equal(_core.ops.round_to_bf16(isa, x), round_bf16(x))
    assert np.isnan(_core.ops.round_to_bf16(isa, np.array([np.nan], dtype=np.float32))).all()
