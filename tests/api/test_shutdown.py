"""The end of a model: close, the interpreter's exit, fork. Each in a process of its own, or with a
model of its own."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import pytest

from motet import LLM, Delta, ModelClosedError, SamplingParams

LONG = SamplingParams(temperature=0.0, max_tokens=1500, ignore_eos=True)


@pytest.fixture
def own(tiny_checkpoint: Path) -> LLM:
    return LLM(tiny_checkpoint, max_context=2048, threads=1)


def run(program: str, checkpoint: Path) -> list[str]:
    """The words that a program prints; it must end by itself and well."""
    head = f"import os, sys, threading, time\nfrom motet import *\nPATH = {str(checkpoint)!r}\n"
    out = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "ignore::DeprecationWarning", "-c", head + program],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (out.returncode, out.stderr) == (0, "")
    return out.stdout.split()


def test_close_while_threads_wait(own: LLM) -> None:
    results: list[str] = []

    def call() -> None:
        results.append(own.generate("abc", LONG).finish_reason)

    def read() -> None:
        *_, last = own.stream("abc", LONG)
        assert last.result is not None
        results.append(last.result.finish_reason)

    threads = [threading.Thread(target=target) for target in (call, read) * 4]
    for thread in threads:
        thread.start()
    time.sleep(0.02)
    closers = [threading.Thread(target=own.close) for _ in range(3)]
    for thread in closers:
        thread.start()
    for thread in threads + closers:
        thread.join(timeout=30)
    assert results == ["cancelled"] * 8


def test_close_ends_what_waits_in_the_queue(tiny_checkpoint: Path) -> None:
    llm = LLM(tiny_checkpoint, max_context=2048, threads=1, max_batch=1)
    streams = [llm.stream("abc", LONG) for _ in range(3)]
    llm.close()
    assert [stream.result().finish_reason for stream in streams] == ["cancelled"] * 3


def test_close_in_a_callback_is_refused(own: LLM) -> None:
    with pytest.raises(Exception, match="from a callback"):
        own.generate("a", logits_processor=lambda ids, logits: own.close())
    own.close()


def test_a_callback_may_use_another_model(own: LLM, llm: LLM) -> None:
    seen = []
    with own:
        own.generate(
            "a", max_tokens=2, logits_processor=lambda ids, logits: seen.append(llm.logits(ids))
        )
    assert seen[0].shape == (1, 320)


def test_a_dropped_model_leaves_no_thread(tiny_checkpoint: Path) -> None:
    before = threading.active_count()
    llm = LLM(tiny_checkpoint, max_context=64, threads=1)
    llm.generate("a", max_tokens=2)
    dropped = weakref.ref(llm._requests.loaded.runner)
    del llm
    gc.collect()
    assert dropped() is None
    assert threading.active_count() == before


def test_the_rest_of_a_stream_may_be_read_after_close(own: LLM) -> None:
    stream = own.stream("abc", LONG, max_tokens=20)
    time.sleep(0.1)
    own.close()
    deltas: list[Delta] = list(stream)
    assert [i for delta in deltas for i in delta.token_ids] == stream.result().token_ids
    assert stream.result().finish_reason == "length"


@pytest.mark.parametrize(
    "how",
    [
        "pass",
        "threading.Thread(target=list, args=(stream,), daemon=True).start()",
        "threading.Thread(target=stream.result).start(); threading.Timer(0.2, llm.close).start()",
        "import atexit; atexit.register(llm.close)",
        "llm.close()",
        "del llm",
        "loop = asyncio.new_event_loop(); task = loop.create_task(llm.agenerate('a')); "
        "loop.run_until_complete(asyncio.sleep(0)); loop.close(); "
        "task._log_destroy_pending = False",
        "other = LLM(PATH, threads=1, max_context=64); del other; cycle = [llm]; "
        "cycle.append(cycle)",
        "stream.result = stream; llm.me = llm",
        "llm.generate('a', max_tokens=3, logits_processor=lambda ids, logits: None)",
    ],
)
def test_exit_with_live_streams(tiny_checkpoint: Path, how: str) -> None:
    program = f"""
import asyncio
llm = LLM(PATH, threads=2, max_context=100_000)
stream = llm.stream("abc", ignore_eos=True)
endless = [llm.stream("abc", ignore_eos=True) for _ in range(10)]
next(stream)
{how}
print("end")
"""
    assert run(program, tiny_checkpoint) == ["end"]


def test_calls_while_the_interpreter_exits_are_refused(tiny_checkpoint: Path) -> None:
    """Not left to wait for an engine that exit handlers registered later have stopped."""
    program = """
