"""motet and llama.cpp in turn on the same weights: `python -m bench.compare_llama_cpp --help`.

Each measurement is a process of its own. Rounds are interleaved, so that what else the machine
does meets all alike; the result is each figure's median over the rounds. llama-cpp-python must be
installed, or built with `pip install --target DIR` and named with --llama-path.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.engines import FIGURES
from motet import _core
from motet.config import load_config

Runs = dict[str, list[dict[str, float]]]


def measure(name: str, model: str, args: argparse.Namespace) -> dict[str, float]:
    """One round of one engine: "motet exact", "llama.cpp bf16", ..."""
    engine, kind = name.split()
    environment = dict(os.environ)
    which = ["motet", model, "--precision", kind]
    first_token = [kind, model]
    if engine == "llama.cpp":
        which, first_token = ["llama_cpp", model], ["llama_cpp", model]
        if args.llama_path:
            environment["PYTHONPATH"] = os.pathsep.join([args.llama_path, os.getcwd()])
    command = [sys.executable, "-m", "bench.engines", *which, "--threads", str(args.threads)]
    done = subprocess.run(
        [*command, "--figures", *args.figures],
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    result: dict[str, float] = json.loads(done.stdout)
    command = [sys.executable, "-m", "bench.first_token", *first_token, str(args.threads)]
    start = time.perf_counter()
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise SystemExit(f"{name}: no first token")
        result["first_token_s"] = time.perf_counter() - start
    return result


def work(directory: Path, precision: str) -> dict[str, float]:
    """What a token costs at least: bytes read by a decoded one, products of a prompt's."""
    c = load_config(directory)
    attention = c.num_layers * 2 * c.hidden_size * (c.num_heads + c.num_kv_heads) * c.head_dim
    experts = c.num_layers * c.experts_per_token * 3 * c.hidden_size * c.intermediate_size
    dense = attention + c.hidden_size * c.vocab_size
    of_dense = {"exact": 2 + 1 / 32, "int8": 1 + 2 / 32}[precision]
    return {"bytes": dense * of_dense + experts * (4.25 / 8), "multiplies": attention + experts}


def machine() -> dict[str, Any]:
    model = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "cpu": model[0] if model else platform.processor(),
        "cores": os.cpu_count(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "isa": os.environ.get("MOTET_ISA", _core.isas()[0]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", help="directory in the published layout")
    parser.add_argument(
        "--gguf", action="append", default=[], metavar="KIND=FILE", help="llama.cpp's"
    )
    parser.add_argument("--precision", nargs="+", default=["exact", "int8"])
    parser.add_argument("--figures", nargs="+", default=list(FIGURES[:4]), choices=FIGURES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--llama-path", help="where llama_cpp lies, if it is not installed")
    parser.add_argument("--out", type=Path, help="write the results as JSON")
    args = parser.parse_args()
    engines = {f"motet {precision}": args.checkpoint for precision in args.precision}
    engines |= {f"llama.cpp {k}": file for k, file in (g.split("=", 1) for g in args.gguf)}
    runs: Runs = {name: [] for name in engines}
    peaks: list[dict[str, float]] = []
    for number in range(args.rounds):
        peaks.append(
            {"read": _core.peak_read_rate(args.threads)}
            | {p: _core.peak_multiply_rate(p, args.threads) for p in args.precision}  # type: ignore[arg-type]
        )
        for name, model in engines.items():
            runs[name].append(measure(name, model, args))
            print(number, name, json.dumps(runs[name][-1]), file=sys.stderr, flush=True)
    result = {
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "threads": args.threads,
        "peaks": {key: statistics.median(peak[key] for peak in peaks) for key in peaks[0]},
        "work": {p: work(Path(args.checkpoint), p) for p in args.precision},
        "runs": runs,
    }
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n")
    print_table(result)


def print_table(result: dict[str, Any]) -> None:
    """Medians, and fractions of what the machine allows."""
    figures = list(next(iter(result["runs"].values()))[0])
    print("| | " + " | ".join(figures) + " |\n| --- |" + " ---: |" * len(figures))
    for name, rounds in result["runs"].items():
        medians = [statistics.median(run[figure] for run in rounds) for figure in figures]
        print(f"| {name} | " + " | ".join(f"{value:.4g}" for value in medians) + " |")
    for precision, work_of in result["work"].items():
        rounds = result["runs"][f"motet {precision}"]
        for figure, cost, peak in (
            ("decode", work_of["bytes"], result["peaks"]["read"]),
            ("prefill_1024", work_of["multiplies"], result["peaks"][precision]),
        ):
            if figure in rounds[0]:
                rate = statistics.median(run[figure] for run in rounds) * cost
                print(f"{precision} {figure}: {rate / 1e9:.1f} of {peak / 1e9:.1f} G/s")


if __name__ == "__main__":
    main()
