"""The whole engine on a GPU: logits against golden files, and the CPU's promises kept there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from motet import LLM, _core
from motet.errors import InvalidRequestError, OutOfMemoryError
from tests.conftest import MakeCheckpoint
from tests.cuda.numbers import Floats
from tests.engine.conftest import CPU, open_engine, random_ids, run, tokens_of
from tests.golden.bounds import (
    CUDA_FROM_PLAIN,
    CUDA_FROM_ROUNDED,
    CUDA_INT8_FROM_PLAIN,
    CUDA_INT8_FROM_ROUNDED,
)
from tests.golden.cases import SMALL_CASES, GoldenCase
from tests.golden.files import load_golden
from tests.reference.checkpoint_writer import CheckpointSpec
from tests.reference.metrics import median_relative_l2
from tests.reference.model import ReferenceModel

GREEDY = _core.Sampling(temperature=0)
VOCAB = 320


def open_cuda(directory: Path, **options: Any) -> _core.Engine:
    return open_engine(directory, device=0, **options)


@pytest.fixture(scope="module")
def checkpoint(make_checkpoint: MakeCheckpoint) -> Path:
    return make_checkpoint(CheckpointSpec(sliding_window=40))


small_cases = pytest.mark.parametrize(
    "case",
    [case for case in SMALL_CASES if case.spec.head_dim % 16 == 0],
    ids=lambda case: case.name,
)


@small_cases
def test_golden_logits(case: GoldenCase, make_checkpoint: MakeCheckpoint) -> None:
    directory = make_checkpoint(case.spec)
    golden = load_golden(case, directory)
    engine = open_cuda(directory)
    logits = golden.of(engine.logits(np.array(case.token_ids(), np.int32)))
    assert median_relative_l2(logits, golden.plain) <= CUDA_FROM_PLAIN
    assert median_relative_l2(logits, golden.rounded) <= CUDA_FROM_ROUNDED


class Int8Weights(ReferenceModel):
    """What int8 mode is on a GPU: it rounds weights alone."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, precision="int8")

    def rounded(self, x: Floats) -> Floats:
        return x


@small_cases
def test_int8_mode(case: GoldenCase, make_checkpoint: MakeCheckpoint) -> None:
    """As near to its weights as exact mode to the checkpoint's; nearer to those than the CPU."""
    directory = make_checkpoint(case.spec)
    ids = np.array(case.token_ids(), np.int32)
    cuda, cpu = (
        open_engine(directory, device=device, precision="int8").logits(ids) for device in (0, CPU)
    )
    assert median_relative_l2(cuda, Int8Weights(directory).logits(case.token_ids())) <= (
        CUDA_INT8_FROM_ROUNDED
    )
    golden = load_golden(case, directory)
    distances = [median_relative_l2(golden.of(logits), golden.plain) for logits in (cuda, cpu)]
    assert distances[0] <= min(distances[1], CUDA_INT8_FROM_PLAIN), distances


@pytest.mark.parametrize(("precision", "model"), [("exact", ReferenceModel), ("int8", Int8Weights)])
def test_bf16_experts(
    precision: str, model: type[ReferenceModel], make_checkpoint: MakeCheckpoint
) -> None:
    spec = CheckpointSpec(
        hidden_size=80, intermediate_size=56, num_heads=5, num_kv_heads=5, experts_mxfp4=False
    )
    directory = make_checkpoint(spec)
    ids = random_ids(40, VOCAB)
    expected = model(directory).logits(ids.tolist())
    logits = open_cuda(directory, precision=precision).logits(ids)
    assert median_relative_l2(logits, expected) <= CUDA_FROM_PLAIN


modes = pytest.mark.parametrize(
    ("precision", "kv"), [("exact", "auto"), ("exact", "int8"), ("int8", "auto")]
)


@modes
def test_token_by_token_equals_prefill(checkpoint: Path, precision: str, kv: str) -> None:
    """Bit for bit, in any chunking, and each prefix by itself."""
    ids = random_ids(80, VOCAB)
    engine = open_cuda(checkpoint, prefix_cache=False, precision=precision, kv_cache_dtype=kv)
    whole = engine.logits(ids)
    for chunk in (7, 33):
        assert np.array_equal(engine.logits(ids, chunk=chunk), whole)
    assert np.array_equal(engine.logits(ids[:50], chunk=1), whole[:50])
    assert np.array_equal(engine.logits(ids[:17]), whole[:17])


@modes
def test_requests_beside_one_another_answer_as_alone(
    checkpoint: Path, precision: str, kv: str
) -> None:
    prompts = [random_ids(n, VOCAB, seed=n) for n in (3, 40, 17, 61, 90)]
    sampling = [
        GREEDY,
        _core.Sampling(temperature=1.0, seed=3),
        _core.Sampling(temperature=0.8, top_p=0.9, top_k=40, seed=4),
        _core.Sampling(temperature=1.0, min_p=0.02, seed=5),
        _core.Sampling(temperature=1.0, seed=6, repetition_penalty=1.2),
    ]
    options: dict[str, Any] = {"max_batch": 5, "precision": precision, "kv_cache_dtype": kv}
    engine = open_cuda(checkpoint, **options)
    alone = []
    for prompt, params in zip(prompts, sampling, strict=True):
        request = engine.submit(prompt, params, 6)
        alone.append(tokens_of(run(engine)[request]))
    fresh = open_cuda(checkpoint, prefix_cache=False, **options)
    requests = [fresh.submit(p, s, 6) for p, s in zip(prompts, sampling, strict=True)]
    events = run(fresh)
    assert [tokens_of(events[request]) for request in requests] == alone
    fresh.audit()


