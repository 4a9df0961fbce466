"""Requests beside one another: shared prefixes, samples, pauses, drafts, slow readers, limits."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from motet import _core
from motet.errors import InvalidRequestError
from tests.conftest import MakeCheckpoint
from tests.engine.conftest import (
    STEP_TOKENS,
    cpu_only,
    open_engine,
    random_ids,
    run,
    tokens_of,
)
from tests.reference.checkpoint_writer import CheckpointSpec

VOCAB = 320
PAGE = 32
WINDOW = 128  # as gpt-oss has it: four pages
GREEDY = _core.Sampling(temperature=0)


@pytest.fixture(scope="module")
def checkpoint(make_checkpoint: MakeCheckpoint) -> Path:
    return make_checkpoint(CheckpointSpec(sliding_window=WINDOW))


def ask(
    engine: _core.Engine,
    ids: Any,
    n_new: int = 8,
    sampling: _core.Sampling = GREEDY,
    **options: Any,
) -> list[_core.Event]:
    """The events of one request, computed to its end."""
    return run_one(engine, engine.submit(np.array(ids, np.int32), sampling, n_new, **options))


def run_one(engine: _core.Engine, request: int) -> list[_core.Event]:
    events = []
    while not events or events[-1].finish is None:
        events += [event for event in engine.step() if event.request == request]
    return events


@pytest.mark.parametrize("cut", [1, 31, 32, 33, 127, 128, 129, 160, 500, 767, 768, 900])
def test_a_fork_at_any_token_answers_as_a_cold_run(checkpoint: Path, cut: int) -> None:
    first = random_ids(900, VOCAB)
    fork = np.concatenate([first[:cut], random_ids(20, VOCAB, seed=cut)])
    cold = ask(open_engine(checkpoint, prefix_cache=False), fork)
    engine = open_engine(checkpoint, max_batch=4)
    ask(engine, first)
    warm = ask(engine, fork)
    assert tokens_of(warm) == tokens_of(cold)
    assert cold[0].cached_tokens == 0
    assert warm[0].cached_tokens == cut // PAGE * PAGE  # nothing had to make room yet
    engine.audit()


def test_what_a_fork_computes_again_is_bounded_when_pages_are_short(checkpoint: Path) -> None:
    """Of sliding layers' pages every fourth window is kept longer than the others."""
    first = random_ids(3000, VOCAB)
    page_bytes = 2 * PAGE * 2 * 32 * 2
    pages = 128 + 32 + STEP_TOKENS // PAGE
    engine = open_engine(
        checkpoint, max_context=4096, kv_cache_bytes=page_bytes * pages, max_batch=1
    )
    ask(engine, first)
    for cut in (2900, 2500, 1800, 1100, 1000, 600):
        fork = np.concatenate([first[:cut], random_ids(5, VOCAB, seed=cut)])
        (event,) = ask(engine, fork, 1)
        assert cut - event.cached_tokens < 4 * WINDOW + PAGE
        cold = ask(open_engine(checkpoint, prefix_cache=False, max_context=4096), fork, 1)
        assert event.token == cold[0].token


def test_prefixes_are_shared_only_under_the_same_salt(checkpoint: Path) -> None:
    engine = open_engine(checkpoint)
    ids = random_ids(100, VOCAB)
    assert ask(engine, ids, cache_salt=1)[0].cached_tokens == 0
    assert ask(engine, ids, cache_salt=2)[0].cached_tokens == 0
    assert ask(engine, ids)[0].cached_tokens == 0
    assert ask(engine, ids, cache_salt=1)[0].cached_tokens == 96
    uncached = open_engine(checkpoint, prefix_cache=False)
    assert [ask(uncached, ids)[0].cached_tokens for _ in range(2)] == [0, 0]


def test_prompt_logprobs_are_whole_after_a_prefix_hit(checkpoint: Path) -> None:
    engine = open_engine(checkpoint)
    ids = random_ids(100, VOCAB)
    sampling = _core.Sampling(temperature=0, prompt_logprobs=0)
    first = ask(engine, ids, sampling=sampling)
    again = ask(engine, ids, sampling=sampling)
    assert [e.logprob for e in again if e.is_prompt] == [e.logprob for e in first if e.is_prompt]
    assert sum(e.is_prompt for e in again) == 99


