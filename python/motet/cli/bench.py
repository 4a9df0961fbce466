"""`motet bench`: tokens a second, in the manner and the letters of llama-bench."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from motet.cli import options, terminal
from motet.errors import InvalidRequestError

if TYPE_CHECKING:
    from motet.llm import LLM


@dataclass(frozen=True, slots=True)
class Row:
    """One test: the mean speed over the repetitions and its standard deviation."""

    test: str
    n_prompt: int
    n_gen: int
    n_depth: int
    threads: int
    tokens_per_s: float
    stddev: float
    samples: tuple[float, ...]


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "bench",
        help="measure speed",
        description="Measure reading a prompt (pp) and generating (tg), with random tokens.",
    )
    options.add_model(parser)
    count = options.numbers

    def add(flag: str, dest: str, default: int, what: str) -> None:
        what = f"{what} (default: {default})"
        parser.add_argument(
            flag, dest=dest, type=count, default=[default], metavar="N,...", help=what
        )

    add("-p", "prompt", 512, "prompts of so many tokens")
    add("-n", "gen", 128, "so many tokens generated")
    add("-d", "depth", 0, "behind so many that are there")
    parser.add_argument(
        "-r",
        dest="repetitions",
        type=options.positive,
        default=5,
        metavar="N",
        help="of each test (default: 5)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options.add_engine(parser)
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    # A repetition must compute what the one before it has.
    with options.load_model(args, prefix_cache=False) as llm:
        _check_room(llm, args)
        rows = _measure(llm, args)
        if args.json:
            entries = [asdict(row) for row in rows]
            print(json.dumps({"model": asdict(llm.info), "tests": entries}, indent=2))
        else:
            _print_table(llm, rows)
    return 0


def _check_room(llm: LLM, args: argparse.Namespace) -> None:
    """Refuses at once what would fail after minutes, or generate less than its row says."""
    depth = max(args.depth)
    needed = 1 + max(depth + max(args.prompt), max(depth, 1) + max(args.gen))
    if needed > llm.info.max_context:
        raise InvalidRequestError(
            f"-p, -n and -d: expected at most the context's {llm.info.max_context} tokens,"
            f" found {needed}"
        )


def _measure(llm: LLM, args: argparse.Namespace) -> Iterator[Row]:
    _speed(llm, min(args.prompt[0], 16), 1, 0)  # touches the weights, starts the threads
    threads = llm.info.threads
    for depth in args.depth:
        suffix = f" @ d{depth}" if depth else ""
        tests = [(f"pp{n}{suffix}", n, 0) for n in args.prompt if n]
        tests += [(f"tg{n}{suffix}", 0, n) for n in args.gen if n]
        for name, n_prompt, n_gen in tests:
            speeds = [_speed(llm, n_prompt, n_gen, depth) for _ in range(args.repetitions)]
            spread = statistics.stdev(speeds) if len(speeds) > 1 else 0.0
            mean = statistics.fmean(speeds)
            yield Row(name, n_prompt, n_gen, depth, threads, mean, spread, tuple(speeds))


def _speed(llm: LLM, n_prompt: int, n_gen: int, depth: int) -> float:
    """Tokens a second of one test; the tokens at the start, `depth` of them, are not counted."""
    if n_prompt:
        seconds = _prefill_s(llm, depth + n_prompt) - (_prefill_s(llm, depth) if depth else 0.0)
        return n_prompt / max(seconds, 1e-9)  # a difference of noisy times may be negative
    # The first token belongs to reading the prompt.
    result = llm.generate(
        _tokens(llm, max(depth, 1)), max_tokens=n_gen + 1, temperature=0.0, ignore_eos=True
    )
    return result.timings.decode_tps


def _prefill_s(llm: LLM, n: int) -> float:
    return llm.generate(_tokens(llm, n), max_tokens=1, temperature=0.0).timings.prefill_s


def _tokens(llm: LLM, n: int) -> list[int]:
    """Tokens all over the vocabulary, so that the router picks experts as it does in use."""
    step = 7919  # prime, so that no vocabulary size makes it repeat early
    return [(1 + i * step) % llm.tokenizer.vocab_size for i in range(n)]


def _print_table(llm: LLM, rows: Iterator[Row]) -> None:
    info = llm.info
    print("| model | size | params | device | threads | test | tok/s |")
    print("| --- | ---: | ---: | --- | ---: | ---: | ---: |", flush=True)
    for row in rows:
        cells = (
            f"{info.name} {info.dtype}",
            terminal.size(info.bytes),
            terminal.count(info.n_params),
            info.device,
            str(row.threads),
            row.test,
            f"{row.tokens_per_s:.2f} ± {row.stddev:.2f}",
        )
        print(f"| {' | '.join(cells)} |", flush=True)
