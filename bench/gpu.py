"""motet on a GPU at full size with random weights: `python -m bench.gpu SPEC --help`.

SPEC is a directory with config-20b.json, config-120b.json and tokenizer/; no weights are needed.
Every part runs in a process of its own (bench.gpu_figures), and the results file is written again
after each figure, so that what was measured stays when a later part fails or time runs out. Each
figure stands beside its floor: the time that its bytes or its products take at the rates that the
same run measured for a copy and for a matrix product.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import gpu_figures, gpu_floor
from bench.compare_llama_cpp import machine
from motet import _core
from motet.config import ModelConfig, load_config

RESULTS = Path(__file__).parent / "results"


class Report:
    """The results file."""

    def __init__(self, path: Path, arguments: list[str]) -> None:
        self.path = path
        self.result: dict[str, Any] = {
            "date": datetime.date.today().isoformat(),
            "machine": machine() | {"gpu": _core.cuda_devices()[gpu_figures.DEVICE]},
            "weights": "random, full size, made up on the GPU",
            "command": f"python -m bench.gpu {' '.join(arguments)}",
            "peaks": {},
            "models": {},
            "errors": {},
        }

    def write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.result, indent=1) + "\n")

    def model(self, name: str) -> dict[str, Any]:
        figures: dict[str, Any] = self.result["models"].setdefault(name, {})
        return figures

    def add(self, config: ModelConfig, figures: dict[str, Any], line: dict[str, Any]) -> None:
        for name, value in line.items():
            figures[name] = value
            if name == "stream" or name.startswith(("decode_", "prefill_", "first_token")):
                self._compare(config, name, value)

    def _compare(self, config: ModelConfig, name: str, figure: dict[str, Any]) -> None:
        """Adds tokens a second, the floor and what part of it was reached."""
        if name.startswith("decode_"):
            tokens = figure["batch"]
            work = gpu_floor.decode(config, tokens, figure["context"], figure.get("mode", {}))
        elif name == "stream":
            tokens = 1
            work = gpu_floor.decode(config, 1, figure["context"])
            figure["seconds"] = 1 / figure["tokens_s"]
        else:
            tokens = figure["tokens"] if "tokens" in figure else figure["prompt"]
            work = gpu_floor.prefill(config, tokens)
        figure["tokens_s"] = tokens / figure["seconds"]
        figure["bytes"], figure["flops"] = work.bytes, work.flops
        peaks = self.result["peaks"]
        if "copy_bytes_s" in peaks and "f16_flops_s" in peaks:
            floor = work.seconds(peaks["copy_bytes_s"], peaks["f16_flops_s"])
            figure["floor_seconds"] = floor
            figure["of_floor"] = floor / figure["seconds"]


def lines_of(command: list[str], seconds: float) -> Iterator[dict[str, Any]]:
    """The JSON objects among the lines that a process prints, as they come; libraries print too.

    Raises RuntimeError when it fails.
    """
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        timer = threading.Timer(seconds, process.kill)
        timer.start()
        try:
            for line in process.stdout:
                if line.startswith("{"):
                    yield json.loads(line)
        finally:
            timer.cancel()
    if process.returncode:
        raise RuntimeError(f"exit status {process.returncode}")


def model_directory(spec: Path, name: str, parent: Path) -> Path:
    """What a checkpoint's directory holds beside the weights."""
    directory = parent / name
    shutil.copytree(spec / "tokenizer", directory)
    shutil.copyfile(spec / f"config-{name}.json", directory / "config.json")
    return directory


def table(result: dict[str, Any]) -> str:
    """Figures that have a floor, a line each."""
    lines = [f"{'':6} {'':18} {'ms':>9} {'tok/s':>10} {'of floor':>9}"]
    for model, figures in result["models"].items():
        for name, figure in figures.items():
            if isinstance(figure, dict) and "tokens_s" in figure:
                part = f"{figure['of_floor']:9.1%}" if "of_floor" in figure else ""
                lines.append(
                    f"{model:6} {name:18} {figure['seconds'] * 1e3:9.3f}"
                    f" {figure['tokens_s']:10.1f} {part}"
                )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, parents=[gpu_figures.parser()])
    parser.add_argument("spec", type=Path, help="directory of configurations and a tokenizer")
    parser.add_argument("--models", nargs="+", default=["20b", "120b"])
    parser.add_argument("--seconds", type=float, default=300, help="limit of the whole run")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="where <card>-<date>.json is written"
    )
    args = parser.parse_args()
    if not _core.cuda_devices():
        raise SystemExit(f"no GPU: {_core.cuda_problem()}")
    deadline = time.monotonic() + args.seconds
    card = re.sub(r"[^a-z0-9]+", "-", _core.cuda_devices()[0]["name"].lower()).removeprefix(
        "nvidia-"
    )
    path = args.results / f"{card}-{datetime.date.today().isoformat()}.json"
    report = Report(path, sys.argv[1:])

    def run(part: str, directory: Path) -> Iterator[dict[str, Any]]:
        """The figures of a part; what makes it fail is noted."""
        title = f"{part} {directory.name}"
        command = [sys.executable, "-m", "bench.gpu_figures", part, str(directory)]
        try:
            for line in lines_of(
                command + gpu_figures.arguments(args), max(deadline - time.monotonic(), 1)
            ):
                print(f"{title}: {json.dumps(line)}", flush=True)
                yield line
        except RuntimeError as error:
            report.result["errors"][title] = str(error)
            print(f"{title}: {error}", file=sys.stderr, flush=True)
        report.write()

    with tempfile.TemporaryDirectory() as parent:
        directories = [model_directory(args.spec, name, Path(parent)) for name in args.models]
        for line in run("peaks", directories[0]):
            report.result["peaks"].update(line)
        for part in ("llm", "engine", "beside", "int8", "kernels"):
            for directory in directories:
                config, figures = load_config(directory), report.model(directory.name)
                for line in run(part, directory):
                    report.add(config, figures, line)
                    report.write()
    print(table(report.result))
    if report.result["errors"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