def test_samples_share_their_prompt_and_draw_by_themselves(checkpoint: Path) -> None:
    engine = open_engine(checkpoint, max_batch=4, prefix_cache=False)
    ids = random_ids(200, VOCAB)
    sampling = _core.Sampling(temperature=1.0, seed=7)
    alone = tokens_of(ask(engine, ids, 20, sampling))
    first = engine.submit(ids, sampling, 20, n=4)
    before = engine.metrics()["computed_tokens"]
    events: dict[int, list[_core.Event]] = {}
    most_pages = 0
    while not engine.idle:
        for event in engine.step():
            events.setdefault(event.request, []).append(event)
        engine.audit()
        most_pages = max(most_pages, engine.metrics()["full_pages_used"])
    answers = [tokens_of(events[first + i]) for i in range(4)]
    assert answers[0] == alone
    assert len({tuple(answer) for answer in answers}) == 4
    assert engine.metrics()["computed_tokens"] - before == 200 + 4 * 19
    assert most_pages == 6 + 4 * 1  # 220 tokens: six whole pages are shared, the last is not


@pytest.mark.parametrize("sampling", [GREEDY, _core.Sampling(temperature=1.0, seed=3)])
@pytest.mark.parametrize("kv_cache_dtype", ["auto", "int8"])
def test_sixteen_together_answer_as_one_by_one(
    checkpoint: Path, sampling: _core.Sampling, kv_cache_dtype: str
) -> None:
    prompts = [random_ids(n, VOCAB, seed=n) for n in (1, 2, 31, 32, 33, 60, 100, 127, 128, 129)]
    prompts += [random_ids(n, VOCAB, seed=n) for n in (150, 256, 257, 300, 500, 700)]
    alone = open_engine(checkpoint, prefix_cache=False, kv_cache_dtype=kv_cache_dtype)
    expected = [tokens_of(ask(alone, ids, 40, sampling)) for ids in prompts]
    engine = open_engine(
        checkpoint, max_batch=16, speculation=True, kv_cache_dtype=kv_cache_dtype, threads=2
    )
    for _ in range(2):  # the second time after prefix hits
        requests = [engine.submit(ids, sampling, 40) for ids in prompts]
        events = run(engine)
        assert [tokens_of(events[r]) for r in requests] == expected


def test_samples_of_an_int8_cache_copy_its_pages(checkpoint: Path) -> None:
    options: dict[str, Any] = {"kv_cache_dtype": "int8", "prefix_cache": False}
    ids, sampling = random_ids(50, VOCAB), _core.Sampling(temperature=1.0, seed=7)
    alone = tokens_of(ask(open_engine(checkpoint, **options), ids, 20, sampling))
    engine = open_engine(checkpoint, max_batch=4, **options)
    first = engine.submit(ids, sampling, 20, n=4)
    assert tokens_of(run(engine)[first]) == alone


def test_more_samples_than_places(checkpoint: Path) -> None:
    engine = open_engine(checkpoint, max_batch=2)
    sampling = _core.Sampling(temperature=1.0, seed=7)
    ids = random_ids(50, VOCAB)
    wide = open_engine(checkpoint, max_batch=8)
    first, wide_first = (e.submit(ids, sampling, 10, n=6) for e in (engine, wide))
    events, wide_events = run(engine), run(wide)
    for i in range(6):
        assert tokens_of(events[first + i]) == tokens_of(wide_events[wide_first + i])


def test_cancelling_one_sample_leaves_the_others(checkpoint: Path) -> None:
    ids = random_ids(400, VOCAB)  # two steps of prompt
    sampling = _core.Sampling(temperature=1.0, seed=7)
    expected = run(engine := open_engine(checkpoint, max_batch=4))
    first = engine.submit(ids, sampling, 5, n=3)
    expected = run(engine)
    for steps in (0, 1, 3):
        for cancelled in range(3):
            engine = open_engine(checkpoint, max_batch=4)
            again = engine.submit(ids, sampling, 5, n=3)
            events: dict[int, list[_core.Event]] = {again + i: [] for i in range(3)}
            for _ in range(steps):
                for event in engine.step():
                    events[event.request].append(event)
            engine.cancel(again + cancelled)
            for request, more in run(engine).items():
                events[request] += more
            for i in range(3):
                want = tokens_of(expected[first + i])
                got = tokens_of(events[again + i])
                if i == cancelled:
                    assert events[again + i][-1].finish == "cancelled"
                    assert got == want[: len(got)]
                else:
                    assert got == want