def test_tokens_drawn_on_the_device_are_those_drawn_on_the_host(checkpoint: Path) -> None:
    """Asking for logprobs takes the host's way."""
    engine = open_cuda(checkpoint)
    ids = random_ids(20, VOCAB)
    for seed in range(2):
        for params in ({"temperature": 0.7}, {"temperature": 1.0, "top_p": 0.8}, {"top_k": 5}):
            answers = []
            for more in ({}, {"logprobs": 0}):
                sampling = _core.Sampling(seed=seed, **params, **more)
                request = engine.submit(ids, sampling, 4)
                answers.append(tokens_of(run(engine)[request]))
            assert answers[0] == answers[1]


@pytest.mark.parametrize("kv", ["auto", "int8"])
def test_samples_and_forks_copy_the_page_they_share(checkpoint: Path, kv: str) -> None:
    engine = open_cuda(checkpoint, max_batch=3, kv_cache_dtype=kv)
    ids = random_ids(50, VOCAB)
    first = engine.submit(ids, _core.Sampling(temperature=1.0, seed=7), 8, n=3)
    events = run(engine)
    cold = open_cuda(checkpoint, prefix_cache=False, kv_cache_dtype=kv)
    request = cold.submit(ids, _core.Sampling(temperature=1.0, seed=7), 8)
    assert tokens_of(events[first]) == tokens_of(run(cold)[request])
    assert len({tuple(tokens_of(events[first + i])) for i in range(3)}) == 3
    engine.audit()


def test_logits_are_close_to_the_cpu_s(checkpoint: Path) -> None:
    ids = random_ids(100, VOCAB)
    cpu = open_engine(checkpoint, device=CPU).logits(ids)
    assert median_relative_l2(open_cuda(checkpoint).logits(ids), cpu) <= CUDA_FROM_PLAIN


def test_an_int8_cache_is_as_near_as_the_cpu_s(checkpoint: Path) -> None:
    """To the CPU's logits with that cache, and to those of half precision."""
    ids = random_ids(300, VOCAB)
    int8 = open_cuda(checkpoint, kv_cache_dtype="int8").logits(ids)
    cpu = open_engine(checkpoint, device=CPU, kv_cache_dtype="int8").logits(ids)
    assert median_relative_l2(int8, cpu) <= 5e-3
    assert 1e-4 <= median_relative_l2(int8, open_cuda(checkpoint).logits(ids)) <= 1e-2


def test_a_prefix_of_an_int8_cache(checkpoint: Path) -> None:
    """Its pages, shared and copied when they are written to, are as good as new ones."""
    engine = open_cuda(checkpoint, kv_cache_dtype="int8")
    ids = random_ids(150, VOCAB)
    cold = open_cuda(checkpoint, kv_cache_dtype="int8", prefix_cache=False)
    for length in (150, 120, 100):
        answers = []
        for one in (engine, engine, cold):
            request = one.submit(ids[:length], _core.Sampling(temperature=1.0, seed=8), 4)
            answers.append(tokens_of(run(one)[request]))
        assert answers[0] == answers[1] == answers[2]
    assert engine.metrics()["computed_tokens"] < cold.metrics()["computed_tokens"]
    engine.audit()


def test_bad_options_are_refused(checkpoint: Path, make_checkpoint: MakeCheckpoint) -> None:
    with pytest.raises(InvalidRequestError, match="cuda:7"):
        open_engine(checkpoint, device=7)
    with pytest.raises(InvalidRequestError, match="precision"):
        open_cuda(checkpoint, precision="f32")
    with pytest.raises(InvalidRequestError, match="head_dim"):
        open_cuda(make_checkpoint(CheckpointSpec(head_dim=24)))
    open_cuda(checkpoint)  # nothing of what failed is left behind


@pytest.mark.parametrize("precision", ["exact", "int8"])
def test_made_up_weights(checkpoint: Path, precision: str) -> None:
    from motet.config import load_config
    from motet.weights import core_config

    config = core_config(load_config(checkpoint))
    settings: dict[str, Any] = {
        "max_context": 256,
        "kv_cache_bytes": 1 << 24,
        "threads": 1,
        "precision": precision,
    }
    engine = _core.Engine(config, None, device=0, **settings)
    logits = engine.logits(random_ids(30, VOCAB))
    assert np.isfinite(logits).all()
    assert 0.01 < logits.std(axis=1).min() < logits.std(axis=1).max() < 100
    again = _core.Engine(config, None, device=0, **settings)
    assert np.array_equal(again.logits(random_ids(30, VOCAB)), logits)


def test_the_bundled_model_answers_as_on_the_cpu() -> None:
    texts = []
    for device in ("cuda", "cpu"):
        with LLM(device=device, max_context=256, max_batch=1, kv_cache_bytes=1 << 26) as llm:
            question = [{"role": "user", "content": "What is 38 + 27?"}]
            answer = llm.chat(question, temperature=0, reasoning_effort="low", max_tokens=60)
            texts.append((answer.text, answer.token_ids))
    assert texts[0] == texts[1]
    assert "65" in texts[0][0]


def test_too_little_memory_says_what_would_do_and_the_cpu_goes_on() -> None:
    with pytest.raises(OutOfMemoryError, match=r"gpu_memory=\d+ would do"):
        LLM(device="cuda", gpu_memory=4 << 20)
    with LLM(device="cpu", max_context=64) as llm:
        assert llm.generate("1", max_tokens=1).token_ids
