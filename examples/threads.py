"""One model, many threads: each asks its own questions, the model computes them together.

python examples/threads.py [MODEL]
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

from motet import LLM

QUESTIONS = [f"What is {12 * i} + {7 * i + 1}?" for i in range(1, 9)]


def main(model: str | None = None) -> None:
    with LLM(model) as llm, ThreadPoolExecutor(max_workers=8) as pool:
        answers = pool.map(lambda question: llm.chat(question, reasoning_effort="low"), QUESTIONS)
        for question, answer in zip(QUESTIONS, answers, strict=True):
            print(f"{question} {answer.text}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
