"""Measures a checkpoint through motet on held-out prompts, greedily.

usage: evaluate.py [-m MODEL] [-n 500] [--tasks add sub ...] [--effort medium] [--show 3]
Without -m the bundled model is measured. Held out: no operands (arithmetic) and no
prompt text (everything else) that are drawn here are ever drawn for training; see `held_out` in
conversation.py.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from typing import Any

from conversation import EFFORTS, Conversation
from mixture import WEIGHTS, sample
from scoring import Reply, is_right

from motet import LLM


def messages(conversation: Conversation) -> list[dict[str, Any]]:
    """The conversation's prompt as OpenAI messages."""
    result = []
    if conversation.instructions:
        result.append({"role": "system", "content": conversation.instructions})
    for question, answer in conversation.history:
        result.append({"role": "user", "content": question})
        result.append({"role": "assistant", "content": answer})
    return [*result, {"role": "user", "content": conversation.user}]


def response_format(conversation: Conversation) -> dict[str, Any] | None:
    """The `response_format` argument that a caller would give."""
    if conversation.response_format is None:
        return None
    name, schema = conversation.response_format
    if name == "json":
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": name, "schema": schema}}


def ask(llm: LLM, conversation: Conversation) -> Reply:
    """The reply to a conversation; a call is answered with its tool result, once."""
    chat = messages(conversation)
    options: dict[str, Any] = {
        "tools": conversation.tools,
        "reasoning_effort": conversation.effort,
        "date": conversation.date,
        "response_format": response_format(conversation),
        "temperature": 0.0,
        "max_tokens": 480,
    }
    first = llm.chat(chat, **options)
    calls = [(call.name, call.arguments) for call in first.tool_calls]
    if not calls or not conversation.tool_result:
        return Reply(first.text, calls)
    call = first.tool_calls[0]
    function = {"name": call.name, "arguments": call.arguments}
    called = {"id": call.id, "type": "function", "function": function}
    chat.append({"role": "assistant", "reasoning": first.reasoning, "tool_calls": [called]})
    chat.append({"role": "tool", "tool_call_id": call.id, "content": conversation.tool_result})
    second = llm.chat(chat, **options)
    return Reply(second.text, calls + [(call.name, call.arguments) for call in second.tool_calls])


def interval(right: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    z, p = 1.96, right / n
    middle = p + z * z / (2 * n)
    spread = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (middle - spread) / (1 + z * z / n), (middle + spread) / (1 + z * z / n)


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("-m", "--model", help="checkpoint folder (default: the bundled model)")
    arguments.add_argument("-n", type=int, default=500, help="prompts a task")
    arguments.add_argument("--tasks", nargs="+", choices=list(WEIGHTS), default=list(WEIGHTS))
    arguments.add_argument("--effort", choices=EFFORTS, default="medium")
    arguments.add_argument("--seed", type=int, default=2026)
    arguments.add_argument(
        "--show", type=int, default=0, help="wrong replies to print for each task"
    )
    options = arguments.parse_args()
    with LLM(options.model) as llm:
        print(f"{'task':10} {'right':>9}  share     95 % interval   seconds")
        for task in options.tasks:
            rng = random.Random(f"{options.seed} {task}")
            begin, right, shown = time.time(), 0, 0
            for _ in range(options.n):
                conversation = sample(rng, task, options.effort, want_held_out=True)
                reply = ask(llm, conversation)
                good = is_right(conversation, reply)
                right += good
                if not good and shown < options.show:
                    shown += 1
                    print(f"  {conversation.user!r}: {reply}; right: {conversation.expected!r}")
            low, high = interval(right, options.n)
            share = f"{100 * right / options.n:5.1f} %  {100 * low:5.1f} - {100 * high:5.1f} %"
            print(
                f"{task:10} {right:4}/{options.n:4}  {share}  {time.time() - begin:7.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
