"""`motet run`: one question, one answer."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from motet.cli import options, terminal
from motet.errors import InvalidRequestError
from motet.results import Completion


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "run",
        help="answer one prompt",
        description="Answer one prompt: the answer streams to stdout, the reasoning to stderr.",
    )
    parser.add_argument("prompt", metavar="PROMPT", help="the question; - reads it from stdin")
    options.add_model(parser)
    options.add_chat(parser)
    parser.add_argument(
        "--tools", metavar="FILE", help="JSON list of OpenAI tools; a call is printed as JSON"
    )
    parser.add_argument("--json", action="store_true", help="print an OpenAI chat completion")
    parser.add_argument("--stats", action="store_true", help="counts and speeds on stderr")
    options.add_engine(parser)
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    prompt = read_stdin() if args.prompt == "-" else args.prompt
    messages = [{"role": "user", "content": prompt}]
    if args.system is not None:
        messages.insert(0, {"role": "system", "content": args.system})
    chat: dict[str, Any] = {"reasoning_effort": args.effort, **options.sampling(args)}
    if args.tools is not None:
        chat["tools"] = options.read_tools(args.tools)
    with options.load_model(args) as llm:
        result: Completion
        if args.json:
            result = body = llm.chat(messages, **chat)
            print(terminal.json_line(body.to_openai()))
        else:
            result = terminal.print_stream(llm.chat_stream(messages, **chat))
            if result.finish_reason == "length":
                n = result.usage.completion_tokens
                print(f"motet: the answer was cut off after {n} tokens", file=sys.stderr)
    if args.stats:
        print(terminal.stats_line(result), file=sys.stderr)
    return 0


def read_stdin() -> str:
    """All of stdin as text."""
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequestError(f"prompt: expected UTF-8 on stdin: {error}") from error
