"""Which device a model is given, and how a GPU's memory is planned, on cards that are made up."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from motet import LLM, DeviceError, InvalidRequestError, OutOfMemoryError, _core, gpu
from motet.config import ModelConfig, load_config
from motet.loading import Options
from motet.weights import core_config

GB = 10**9


@dataclass
class Card:
    """What `_core.cuda_memory` says of a card and a model."""

    total: int = 16 * GB
    free: int = 15 * GB
    weights: int = 8 * GB
    workspace: int = GB

    contexts: list[int] = field(default_factory=list)  # that work space was asked for

    def memory(
        self, _core: object, precision: str, _device: int, context: int, _batch: int
    ) -> dict[str, int]:
        self.contexts.append(context)
        plan = {name: getattr(self, name) for name in ("weights", "workspace", "free", "total")}
        return plan | ({"weights": self.weights // 2} if precision == "int8" else {})


@pytest.fixture
def config(tiny_checkpoint: Path) -> ModelConfig:
    return load_config(tiny_checkpoint)


def budget(options: Options, config: ModelConfig) -> int:
    return gpu.cache_budget(options, config, core_config(config), 0)


def choose(options: Options, config: ModelConfig) -> int:
    return gpu.choose(options, config, core_config(config))


def insert(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_core, "cuda_devices", lambda: [{"name": "made up"}])
    monkeypatch.setattr(_core, "cuda_memory", card.memory)


def test_names_of_devices() -> None:
    assert [gpu.device_index(name) for name in ("cpu", "cuda", "cuda:0", "cuda:12")] == [
        -1,
        0,
        0,
        12,
    ]
    for name in ("", "gpu", "cuda:", "cuda:-1", "cuda:1 ", "CUDA"):
        with pytest.raises(InvalidRequestError, match="device: expected"):
            gpu.device_index(name)


def test_the_cache_gets_what_weights_and_work_space_leave(
    config: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert(Card(), monkeypatch)
    share = budget(Options(gpu_memory=0.75), config)
    assert share == 12 * GB - 9 * GB
    assert budget(Options(gpu_memory=10 * GB), config) == GB
    # Of the whole card only what is free, but for a little.
    whole = budget(Options(gpu_memory=1.0), config)
    assert 5.5 * GB < whole < 6 * GB
    assert budget(Options(kv_cache_bytes=123456789), config) == 123456789


@pytest.mark.parametrize(
    ("card", "options", "advice"),
    [
        (Card(weights=15 * GB), Options(), "takes a card with 16"),
        (Card(free=3 * GB), Options(), "once other programs have freed the card"),
        (Card(), Options(gpu_memory=2 * GB), r"gpu_memory=9\d+ would do"),
        (
            Card(),
            Options(kv_cache_bytes=7 * GB),
            "smaller max_context, max_batch or kv_cache_bytes",
        ),
    ],
)
def test_what_does_not_fit_says_what_would(
    config: ModelConfig,
    monkeypatch: pytest.MonkeyPatch,
    card: Card,
    options: Options,
    advice: str,
) -> None:
    insert(card, monkeypatch)
    with pytest.raises(OutOfMemoryError, match=advice) as caught:
        budget(options, config)
    assert f"weights {card.weights / GB:.2f} GB" in str(caught.value)


def test_auto_takes_a_gpu_only_where_the_model_fits_and_the_options_are_its(
    config: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert(Card(), monkeypatch)
    assert choose(Options(), config) == 0
    assert choose(Options(device="cpu"), config) == gpu.CPU
    assert choose(Options(device="cuda:3"), config) == 3
    assert choose(Options(precision="int8"), config) == 0
    assert choose(Options(precision="f32"), config) == gpu.CPU
    assert choose(Options(kv_cache_dtype="int8"), config) == 0
    insert(Card(weights=20 * GB), monkeypatch)
    assert choose(Options(), config) == gpu.CPU
    assert choose(Options(precision="int8"), config) == 0  # where weights are smaller
    monkeypatch.setattr(_core, "cuda_devices", list)
    assert choose(Options(), config) == gpu.CPU


@pytest.mark.skipif(bool(_core.cuda_devices()), reason="there is a GPU")
def test_without_a_gpu_asking_for_one_is_a_typed_error(tiny_checkpoint: Path) -> None:
    with pytest.raises(DeviceError, match="device"):
        LLM(tiny_checkpoint, device="cuda")
    assert _core.cuda_problem()
    with LLM(tiny_checkpoint, max_context=64) as llm:  # the CPU is as good as before
        assert llm.info.device == "cpu"


def test_weights_are_made_up_only_on_a_gpu(tiny_checkpoint: Path) -> None:
    with pytest.raises(InvalidRequestError, match="load_format"):
        LLM(tiny_checkpoint, device="cpu", load_format="dummy")


def test_work_space_is_planned_for_the_context_that_may_be_chosen(
    config: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = Card()
    insert(card, monkeypatch)
    budget(Options(), config)
    budget(Options(max_context=64), config)
    assert card.contexts == [config.max_position_embeddings, 64]


@pytest.mark.skipif(
    _core.cuda_problem() == "motet was built without CUDA" or _core.cuda_driver() > 0,
    reason="needs a CUDA build and no driver",
)
def test_without_a_driver_that_is_what_is_said() -> None:
    """The runtime calls it one of an insufficient version."""
    assert _core.cuda_problem() == "no NVIDIA driver is installed"
    with pytest.raises(DeviceError, match="no NVIDIA driver is installed"):
        LLM(device="cuda")


@pytest.mark.skipif(not _core.cuda_devices(), reason="no CUDA device")
def test_int8_mode_on_a_gpu(tiny_checkpoint: Path) -> None:
    options: dict[str, Any] = {"device": "cuda", "max_context": 64, "kv_cache_bytes": 1 << 22}
    with (
        LLM(tiny_checkpoint, **options) as exact,
        LLM(tiny_checkpoint, precision="int8", **options) as int8,
    ):
        saved = exact.info.memory["weights"] - int8.info.memory["weights"]
        config = load_config(tiny_checkpoint)
        plans = [
            _core.cuda_memory(core_config(config), precision, 0, 64, 8)["weights"]
            for precision in ("exact", "int8")
        ]
        assert [exact.info.memory["weights"], int8.info.memory["weights"]] == plans
        heads = 2 * (config.num_heads + config.num_kv_heads) * config.head_dim
        dense = config.hidden_size * (config.num_layers * heads + config.vocab_size)
        assert saved == pytest.approx(dense * (2 - 34 / 32), rel=0.01)
        assert int8.info.device == exact.info.device == "cuda:0"
        ids = list(range(20))
        distance = np.linalg.norm(int8.logits(ids) - exact.logits(ids))
        assert 1e-3 < distance / np.linalg.norm(exact.logits(ids)) < 5e-2
    with pytest.raises(InvalidRequestError, match=r"precision: expected 'exact' or 'int8' .*'f32'"):
        LLM(tiny_checkpoint, precision="f32", **options)
