"""What keeps callers of one model from hurting each other: queue, time limits, windows, salts."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from motet import LLM, InvalidRequestError, QueueFullError, SamplingParams
from motet.requests import STREAM_WINDOW

from .conftest import assert_idle

GREEDY = SamplingParams(temperature=0.0, max_tokens=12, ignore_eos=True)
LONG = GREEDY.merged(max_tokens=1500)


@pytest.fixture(scope="module")
def narrow(tiny_checkpoint: Path) -> Iterator[LLM]:
    """A model with one place and room for two to wait."""
    with LLM(tiny_checkpoint, max_context=2048, threads=1, max_batch=1, max_queue=2) as model:
        yield model


def test_a_full_queue_refuses_at_once(narrow: LLM) -> None:
    streams = [narrow.stream("abc", LONG) for _ in range(3)]
    start = time.perf_counter()
    with pytest.raises(QueueFullError, match="max_queue = 2 waiting requests, found 2") as caught:
        narrow.generate("abc", GREEDY)
    assert time.perf_counter() - start < 1
    assert (caught.value.max_queue, caught.value.waiting) == (2, 2)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.waiting) == (str(caught.value), 2)
    streams[0].cancel()
    assert len(narrow.generate("abc", GREEDY, timeout=30).token_ids) >= 0
    for stream in streams:
        stream.close()
    assert_idle(narrow)
    assert len(narrow.generate("abc", GREEDY).token_ids) == 12


def test_prompts_before_the_refused_one_are_given_up(narrow: LLM) -> None:
    with pytest.raises(QueueFullError):
        narrow.generate(["a"] * 5, LONG)
    assert_idle(narrow)


def test_a_refused_request_hurts_no_other(tiny_checkpoint: Path) -> None:
    with LLM(tiny_checkpoint, max_context=256, threads=1, max_batch=1, max_queue=1) as llm:
        streams = [llm.stream("abc", GREEDY, max_tokens=100) for _ in range(2)]  # ids 0 and 1
        with pytest.raises(QueueFullError):
            llm.generate("abc", GREEDY, n=4)
        assert [len(stream.result().token_ids) for stream in streams] == [100, 100]


def test_time_limit(llm: LLM) -> None:
    slow = LONG.merged(logits_processor=lambda ids, logits: time.sleep(0.01))
    start = time.perf_counter()
    result = llm.generate("abc", slow, timeout=0.1)
    assert time.perf_counter() - start < 2
    assert (result.finish_reason, result.stop_reason) == ("cancelled", "timeout")
    assert 0 < len(result.token_ids) < 100
    *_, last = llm.stream("abc", slow, timeout=0.1)
    assert last.result is not None
    assert last.result.stop_reason == "timeout"
    assert llm.generate("abc", GREEDY, timeout=60).finish_reason == "length"
    assert llm.generate("abc", GREEDY, timeout=1e300).finish_reason == "length"


def test_time_runs_in_the_queue_too(narrow: LLM) -> None:
    # Not one that waits for its reader: that gives its place up.
    with narrow.stream("abc", LONG, logits_processor=lambda ids, logits: time.sleep(0.01)):
        result = narrow.generate("abc", GREEDY, timeout=0.05)
    assert (result.token_ids, result.stop_reason) == ([], "timeout")
    assert (result.timings.ttft_s, result.timings.prefill_s) == (0, 0)
    assert result.timings.queue_s >= 0.05


def test_a_prompt_that_is_given_up_has_no_rate(tiny_checkpoint: Path) -> None:
    with LLM(tiny_checkpoint, max_context=100_000, threads=1) as llm:
        timings = llm.generate([1] * 90_000, GREEDY, timeout=0.1).timings
    assert timings.prefill_s > 0
    assert timings.prefill_tps == 0


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("timeout", bad) for bad in (0, -1, "1", True, float("nan"))),
        *(("cache_salt", bad) for bad in (1, b"a")),
        *(("prediction", bad) for bad in (3, [10**6], [1.5])),
    ],
)
def test_bad_options_of_a_request(llm: LLM, option: str, value: Any) -> None:
    with pytest.raises(InvalidRequestError, match=rf"^{option}: expected .+, found .+") as caught:
        llm.generate("a", **{option: value})
    assert caught.value.param == option


def test_a_slow_reader_is_waited_for(llm: LLM) -> None:
    whole = llm.generate("abc", LONG).token_ids
    stream = llm.stream("abc", LONG)
    read = [i for _ in range(3) for i in next(stream).token_ids]
    other = [llm.generate("xyz", GREEDY).token_ids for _ in range(2)]
    deadline = time.perf_counter() + 0.5
    while time.perf_counter() < deadline:
        time.sleep(0.05)
    unread = stream._generation.mailbox.queue.qsize()
    assert 1 <= unread <= STREAM_WINDOW
    assert other[0] == llm.generate("xyz", GREEDY).token_ids  # others are not held up
    read += [i for delta in stream for i in delta.token_ids]
    assert read == whole


def test_calls_that_collect_everything_are_not_held_up(llm: LLM) -> None:
    prompts = [f"prompt {i}" for i in range(4)]
    together = llm.generate(prompts, LONG, max_tokens=3 * STREAM_WINDOW)
    assert {len(one.token_ids) for one in together} == {3 * STREAM_WINDOW}


def test_a_prefix_is_computed_once_for_each_salt(llm: LLM) -> None:
    prompt = "a prompt that is long enough to fill some pages of the cache " * 8

    def cached(salt: str | None) -> int:
        return llm.generate(prompt, GREEDY, cache_salt=salt).usage.cached_tokens

    assert [cached("A"), cached("B"), cached(None)] == [0, 0, 0]
    for salt in ("A", "B", None):
        assert cached(salt) > len(prompt) / 2
    assert cached("C") == 0


def test_answers_do_not_depend_on_the_cache(llm: LLM, tiny_checkpoint: Path) -> None:
    prompt = "a prompt that is long enough to fill some pages of the cache " * 8
    texts = {llm.generate(prompt, GREEDY).text for _ in range(3)}
    with LLM(tiny_checkpoint, max_context=2048, threads=1, prefix_cache=False) as plain:
        results = [plain.generate(prompt, GREEDY) for _ in range(2)]
    assert {result.text for result in results} == texts
    assert {result.usage.cached_tokens for result in results} == {0}


def test_predictions_change_no_answer(llm: LLM, tiny_checkpoint: Path) -> None:
    want = llm.generate("abc", LONG, max_tokens=60)
    with LLM(tiny_checkpoint, max_context=2048, threads=1, speculation=True) as fast:
        for prediction in (None, want.token_ids, want.text, "something else"):
            got = fast.generate("abc", LONG, max_tokens=60, prediction=prediction)
            assert got.token_ids == want.token_ids
        assert fast.metrics()["accepted_draft_tokens"] > 0


def test_a_long_prompt_does_not_stop_a_stream(tiny_checkpoint: Path) -> None:
    with LLM(tiny_checkpoint, max_context=8192, threads=1, target_itl=0.05) as llm:
        stream = llm.stream("abc", LONG)
        next(stream)
        reader = threading.Thread(target=lambda: llm.generate([1] * 6000, GREEDY))
        reader.start()
        stream.result()
        reader.join(timeout=60)
        assert_idle(llm)


def test_idleness_costs_nothing(llm: LLM) -> None:
    llm.generate("abc", GREEDY)
    stream = llm.stream("abc", LONG)  # nobody reads: at its window it sleeps too
    time.sleep(0.5)
    start = time.process_time()
    time.sleep(1)
    assert time.process_time() - start < 0.05
    stream.close()


def test_an_audit_waits_for_a_step_that_calls_back(llm: LLM) -> None:
    """Without the GIL, which the callback needs."""
    engine = llm._requests.loaded.runner.engine
    with llm.stream("abc", LONG, logits_processor=lambda ids, logits: time.sleep(0.001)) as stream:
        for _ in range(20):
            next(stream)
            engine.audit()


def test_timings_tell_waiting_from_computing(narrow: LLM) -> None:
    ahead = narrow.stream("abc", LONG, max_tokens=100)
    behind = narrow.stream("abc", GREEDY)
    ahead.result()
    timings = behind.result().timings
    assert timings.queue_s > 0
    assert timings.ttft_s == pytest.approx(timings.queue_s + timings.prefill_s)
    assert timings.decode_s > 0