def test_requests_that_run_out_of_pages_are_paused_not_failed(checkpoint: Path) -> None:
    page_bytes = 2 * PAGE * 2 * 32 * 2
    full, sliding = 18, min(6 * 6 + STEP_TOKENS // PAGE, 6 * 512 // PAGE)
    engine = open_engine(
        checkpoint,
        max_context=512,
        max_batch=6,
        kv_cache_bytes=page_bytes * (full + sliding),
        prefix_cache=False,
    )
    prompts = [random_ids(60 + i, VOCAB, seed=i) for i in range(10)]
    reference = open_engine(checkpoint, prefix_cache=False)
    expected = [tokens_of(ask(reference, ids, 150)) for ids in prompts]
    requests = [engine.submit(ids, GREEDY, 150) for ids in prompts]
    events = run(engine)
    assert [tokens_of(events[r]) for r in requests] == expected
    assert engine.metrics()["pauses"] > 0
    ends = [next(e.time for e in events[r] if e.finish) for r in requests]
    assert ends == sorted(ends)  # who came first is never paused for who came later


def test_a_short_request_does_not_wait_for_a_long_prompt(checkpoint: Path) -> None:
    engine = open_engine(checkpoint, max_context=8192, max_batch=4)
    long = engine.submit(random_ids(6000, VOCAB), GREEDY, 4)
    engine.step()
    short = engine.submit(random_ids(100, VOCAB), GREEDY, 4)
    assert {event.request for event in engine.step()} == {short}
    events = run(engine)
    assert tokens_of(events[long])
    # Four short ones one after the other: the long one goes on meanwhile.
    long = engine.submit(random_ids(6000, VOCAB, seed=1), GREEDY, 1)
    steps = 0
    while True:
        if steps % 2 == 0:
            engine.submit(random_ids(250, VOCAB, seed=steps + 2), GREEDY, 1)
        steps += 1
        if any(event.request == long for event in engine.step()):
            break
    assert steps <= 2 * 6000 / 256 + 2


def test_a_reader_that_is_behind_stops_its_request_and_gives_up_its_place(checkpoint: Path) -> None:
    engine = open_engine(checkpoint, max_batch=1)
    ids = random_ids(40, VOCAB)
    expected = tokens_of(ask(engine, ids, 30))
    slow = engine.submit(ids, GREEDY, 30, window=5)
    events = []
    for _ in range(20):
        events += engine.step()
    assert tokens_of(events) == expected[:5]
    other = engine.submit(random_ids(40, VOCAB, seed=1), GREEDY, 10)
    assert len(tokens_of(run_one(engine, other))) == 10
    while events[-1].finish is None:
        engine.grant(slow, 5)
        events += engine.step()
        events += engine.step()
        engine.audit()
    assert tokens_of(events) == expected


def test_time_limits(checkpoint: Path) -> None:
    engine = open_engine(checkpoint, max_batch=2)
    running = engine.submit(random_ids(40, VOCAB), GREEDY, 800, timeout=0.2)
    first = engine.step()
    waiting = engine.submit(
        random_ids(40, VOCAB), _core.Sampling(temperature=1), 800, timeout=0.05, n=3
    )
    kept = engine.submit(random_ids(40, VOCAB), GREEDY, 5)
    time.sleep(0.25)
    events = run(engine)
    assert len(tokens_of(first)) == 1
    assert [e.finish for e in events[running]] == ["timeout"]
    assert [events[waiting + i][-1].finish for i in range(3)] == ["timeout"] * 3
    assert len(tokens_of(events[kept])) == 5
    assert engine.metrics()["requests_finished"]["timeout"] == 4


@pytest.mark.parametrize("sampling", [GREEDY, _core.Sampling(temperature=1.0, seed=3)])
def test_drafts_change_steps_and_not_tokens(checkpoint: Path, sampling: _core.Sampling) -> None:
    ids = random_ids(100, VOCAB)
    plain = open_engine(checkpoint)
    expected = tokens_of(ask(plain, ids, 200, sampling))
    rng = np.random.default_rng(0)
    wrong = rng.random(200) < 0.2
    prediction = np.where(wrong, (np.array(expected) + 1) % VOCAB, expected).astype(np.int32)
    engine = open_engine(checkpoint, speculation=True)
    assert tokens_of(ask(engine, ids, 200, sampling, prediction=prediction)) == expected
    metrics = engine.metrics()
    assert 0 < metrics["accepted_draft_tokens"] <= metrics["draft_tokens"]
    assert metrics["steps"] == 200 - metrics["accepted_draft_tokens"]
    engine.audit()


def test_a_target_between_tokens_makes_prompts_wait(checkpoint: Path) -> None:
    engine = open_engine(checkpoint, max_context=4096, max_batch=2, target_itl=1e-6)
    stream = engine.submit(random_ids(10, VOCAB), GREEDY, 1000)
    for _ in range(10):
        engine.step()
    prompt = engine.submit(random_ids(300, VOCAB), GREEDY, 1)
    steps, tokens = 0, 0
    while True:
        events = engine.step()
        steps += 1
        tokens += sum(event.request == stream for event in events)
        if any(event.request == prompt for event in events):
            break
    assert steps > 100  # a token or few a step, not 256
    assert tokens == steps


def test_the_engine_thread_computes_and_ends(checkpoint: Path) -> None:
    engine = open_engine(checkpoint, max_batch=4)
    ids = [random_ids(50, VOCAB, seed=i) for i in range(6)]
    expected = [tokens_of(ask(engine, one, 20)) for one in ids]
    engine.start()
    with pytest.raises(RuntimeError):
        engine.step()
    got: dict[int, list[_core.Event]] = {}

    def read() -> None:
        while events := engine.wait_events():
            for event in events:
                got.setdefault(event.request, []).append(event)

    reader = threading.Thread(target=read)
    reader.start()
    requests = [engine.submit(one, GREEDY, 20) for one in ids]
    logits_request, logits = engine.submit_logits(ids[0])
    endless = engine.submit(ids[0], GREEDY, 100, window=3)
    ends = [*requests, logits_request]
    deadline = time.monotonic() + 60
    while not all(r in got and got[r][-1].finish for r in ends) or endless not in got:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    used = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - used < 0.1  # nothing to do: nothing is done
    engine.stop()
    engine.stop()
    reader.join(10)
    assert not reader.is_alive()
    assert [tokens_of(got[r]) for r in requests] == expected
    assert got[endless][-1].finish == "cancelled"
    cold = open_engine(checkpoint).logits(ids[0])
    assert np.array_equal(logits, cold)
    assert engine.wait_events() == []


@cpu_only  # a GPU would be done before
def test_a_step_is_given_up_when_all_its_requests_are_cancelled(checkpoint: Path) -> None:
    engine = open_engine(checkpoint, max_context=8192, max_batch=2)
    ids = random_ids(20, VOCAB)
    expected = tokens_of(ask(engine, ids, 5))
    before = engine.metrics()["computed_tokens"]
    long = engine.submit(random_ids(8000, VOCAB), GREEDY, 1)
    threading.Timer(0.02, engine.cancel, (long,)).start()
    assert [event.finish for event in run_one(engine, long)] == ["cancelled"]
    assert engine.metrics()["computed_tokens"] - before < 8000
    assert tokens_of(ask(engine, ids, 5)) == expected
    engine.audit()


@cpu_only
def test_a_step_is_given_up_when_time_is_up(make_checkpoint: MakeCheckpoint) -> None:
    """A large model's takes seconds, longer than its requests may have."""
    deep = make_checkpoint(CheckpointSpec(sliding_window=WINDOW, num_layers=64))
    engine = open_engine(deep, max_batch=2)
    ids = random_ids(STEP_TOKENS, VOCAB)
    late = engine.submit(ids, GREEDY, 1, timeout=0.005, n=2)
    events = run(engine)
    assert [events[late + i][-1].finish for i in range(2)] == ["timeout"] * 2
    assert engine.metrics()["computed_tokens"] == 0
    late = engine.submit(ids[:200], GREEDY, 1, timeout=0.005)
    in_time = engine.submit(ids[:20], GREEDY, 1, timeout=60)
    events = run(engine)
    assert len(tokens_of(events[in_time])) == 1
    assert events[late][-1].finish is not None
    engine.audit()


def test_times_of_events(checkpoint: Path) -> None:
    engine = open_engine(checkpoint)
    before = time.monotonic()
    events = ask(engine, random_ids(300, VOCAB), 5)
    after = time.monotonic()
    times = [before, events[0].submitted, events[0].started, *(e.time for e in events), after]
    assert times == sorted(times)
    metrics = engine.metrics()
    assert metrics["first_token_seconds"]["count"] == 1
    assert metrics["inter_token_seconds"]["count"] == 4
    assert metrics["inter_token_seconds"]["buckets"][-1] == (float("inf"), 4)
    assert (metrics["prompt_tokens"], metrics["generated_tokens"]) == (300, 5)


@pytest.mark.parametrize(
    ("options", "param"),
    [({"n": 0}, "n"), ({"window": -1}, "window"), ({"prediction": [VOCAB]}, "prediction")],
)
def test_bad_options(checkpoint: Path, options: dict[str, Any], param: str) -> None:
    engine = open_engine(checkpoint)
    with pytest.raises(InvalidRequestError) as caught:
        engine.submit([1, 2], GREEDY, 4, **options)
    assert caught.value.param == param
    assert engine.idle
