"""Long runs of the bundled model under load: `pytest -m stress tests/stress`.

MOTET_STRESS_SECONDS and MOTET_CANCELLATIONS set their length. With ThreadSanitizer:
`MOTET_SANITIZE=thread .ci/sanitize -m stress tests/stress -k together`.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from motet import LLM, Completion

pytestmark = pytest.mark.stress

SECONDS = float(os.environ.get("MOTET_STRESS_SECONDS", "600"))
CANCELLATIONS = int(os.environ.get("MOTET_CANCELLATIONS", "100000"))
CHATS, THREADS = 64, 32
QUESTIONS = [f"What is {a} + {b}?" for a in (12, 345, 4821) for b in (7, 89, 383, 1024)]


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def text_of(result: Completion) -> tuple[str, list[int]]:
    return result.text, result.token_ids


def params_of(seed: int) -> dict[str, Any]:
    greedy: dict[str, Any] = {"temperature": 0.0, "max_tokens": 40}
    return greedy if seed % 2 else {"temperature": 1.0, "seed": seed % 5, "max_tokens": 40}


def test_asyncio_and_threads_together_answer_as_one_by_one() -> None:
    cases = [(question, seed) for question in QUESTIONS for seed in range(4)]
    with LLM(prefix_cache=False, threads=1, max_batch=1) as llm:
        expected = {
            (q, seed): text_of(
                llm.chat(q, reasoning_effort="low", date="2026-01-01", **params_of(seed))
            )
            for q, seed in cases
        }
    llm = LLM(max_batch=16, threads=2, speculation=True, kv_cache_bytes=32 << 20)
    end = time.monotonic() + SECONDS
    done = [0]
    wrong: list[tuple[str, int]] = []

    def check(case: tuple[str, int], result: Completion) -> None:
        done[0] += 1
        if text_of(result) != expected[case]:
            wrong.append(case)

    async def chat(number: int) -> None:
        rng = random.Random(number)
        while time.monotonic() < end and not wrong:
            q, seed = case = rng.choice(cases)
            call = llm.achat(q, reasoning_effort="low", date="2026-01-01", **params_of(seed))
            if rng.random() < 0.1:  # somebody leaves
                try:
                    await asyncio.wait_for(call, rng.random() * 0.02)
                except TimeoutError:
                    continue
            else:
                check(case, await call)

    async def chats() -> None:
        await asyncio.gather(*(chat(number) for number in range(CHATS)))

    def thread(number: int) -> None:
        rng = random.Random(-number)
        while time.monotonic() < end and not wrong:
            q, seed = case = rng.choice(cases)
            with llm.chat_stream(
                q, reasoning_effort="low", date="2026-01-01", **params_of(seed)
            ) as stream:
                if rng.random() < 0.1:
                    next(stream)
                else:
                    check(case, stream.result())

    threads = [threading.Thread(target=thread, args=(number,)) for number in range(THREADS)]
    for one in threads:
        one.start()
    asyncio.run(chats())
    for one in threads:
        one.join()
    assert wrong == []
    assert done[0] > CHATS + THREADS
    engine = llm._requests.loaded.runner.engine
    wait_until_idle(llm)
    engine.audit()
    print(f"{done[0]} answers, {llm.metrics()['pauses']} pauses")
    llm.close()


def test_cancellations_at_random_moments_lose_no_page() -> None:
    rng = random.Random(0)
    llm = LLM(max_batch=8, threads=1, kv_cache_bytes=16 << 20)
    streams = []
    after_warm_up = 0
    for number in range(CANCELLATIONS):
        stream = llm.chat_stream(rng.choice(QUESTIONS), max_tokens=200, ignore_eos=True)
        streams.append(stream)
        if rng.random() < 0.3:
            next(stream)
        if len(streams) > 6:
            victim = streams.pop(rng.randrange(len(streams)))
            rng.choice([victim.cancel, victim.close, lambda: None])()
            del victim
        if number == CANCELLATIONS // 10:
            after_warm_up = resident_bytes()
    for stream in streams:
        stream.cancel()
        assert stream.result().finish_reason == "cancelled"
    wait_until_idle(llm)
    llm._requests.loaded.runner.engine.audit()
    grown = resident_bytes() - after_warm_up
    print(f"grew {grown / 1e6:.1f} MB over {CANCELLATIONS * 9 // 10} cancellations")
    assert grown < 16 << 20
    llm.close()


def test_memory_stays_within_the_plan() -> None:
    """A thousand requests of random lengths fill the cache; their prompts are the caller's."""
    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, 250, int(n)).tolist() for n in rng.integers(1, 3000, 1000)]
    with LLM() as llm:  # what Python and its packages take once
        llm.generate("a", max_tokens=1)
    before = resident_bytes()
    llm = LLM(max_batch=16, threads=1, kv_cache_bytes=512 << 20, max_context=65536)
    planned = llm.info.memory
    results = llm.generate(prompts, max_tokens=20, ignore_eos=True)
    assert all(len(result.token_ids) == 20 for result in results)
    grown = resident_bytes() - before
    print(f"planned {planned}, grew {grown / 1e6:.1f} MB")
    assert 0.95 * sum(planned.values()) <= grown <= 1.05 * sum(planned.values())
    wait_until_idle(llm)
    llm._requests.loaded.runner.engine.audit()
    llm.close()


def wait_until_idle(llm: LLM) -> None:
    deadline = time.monotonic() + 60
    while llm.metrics()["full_pages_used"] or not llm._requests.loaded.runner.engine.idle:
        assert time.monotonic() < deadline
        time.sleep(0.01)
