from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from motet import LLM, Delta, ModelClosedError, MotetError, SamplingParams, Stream

from .conftest import assert_idle, pages_in_use, reply

LONG = SamplingParams(temperature=0.0, max_tokens=400, ignore_eos=True)
SHORT = SamplingParams(temperature=0.0, max_tokens=12, ignore_eos=True)


def test_stream_equals_generate(llm: LLM) -> None:
    params = SamplingParams(seed=5, max_tokens=40, ignore_eos=True, logprobs=1)
    whole = llm.generate("abc", params)
    deltas = list(llm.stream("abc", params))
    assert "".join(delta.text for delta in deltas) == whole.text
    assert [i for delta in deltas for i in delta.token_ids] == whole.token_ids
    assert [p for delta in deltas for p in delta.logprobs or ()] == whole.logprobs
    assert [delta.kind for delta in deltas[:-1]] == ["text"] * (len(deltas) - 1)
    last = deltas[-1]
    assert last.kind == "end"
    assert last.result is not None
    assert (last.result.text, last.result.token_ids) == (whole.text, whole.token_ids)


def test_text_stream_and_result(llm: LLM) -> None:
    stream = llm.stream("abc", SHORT)
    assert "".join(stream.text_stream) == stream.result().text == llm.generate("abc", SHORT).text
    assert list(stream) == []


def test_held_back_text_never_shows_a_stop_string(llm: LLM) -> None:
    said = reply(llm, "one ENx two END three")
    deltas = list(llm.stream("a", logits_processor=said, stop="END"))
    texts = [delta.text for delta in deltas if delta.kind == "text"]
    assert "".join(texts) == "one ENx two "
    assert all("END" not in text for text in texts)
    assert "ENx" in texts
    assert deltas[-1].result is not None
    assert deltas[-1].result.stop_reason == "END"


def test_cancel_gives_what_has_come(llm: LLM) -> None:
    stream = llm.stream("abc", LONG)
    first = next(stream)
    stream.cancel()
    last = next(stream)
    assert (first.kind, last.kind) == ("text", "end")
    assert last.result is not None
    assert last.result.finish_reason == "cancelled"
    assert last.result.text.startswith(first.text)
    assert 1 <= last.result.usage.completion_tokens < 400
    assert list(stream) == []


def test_cancel_from_another_thread(llm: LLM) -> None:
    stream = llm.stream("abc", LONG)
    seen: list[Delta] = []
    reader = threading.Thread(target=lambda: seen.extend(stream))
    reader.start()
    while not seen:
        time.sleep(0.001)
    stream.cancel()
    reader.join(timeout=10)
    assert seen[-1].result is not None
    assert seen[-1].result.finish_reason == "cancelled"


@pytest.mark.parametrize("where", ["another thread", "a callback"])
def test_close_wakes_a_reader(llm: LLM, where: str) -> None:
    """Even if the reader waits for a token: nothing would ever come."""
    seen: list[Delta] = []

    def work(token_ids: object, logits: object) -> None:
        if where == "a callback" and len(seen) > 1:
            stream.close()
        time.sleep(0.01)

    stream = llm.stream("abc", LONG, logits_processor=work)
    reader = threading.Thread(target=lambda: seen.extend(stream), daemon=True)
    reader.start()
    while len(seen) < 2:
        time.sleep(0.001)
    if where == "another thread":
        stream.close()
    reader.join(timeout=10)
    assert not reader.is_alive()
    assert {delta.kind for delta in seen} == {"text"}
    assert stream.result().finish_reason == "cancelled"
    assert_idle(llm)


def test_a_second_reader_at_a_time_is_refused(llm: LLM) -> None:
    stream = llm.stream("abc", LONG, logits_processor=lambda ids, logits: time.sleep(0.1))
    reader = threading.Thread(target=next, args=(stream,), daemon=True)
    reader.start()
    time.sleep(0.02)
    with pytest.raises(MotetError, match="one reader at a time"):
        next(stream)
    reader.join(timeout=10)
    assert next(stream).kind == "text"  # nobody reads now
    stream.close()


@pytest.mark.parametrize("how", ["with", "close", "drop"])
def test_leaving_a_stream_frees_its_cache(llm: LLM, how: str) -> None:
    stream = llm.stream("abc", LONG)
    next(stream)
    assert pages_in_use(llm) > 0
    if how == "with":
        with stream:
            pass
        assert list(stream) == []
    elif how == "close":
        stream.close()
        stream.close()
        assert stream.result().finish_reason == "cancelled"
    del stream
    gc.collect()
    assert_idle(llm)


def test_a_stream_never_read_is_dropped_too(llm: LLM) -> None:
    llm.stream("abc", LONG)
    assert_idle(llm)


def test_two_streams_in_one_thread(llm: LLM) -> None:
    alone = [llm.generate(prompt, SHORT).token_ids for prompt in ("abc", "xyz")]
    streams = [llm.stream(prompt, SHORT) for prompt in ("abc", "xyz")]
    turns = [next(stream) for _ in range(3) for stream in streams]
    assert all(delta.kind == "text" for delta in turns)
    assert [stream.result().token_ids for stream in streams] == alone


def test_threads_share_the_model(llm: LLM) -> None:
    prompts = [f"prompt {i}" for i in range(6)]
    alone = [llm.generate(prompt, SHORT).token_ids for prompt in prompts]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda prompt: llm.generate(prompt, SHORT).token_ids, prompts * 3))
    assert together == alone * 3


def test_close(tiny_checkpoint: Path) -> None:
    llm = LLM(tiny_checkpoint, max_context=1024, threads=1)
    stream = llm.stream("abc", ignore_eos=True)
    first = next(stream)
    llm.close()
    llm.close()
    *_, last = stream
    assert last.kind == "end"
    assert last.result is not None
    assert last.result.finish_reason == "cancelled"
    assert last.result.text.startswith(first.text)
    for call in (
        lambda: llm.generate("a"),
        lambda: llm.stream("a"),
        lambda: llm.chat("a"),
        lambda: llm.logits([1]),
        lambda: llm.score("a", "b"),
        lambda: llm.metrics(),
        lambda: llm.session().send("a"),
    ):
        with pytest.raises(ModelClosedError):
            call()


def test_interrupt_stops_the_call_and_leaves_the_model_usable(tiny_checkpoint: Path) -> None:
    program = f"""
import os, signal, threading
from motet import LLM
llm = LLM({str(tiny_checkpoint)!r}, threads=1, max_context=100_000)
want = llm.generate("abc", temperature=0.0, max_tokens=5, ignore_eos=True).token_ids
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    llm.generate("abc", ignore_eos=True)
except KeyboardInterrupt:
    print("interrupted")
again = llm.generate("abc", temperature=0.0, max_tokens=5, ignore_eos=True).token_ids
print(again == want)
"""
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True
    )
    assert out.stdout.split() == ["interrupted", "True"]


def test_interrupt_of_a_submission_leaves_nothing_behind(
    llm: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may come when the engine has the request and before the caller has its id."""
    runner = llm._requests.loaded.runner
    submit = runner.submit

    def interrupted(*args: Any) -> int:
        submit(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "submit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        llm.stream("abc", LONG, n=3)
    assert_idle(llm)


def test_stream_is_an_iterator(llm: LLM) -> None:
    with llm.stream("abc", SHORT) as stream:
        assert isinstance(stream, Stream)
        assert iter(stream) is stream
