"""A JSONL file of prompts through asyncio: some at a time, answers in the order of the prompts.

    python examples/asyncio_batch.py IN.jsonl OUT.jsonl [--model MODEL] [--concurrency N]

A line of the input is {"prompt": "..."}; a line of the output has "text" and "finish_reason" beside
it. Needs tqdm for the progress bar: pip install "motet[examples]".
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from typing import Any

from tqdm import tqdm

from motet import LLM


async def answer_all(
    llm: LLM, rows: list[dict[str, Any]], concurrency: int
) -> list[dict[str, Any]]:
    """The rows with their answers. At most `concurrency` prompts are in the model's hands."""
    places = asyncio.Semaphore(concurrency)
    with tqdm(total=len(rows), unit="prompt") as bar:

        async def answer(row: dict[str, Any]) -> dict[str, Any]:
            async with places:
                reply = await llm.achat(row["prompt"], timeout=600)
            bar.update()
            return {**row, "text": reply.text, "finish_reason": reply.finish_reason}

        # One that fails cancels all others.
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(answer(row)) for row in rows]
    return [task.result() for task in tasks]


def main() -> None:
    parser = argparse.ArgumentParser(description="Answer a JSONL file of prompts.")
    parser.add_argument("input", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--model", help="default: the bundled one")
    parser.add_argument("--concurrency", type=int, default=8, metavar="N")
    args = parser.parse_args()
    with args.input.open(encoding="utf-8") as lines:  # splitlines() would split strings at U+2028
        rows = [json.loads(line) for line in lines if line.strip()]
    with LLM(args.model, max_batch=args.concurrency) as llm:
        answered = asyncio.run(answer_all(llm, rows, args.concurrency))
    with args.output.open("w", encoding="utf-8") as out:
        for row in answered:
            out.write(json.dumps(row, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
