"""`motet chat`: a conversation in the terminal."""

from __future__ import annotations

import argparse
import contextlib
import sys
from typing import TYPE_CHECKING, Any

from motet.cli import options, terminal
from motet.errors import InvalidRequestError
from motet.results import ChatCompletion

if TYPE_CHECKING:
    from motet.llm import LLM


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "chat",
        help="talk, turn by turn",
        description="Talk, turn by turn. Ctrl-C stops an answer, Ctrl-D leaves.",
    )
    options.add_model(parser)
    options.add_chat(parser)
    options.add_engine(parser)
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  # gives input() history and line editing
    with options.load_model(args) as llm:
        print(f"{llm.info.name}. Ctrl-C stops an answer, Ctrl-D leaves.", file=sys.stderr)
        _talk(llm, args)
    return 0


def _talk(llm: LLM, args: argparse.Namespace) -> None:
    messages: list[Any] = []
    if args.system is not None:
        messages.append({"role": "system", "content": args.system})
    while (text := _ask()) is not None:
        try:
            if text.strip():
                messages = _turn(llm, args, [*messages, {"role": "user", "content": text}])
        except KeyboardInterrupt:
            continue  # the stopped turn is forgotten: half an answer would mislead the next
        except InvalidRequestError as error:  # such as a conversation longer than the context
            print(f"motet: {error}", file=sys.stderr)


def _turn(llm: LLM, args: argparse.Namespace, messages: list[Any]) -> list[Any]:
    """Streams the answer; the conversation with it."""
    stream = llm.chat_stream(messages, reasoning_effort=args.effort, **options.sampling(args))
    result = terminal.print_stream(stream)
    assert isinstance(result, ChatCompletion)
    return [*messages, *result.messages]


def _ask() -> str | None:
    """The user's next line; None at the end of input."""
    while True:
        try:
            return input("> " if sys.stdin.isatty() else "")
        except KeyboardInterrupt:
            print()
        except EOFError:
            if sys.stdin.isatty():
                print()
            return None
