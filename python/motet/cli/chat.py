"""`motet chat`: a conversation in the terminal."""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
from typing import TYPE_CHECKING

from motet.cli import options, terminal
from motet.errors import InvalidRequestError

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
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # no text: that turn's failure alone
    with options.load_model(args) as llm:
        print(f"{llm.info.name}. Ctrl-C stops an answer, Ctrl-D leaves.", file=sys.stderr)
        _talk(llm, args)
    return 0


def _talk(llm: LLM, args: argparse.Namespace) -> None:
    sampling = options.sampling(args)
    session = llm.session(args.system, reasoning_effort=args.effort, **sampling)
    while (text := _ask()) is not None:
        try:
            if text.strip():
                terminal.print_stream(session.stream(text))
        except KeyboardInterrupt:
            continue  # the stopped turn is forgotten: half an answer would mislead the next
        except InvalidRequestError as error:  # such as a conversation longer than the context
            print(f"motet: {error}", file=sys.stderr)


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
