"""The bundled model's answers on a GPU are those on the CPU."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from evaluate import messages, response_format
from mixture import WEIGHTS, sample

from motet import LLM, _core
from motet.harmony.chat import render_chat

EMULATED = hasattr(_core, "cuda_ops") and _core.cuda_ops.emulated
PROMPTS, MAX_TOKENS = (2, 4) if EMULATED else (200, 200)
# Where they part, the two tokens are as good as equal: both devices round, differently.
TIE = 0.1  # of logits
PARTING = 0.05  # of the prompts at most

pytestmark = pytest.mark.skipif(not _core.cuda_devices(), reason="no CUDA device")


def prompts(llm: LLM) -> list[list[int]]:
    """As its training has them, of every kind."""
    result = []
    tasks = list(WEIGHTS)
    for i in range(PROMPTS):
        talk = sample(random.Random(i), tasks[i % len(tasks)])
        more: dict[str, Any] = {"date": talk.date or "2026-01-31", "tools": talk.tools}
        more |= {"reasoning_effort": talk.effort, "response_format": response_format(talk)}
        result.append(render_chat(llm.tokenizer, messages(talk), **more))
    return result


def test_greedy_answers_are_those_of_the_cpu() -> None:
    options: dict[str, Any] = {"max_context": 1024, "max_batch": 32}
    with LLM(device="cpu", **options) as cpu, LLM(device="cuda", **options) as cuda:
        asked = prompts(cpu)
        expected, found = (
            [
                answer.token_ids
                for answer in llm.generate(asked, temperature=0.0, max_tokens=MAX_TOKENS)
            ]
            for llm in (cpu, cuda)
        )
        gaps = []
        for prompt, one, other in zip(asked, expected, found, strict=True):
            if one == other:
                continue
            at = int(np.argmin([a == b for a, b in zip(one, other, strict=False)]))
            logits = cpu.logits([*prompt, *one[:at]])[-1]
            gaps.append(float(logits[one[at]] - logits[other[at]]))
    tokens = sum(map(len, expected))
    print(f"{PROMPTS - len(gaps)} of {PROMPTS} answers alike, {tokens} tokens; gaps: {gaps}")
    assert max(gaps, default=0) <= TIE
    assert len(gaps) <= PARTING * PROMPTS
