"""Flags that several commands share, and the calls they stand for."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from motet.errors import InvalidRequestError

if TYPE_CHECKING:
    from motet.llm import LLM

_SAMPLING = ("max_tokens", "temperature", "top_p", "top_k", "min_p", "seed")


def add_model(parser: argparse.ArgumentParser) -> None:
    """Which model."""
    parser.add_argument(
        "-m",
        "--model",
        metavar="MODEL",
        help="a checkpoint directory or a name like openai/gpt-oss-20b (default: the bundled one)",
    )


def add_engine(parser: argparse.ArgumentParser) -> None:
    """How to run it."""
    parser.add_argument(
        "--device", default="auto", metavar="DEVICE", help="cpu, cuda or cuda:N (default: auto)"
    )
    parser.add_argument("-t", "--threads", type=int, metavar="N", help="default: physical cores")
    parser.add_argument("--max-context", type=int, metavar="N", help="tokens of prompt and answer")
    parser.add_argument(
        "--precision",
        choices=("exact", "int8", "f32"),
        default="exact",
        help="int8 is faster and less faithful, f32 rounds nothing and is slow (default: exact)",
    )


def add_chat(parser: argparse.ArgumentParser) -> None:
    """What to ask, and how answers are drawn."""
    parser.add_argument("--system", metavar="TEXT", help="instructions to the model")
    parser.add_argument(
        "--effort",
        choices=("low", "medium", "high"),
        default="medium",
        help="how much to reason (default: medium)",
    )
    group = parser.add_argument_group(
        "sampling", "Defaults come from the model's generation_config.json."
    )
    group.add_argument("--max-tokens", type=int, metavar="N", help="default: the whole context")
    group.add_argument("--temperature", type=float, metavar="T", help="0 is greedy")
    group.add_argument("--top-p", type=float, metavar="P")
    group.add_argument("--top-k", type=int, metavar="K")
    group.add_argument("--min-p", type=float, metavar="P")
    group.add_argument("--seed", type=int, metavar="N", help="the same seed draws the same answer")


def numbers(text: str) -> list[int]:
    """An argument like "128,512"."""
    values = [int(part) for part in text.split(",")]
    if min(values) < 0:
        raise ValueError("negative")
    return values


def positive(text: str) -> int:
    """An argument of at least 1."""
    value = int(text)
    if value < 1:
        raise ValueError("not positive")
    return value


def load_model(args: argparse.Namespace, **engine: Any) -> LLM:
    """The model that the flags name; `engine` are further options of LLM."""
    from motet.llm import LLM

    return LLM(
        args.model,
        device=args.device,
        precision=args.precision,
        max_context=args.max_context,
        threads=args.threads,
        **engine,
    )


def sampling(args: argparse.Namespace) -> dict[str, Any]:
    """The sampling flags that were given."""
    given = {name: getattr(args, name) for name in _SAMPLING}
    return {name: value for name, value in given.items() if value is not None}


def read_tools(path: str) -> list[Any]:
    """Tools out of a JSON file: one or a list, in OpenAI's form or the function alone."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(
            f"--tools: expected JSON in {path}, found: {error}", param="tools"
        ) from error
    tools = value if isinstance(value, list) else [value]
    return list(tools)
