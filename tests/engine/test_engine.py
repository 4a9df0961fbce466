"""The engine's requests, events and cache pages; the same bits whatever else is in the step."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from motet import _core
from motet.config import load_config
from motet.errors import (
    ContextLengthError,
    InvalidRequestError,
    ModelClosedError,
    OutOfMemoryError,
)
from motet.weights import core_config
from tests.conftest import MakeCheckpoint
from tests.engine.conftest import (
    DEVICE,
    STEP_TOKENS,
    cpu_only,
    open_engine,
    random_ids,
    run,
    tokens_of,
)
from tests.reference.checkpoint_writer import CheckpointSpec

VOCAB = 320
GREEDY = _core.Sampling(temperature=0)


def generate(engine: _core.Engine, ids: np.ndarray, n: int, sampling: _core.Sampling) -> list[int]:
    request = engine.submit(ids, sampling, n)
    return tokens_of(run(engine)[request])


@pytest.mark.parametrize("isa", _core.isas(), indirect=True)
@pytest.mark.parametrize(
    ("precision", "kv"), [("exact", "auto"), ("f32", "auto"), ("exact", "int8")]
)
def test_logits_have_the_same_bits_in_any_chunking(
    tiny_checkpoint: Path, isa: str, precision: str, kv: str
) -> None:
    engine = open_engine(tiny_checkpoint, precision=precision, kv_cache_dtype=kv)
    assert engine.isa == isa
    ids = random_ids(300, VOCAB)  # past the step budget of 256 tokens and the window of 16
    whole = engine.logits(ids)
    assert np.isfinite(whole).all()
    for chunk in (1, 7, 32, 100):
        assert np.array_equal(whole, engine.logits(ids, chunk))


@pytest.mark.parametrize("kv", ["auto", "int8"])
def test_logits_have_the_same_bits_with_any_number_of_threads(
    tiny_checkpoint: Path, kv: str
) -> None:
    ids = random_ids(100, VOCAB)
    logits = [
        open_engine(tiny_checkpoint, threads=n, kv_cache_dtype=kv).logits(ids) for n in (1, 2, 3, 8)
    ]
    for other in logits[1:]:
        assert np.array_equal(logits[0], other)


def test_instruction_sets_agree_to_rounding(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = random_ids(60, VOCAB)
    logits = []
    for isa in _core.isas():
        monkeypatch.setenv("MOTET_ISA", isa)
        logits.append(open_engine(tiny_checkpoint, precision="f32").logits(ids))
    for other in logits[1:]:
        assert np.linalg.norm(other - logits[0]) <= 1e-5 * np.linalg.norm(logits[0])


@pytest.mark.parametrize("kv", ["auto", "int8"])
@pytest.mark.parametrize("sampling", [GREEDY, _core.Sampling(temperature=1.0, seed=5)])
def test_requests_answer_the_same_alone_and_together(
    tiny_checkpoint: Path, sampling: _core.Sampling, kv: str
) -> None:
    prompts = [random_ids(n, VOCAB, seed=n) for n in (1, 3, 40, 300, 17, 64)]
    alone_engine = open_engine(tiny_checkpoint, kv_cache_dtype=kv)
    alone = [generate(alone_engine, ids, 12, sampling) for ids in prompts]
    engine = open_engine(tiny_checkpoint, max_batch=3, kv_cache_dtype=kv)
    requests = [engine.submit(ids, sampling, 12) for ids in prompts]
    events = run(engine)
    assert [tokens_of(events[r]) for r in requests] == alone
    assert all(events[r][-1].finish == "length" for r in requests)
    assert engine.memory()["pages_in_use"] == 0


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)))


@pytest.mark.parametrize("isa", _core.isas(), indirect=True)
def test_an_int8_cache_gives_logits_near_those_of_half_precision(
    tiny_checkpoint: Path, isa: str
) -> None:
    """Measured: 5.2e-3 from it by the median relative L2, 4.7e-5 by the mean KL."""
    ids = random_ids(300, VOCAB)
    auto, int8 = (
        open_engine(tiny_checkpoint, kv_cache_dtype=kv).logits(ids) for kv in ("auto", "int8")
    )
    distance = np.linalg.norm(int8 - auto, axis=1) / np.linalg.norm(auto, axis=1)
    expected, found = log_softmax(auto), log_softmax(int8)
    divergence = (np.exp(expected) * (expected - found)).sum(1)
    assert 0 < np.median(distance) <= 1e-2
    assert divergence.mean() <= 2e-4


def test_an_int8_cache_takes_half_the_bytes(tiny_checkpoint: Path) -> None:
    config = core_config(load_config(tiny_checkpoint))
    auto, int8 = (
        _core.kv_cache_bytes(config, "exact", 1024, 1, kv, DEVICE) for kv in ("auto", "int8")
    )
    # A scale of 4 bytes beside 32 integers that were 2 bytes each.
    assert int8 * 64 == auto * 36
    engine = open_engine(tiny_checkpoint, kv_cache_dtype="int8", kv_cache_bytes=int8)
    assert engine.memory()["kv_cache_bytes"] == int8


def test_cache_dtypes_that_do_not_exist(tiny_checkpoint: Path) -> None:
    config = core_config(load_config(tiny_checkpoint))
    for options in ({"kv_cache_dtype": "int4"}, {"kv_cache_dtype": "int8", "precision": "f32"}):
        with pytest.raises(InvalidRequestError, match="kv_cache_dtype: expected 'auto'"):
            open_engine(tiny_checkpoint, **options)
        with pytest.raises(InvalidRequestError, match="kv_cache_dtype: expected 'auto'"):
            _core.kv_cache_bytes(
                config, **{"precision": "exact", "max_context": 64, "max_batch": 1, **options}
            )


def test_decoding_equals_prefill(tiny_checkpoint: Path) -> None:
    engine = open_engine(tiny_checkpoint)
    ids = random_ids(20, VOCAB)
    answer = generate(engine, ids, 50, GREEDY)
    logits = engine.logits(np.concatenate([ids, np.array(answer, dtype=np.int32)]))
    assert answer == logits[len(ids) - 1 : -1].argmax(1).tolist()


def test_events_carry_positions_and_logprobs(tiny_checkpoint: Path) -> None:
    engine = open_engine(tiny_checkpoint)
    ids = random_ids(50, VOCAB)
    request = engine.submit(ids, _core.Sampling(temperature=0, logprobs=2, prompt_logprobs=1), 3)
    events = run(engine)[request]
    prompt, output = events[:49], events[49:]
    assert [e.position for e in prompt] == list(range(1, 50))
    assert [e.token for e in prompt] == ids[1:].tolist()
    assert all(e.is_prompt for e in prompt)
    assert [e.position for e in output] == [50, 51, 52]
    assert [e.finish for e in output] == [None, None, "length"]
    logits = engine.logits(ids).astype(np.float64)
    logprobs = logits - np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1, keepdims=True))
    logprobs -= logits.max(1, keepdims=True)
    expected = logprobs[np.arange(49), ids[1:]]
    np.testing.assert_allclose([e.logprob for e in prompt], expected, atol=1e-5)
    assert output[0].top[0] == (output[0].token, output[0].logprob)
    assert len(output[0].top) == 2


def test_stop_tokens_end_a_request(tiny_checkpoint: Path) -> None:
    engine = open_engine(tiny_checkpoint)
    ids = random_ids(10, VOCAB)
    free = generate(engine, ids, 8, GREEDY)
    stop = free[3]
    request = engine.submit(ids, _core.Sampling(temperature=0, stop_ids=[stop]), 8)
    events = run(engine)[request]
    assert tokens_of(events) == free[: free.index(stop) + 1]
    assert events[-1].finish == "stop"


def test_zero_new_tokens_only_compute_the_prompt(tiny_checkpoint: Path) -> None:
    engine = open_engine(tiny_checkpoint, max_context=64)
    request = engine.submit(random_ids(64, VOCAB), GREEDY, 0)
    (event,) = run(engine)[request]
    assert (event.token, event.finish) == (-1, "length")


def test_sliding_layers_give_pages_back(tiny_checkpoint: Path) -> None:
    """One full layer keeps 1024/32 pages; the sliding one holds the window and a step at most."""
    engine = open_engine(tiny_checkpoint)
    engine.submit(random_ids(1000, VOCAB), GREEDY, 20)
    most = 0
    while not engine.idle:
        engine.step()
        most = max(most, engine.memory()["pages_in_use"])
    full, sliding = math.ceil(1020 / 32), math.ceil((16 + STEP_TOKENS) / 32) + 1
    assert full < most <= full + sliding
    assert engine.memory()["pages_in_use"] == 0


def test_cancel_ends_a_request_and_leaves_the_others(tiny_checkpoint: Path) -> None:
    engine = open_engine(tiny_checkpoint, max_batch=2)
    ids = random_ids(10, VOCAB)
    expected = generate(engine, ids, 20, GREEDY)
    kept, dropped, waiting = (engine.submit(ids, GREEDY, 20) for _ in range(3))
    first = engine.step()
    assert {e.request for e in first} == {kept, dropped}
    for request in (dropped, waiting, 12345):
        engine.cancel(request)
    events = run(engine)
    assert [e.finish for e in events[dropped]] == ["cancelled"]
    assert [e.finish for e in events[waiting]] == ["cancelled"]
    assert [first[0].token, *tokens_of(events[kept])] == expected
    assert engine.memory()["pages_in_use"] == 0


def test_a_failing_logits_processor_ends_only_its_own_request(tiny_checkpoint: Path) -> None:
    def fail(tokens: list[int], logits: np.ndarray) -> None:
        raise RuntimeError("processor failed")

    engine = open_engine(tiny_checkpoint, max_batch=2)
    ids = random_ids(10, VOCAB)
    expected = generate(engine, ids, 5, GREEDY)
    bad = engine.submit(ids, _core.Sampling(logits_processor=fail), 5)
    good = engine.submit(ids, GREEDY, 5)
    events = run(engine)
    assert events[bad][-1].finish == "error"
    assert "processor failed" in events[bad][-1].error
    assert tokens_of(events[good]) == expected


def test_threads_may_share_an_engine(tiny_checkpoint: Path) -> None:
    engine = open_engine(tiny_checkpoint, max_batch=4, threads=2)
    ids = random_ids(30, VOCAB)
    expected = engine.logits(ids)
    results: list[np.ndarray] = []
    threads = [
        threading.Thread(target=lambda: results.append(engine.logits(ids))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 6
    assert all(np.array_equal(expected, r) for r in results)


@pytest.mark.parametrize(
    ("ids", "sampling", "n", "error"),
    [
        ([], {}, 1, InvalidRequestError),
        ([VOCAB], {}, 1, InvalidRequestError),
        ([-1], {}, 1, InvalidRequestError),
        ([1], {}, -1, InvalidRequestError),
        ([1], {"stop_ids": [VOCAB]}, 1, InvalidRequestError),
        ([1] * 1024, {}, 1, ContextLengthError),
        ([1] * 1025, {}, 0, ContextLengthError),
    ],
)
def test_bad_requests(
    tiny_checkpoint: Path, ids: list[int], sampling: dict[str, object], n: int, error: type
) -> None:
    engine = open_engine(tiny_checkpoint)
    with pytest.raises(error):
        engine.submit(np.array(ids, dtype=np.int32), _core.Sampling(**sampling), n)
    assert engine.step() == []


def test_an_engine_that_does_not_fit_says_what_would(tiny_checkpoint: Path) -> None:
    with pytest.raises(OutOfMemoryError, match="max_context=") as caught:
        open_engine(tiny_checkpoint, max_context=100_000, kv_cache_bytes=1 << 20)
    fits = int(str(caught.value).rsplit("max_context=", 1)[1].split()[0])
    assert fits >= 32
    engine = open_engine(tiny_checkpoint, max_context=fits, kv_cache_bytes=1 << 20)
    assert engine.memory()["kv_cache_bytes"] <= 1 << 20
    with pytest.raises(OutOfMemoryError):
        open_engine(tiny_checkpoint, max_context=fits + 32, kv_cache_bytes=1 << 20)


@cpu_only
def test_unknown_instruction_set(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTET_ISA", "sse9")
    with pytest.raises(InvalidRequestError, match="portable"):
        open_engine(tiny_checkpoint)


def test_a_forked_child_is_told_that_the_engine_stayed_behind(tiny_checkpoint: Path) -> None:
    engine = open_engine(tiny_checkpoint, threads=2)
    child = os.fork()
    if child == 0:  # no exception may leave this branch: it would run the rest of the tests twice
        try:
            engine.logits([1, 2])
        except ModelClosedError as error:
            os._exit(7 if "fork" in str(error) else 8)
        except BaseException:
            os._exit(9)
        os._exit(10)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert engine.logits([1, 2]).shape == (2, VOCAB)


@cpu_only  # a GPU would be done before
def test_ctrl_c_stops_a_long_step_and_the_engine_lives_on(
    make_checkpoint: MakeCheckpoint,
) -> None:
    spec = CheckpointSpec(num_layers=24, hidden_size=512, intermediate_size=512, num_experts=16)
    engine = open_engine(make_checkpoint(spec), max_context=8192)
    request = engine.submit(random_ids(8000, VOCAB), GREEDY, 1)
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(engine)
    assert time.monotonic() - start < 20
    engine.cancel(request)
    assert [e.finish for e in engine.step()] == ["cancelled"]
    assert engine.logits([1, 2, 3]).shape == (3, VOCAB)