import atexit
def late():
    for call in (lambda: llm.generate("a"), lambda: llm.stream("a"), lambda: llm.logits([1])):
        try:
            call()
        except ModelClosedError:
            print("refused")
    llm.close()
atexit.register(late)
llm = LLM(PATH, threads=1, max_context=100)
"""
    assert run(program, tiny_checkpoint) == ["refused"] * 3


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("call", ["llm.generate('a')", "llm.stream('a')", "llm.logits([1])"])
def test_close_in_a_signal_handler(tiny_checkpoint: Path, call: str, when: str) -> None:
    """Also in the midst of a submission by the same thread."""
    program = f"""
import signal
from motet import _core
llm = LLM(PATH, threads=1, max_context=100)
signal.signal(signal.SIGTERM, lambda *args: llm.close())
def signalled(submit):
    def call(*args, **options):
        if {when == "before"}: signal.raise_signal(signal.SIGTERM)
        result = submit(*args, **options)
        if {when == "after"}: signal.raise_signal(signal.SIGTERM)
        return result
    return call
for name in ("submit", "submit_logits"):
    setattr(_core.Engine, name, signalled(getattr(_core.Engine, name)))
try:
    {call}
except ModelClosedError:
    print("refused")
llm.close()
"""
    assert run(program, tiny_checkpoint) == ["refused"]


def test_close_after_an_interrupted_close(own: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = own._requests.loaded.runner

    def interrupted() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runner, "_finalizer", interrupted)
        with pytest.raises(KeyboardInterrupt):
            own.close()
    again = threading.Thread(target=own.close, daemon=True)
    again.start()
    again.join(timeout=10)
    assert not again.is_alive()
    with pytest.raises(ModelClosedError):
        own.generate("a")


def test_close_during_score(own: LLM) -> None:
    """Says so: half of a score is none."""
    threading.Timer(0.1, own.close).start()
    with pytest.raises(ModelClosedError):
        for _ in iter(lambda: own.score([1] * 1000, [2] * 1000), None):
            pass


def test_interrupt_in_a_stream_ends_this_one_only(tiny_checkpoint: Path) -> None:
    program = """
import signal
llm = LLM(PATH, threads=1, max_context=100_000)
other = llm.stream("abc", ignore_eos=True, max_tokens=300)
stream = llm.stream("abc", ignore_eos=True, logits_processor=lambda ids, logits: time.sleep(0.01))
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    for delta in stream: pass
except KeyboardInterrupt:
    print(stream.result().finish_reason, len(other.result().token_ids))
"""
    assert run(program, tiny_checkpoint) == ["cancelled", "300"]


def test_fork(tiny_checkpoint: Path) -> None:
    program = """
import gc
llm = LLM(PATH, threads=1, max_context=10_000)
want = llm.generate("abc", temperature=0.0, max_tokens=5, ignore_eos=True).token_ids
stream = llm.stream("abc", ignore_eos=True, max_tokens=500)
done = llm.stream("abc", ignore_eos=True, max_tokens=3)
done.result()
next(stream)
sys.stdout.flush()
child = os.fork()
if child == 0:
    for call in (
        lambda: llm.generate("a"), lambda: llm.chat("a"), lambda: llm.logits([1]),
        lambda: list(stream), lambda: llm.metrics(), lambda: llm.session().send("a"),
    ):
        try:
            call()
            print("no error")
        except ModelClosedError as error:
            assert "loaded before fork(); load it in the process that uses it" in str(error)
    assert len(done.result().token_ids) == 3
    llm.close()
    again = LLM(PATH, threads=1, max_context=100)
    print(again.generate("abc", temperature=0.0, max_tokens=5, ignore_eos=True).token_ids == want)
    del stream, llm
    gc.collect()
    sys.exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(len(stream.result().token_ids))
"""
    assert run(program, tiny_checkpoint) == ["True", "7", "500"]


def test_fork_while_threads_work(tiny_checkpoint: Path) -> None:
    """Whatever locks other threads hold at a fork."""
    program = """
llm = LLM(PATH, threads=1, max_context=10_000)
stop = False
def work():
    while not stop:
        llm.generate("abc", max_tokens=3)
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
codes = set()
for _ in range(20):
    child = os.fork()
    if child == 0:
        try:
            llm.generate("a")
        except ModelClosedError:
            os._exit(5)
        os._exit(1)
    codes.add(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
stop = True
for thread in threads: thread.join()
print(*codes)
"""
    assert run(program, tiny_checkpoint) == ["5"]


def test_after_close_everything_says_so(own: LLM) -> None:
    session = own.session()
    own.close()
    with pytest.raises(ModelClosedError, match="was closed"):
        session.send("a")
    with pytest.raises(ModelClosedError, match="was closed"):
        own.stream("a")
