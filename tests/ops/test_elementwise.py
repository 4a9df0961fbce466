"""Norm, rotary embedding, SwiGLU of every instruction set against float64, and half precision."""

from __future__ import annotations

import numpy as np
import pytest

from motet import _core
from tests.reference.checkpoint_writer import bf16_bits
from tests.reference.model import bf16_values

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


def test_half_precision_rounds_to_nearest_even_and_saturates() -> None:
    rng = np.random.default_rng(0)
    every_half = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    ties = (every_half[:-1] + every_half[1:]) / 2
    near = np.nextafter(ties, np.float32(np.inf))
    wide = rng.integers(0, 0x477FF000, 100_000, dtype=np.uint32).view(np.float32)
    x = np.concatenate([every_half, ties, near, wide, -every_half, -ties, -wide])
    assert np.array_equal(_core.ops.f16_bits(x), x.astype(np.float16).view(np.uint16))
    large = np.array([65519.9, 65520, 1e30, np.inf, -65520, -np.inf], np.float32)
    expected = np.array([65504] * 4 + [-65504] * 2, np.float16)
    assert np.array_equal(_core.ops.f16_bits(large), expected.view(np.uint16))
    nan = _core.ops.f16_bits(np.array([np.nan, -np.nan], np.float32)).view(np.float16)
    assert np.isnan(nan).all()
