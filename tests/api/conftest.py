"""A tiny random model, and replies put into its mouth by a logits processor."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from motet import LLM

CONTEXT = 2048
Processor = Callable[[Sequence[int], npt.NDArray[np.float32]], None]


@pytest.fixture(scope="session")
def llm(tiny_checkpoint: Path) -> Iterator[LLM]:
    with LLM(tiny_checkpoint, max_context=CONTEXT, threads=1, seed=0) as model:
        yield model


def reply(llm: LLM, text: str) -> Processor:
    """A logits processor that makes the model say `text`, special tokens parsed."""
    return reply_ids(llm.tokenizer.encode_special(text))


def reply_ids(ids: Sequence[int]) -> Processor:
    """A logits processor that makes the model say these tokens, the last one over and over."""
    n_prompt: list[int] = []

    def force(token_ids: Sequence[int], logits: npt.NDArray[np.float32]) -> None:
        if not n_prompt:
            n_prompt.append(len(token_ids))
        at = min(len(token_ids) - n_prompt[0], len(ids) - 1)
        logits[:] = -np.inf
        logits[ids[at]] = 0

    return force


def assert_idle(llm: LLM, seconds: float = 10) -> None:
    """Soon no request holds anything in the engine, nor is one known to the runner."""
    runner = llm._requests.loaded.runner
    deadline = time.perf_counter() + seconds
    while (busy := (pages_in_use(llm), len(runner._mailboxes))) != (0, 0):
        assert time.perf_counter() < deadline, f"pages in use, requests: {busy}"
        time.sleep(0.001)


def pages_in_use(llm: LLM) -> int:
    """Pages that requests hold, without those kept for their contents alone."""
    metrics = llm.metrics()
    return int(metrics["full_pages_used"] + metrics["sliding_pages_used"])
