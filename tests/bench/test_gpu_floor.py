"""The floors of the design, which were worked out by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from bench import gpu_floor
from motet.config import ModelConfig, load_config

COPY, MATMUL = 3.0e12, 700e12  # an H100's, in bytes and FLOP a second


@pytest.fixture
def config_20b(tiny_checkpoint: Path) -> ModelConfig:
    return dataclasses.replace(
        load_config(tiny_checkpoint),
        num_layers=24,
        hidden_size=2880,
        intermediate_size=2880,
        num_heads=64,
        num_kv_heads=8,
        head_dim=64,
        vocab_size=201088,
        num_experts=32,
        experts_per_token=4,
        sliding_window=128,
        layer_is_sliding=(True, False) * 12,
        experts_mxfp4=True,
    )


@pytest.fixture
def config_120b(config_20b: ModelConfig) -> ModelConfig:
    return dataclasses.replace(
        config_20b, num_layers=36, num_experts=128, layer_is_sliding=(True, False) * 18
    )


def test_decode(config_20b: ModelConfig, config_120b: ModelConfig) -> None:
    for config, rate in ((config_20b, 809), (config_120b, 600)):
        seconds = gpu_floor.decode(config, 1, 1).seconds(COPY, MATMUL)
        assert 1 / seconds == pytest.approx(rate, rel=0.01)


def test_prefill(config_20b: ModelConfig, config_120b: ModelConfig) -> None:
    for config, rate in ((config_20b, 102_000), (config_120b, 68_000)):
        seconds = gpu_floor.prefill(config, 8192).seconds(COPY, MATMUL)
        assert 8192 / seconds == pytest.approx(rate, rel=0.02)


def test_experts_of_a_batch(config_20b: ModelConfig) -> None:
    assert gpu_floor.distinct_experts(config_20b, 1) == pytest.approx(4)
    assert gpu_floor.distinct_experts(config_20b, 2) == pytest.approx(4 + 4 * 28 / 32)
    assert gpu_floor.distinct_experts(config_20b, 1000) == pytest.approx(32)


def test_the_cache_is_read_for_each_sequence(config_20b: ModelConfig) -> None:
    short, long = (gpu_floor.decode(config_20b, 8, n) for n in (128, 1128))
    assert long.bytes - short.bytes == 8 * 12 * 1000 * 2 * 8 * 64 * 2
    assert long.flops - short.flops == 8 * 12 * 1000 * 4 * 64 * 64


def test_eight_bits_take_half_the_bytes(config_20b: ModelConfig) -> None:
    """Of dense weights all but the router's, and of keys and values; a scale for 32, or a head."""
    exact = gpu_floor.decode(config_20b, 1, 1000).bytes
    int8 = gpu_floor.decode(config_20b, 1, 1000, {"precision": "int8"}).bytes
    dense = 24 * 2880 * 2 * (64 + 8) * 64 + 2880 * 201088
    assert exact - int8 == pytest.approx(dense * (2 - 34 / 32))
    kv_int8 = gpu_floor.decode(config_20b, 1, 1000, {"kv_cache_dtype": "int8"}).bytes
    assert exact - kv_int8 == pytest.approx(12 * (1000 + 128) * 2 * 8 * (2 * 64 - 68))
