"""`motet inspect`: what a checkpoint holds, without loading it."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict

from motet.checkpoint import Checkpoint, TensorInfo
from motet.cli import options, terminal
from motet.config import load_config
from motet.defaults import sampling_defaults
from motet.locate import locate


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "inspect",
        help="show a checkpoint's configuration and tensors",
        description="Show a checkpoint's configuration and tensors. Only headers are read.",
    )
    options.add_model(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    directory, name = locate(args.model)
    config = asdict(load_config(directory))
    defaults = sampling_defaults(directory)
    tensors = Checkpoint(directory).tensors
    if args.json:
        listed = {key: _entry(info) for key, info in tensors.items()}
        about = {"name": name, "directory": str(directory)}
        report = {**about, "config": config, "sampling": defaults, "tensors": listed}
        print(json.dumps(report, indent=2))
        return 0
    print(f"{name} in {directory}\n")
    for key, value in (config | {f"default {k}": v for k, v in defaults.items()}).items():
        print(f"{key:28} {_layers(value) if key == 'layer_is_sliding' else value}")
    print()
    _print_tensors(tensors)
    return 0


def _entry(info: TensorInfo) -> dict[str, object]:
    return {
        "dtype": info.dtype,
        "shape": list(info.shape),
        "bytes": info.end - info.begin,
        "file": info.file.name,
    }


def _layers(is_sliding: object) -> str:
    """A letter a layer: s sliding, f full attention."""
    assert isinstance(is_sliding, tuple)
    return "".join("s" if sliding else "f" for sliding in is_sliding)


def _print_tensors(tensors: Mapping[str, TensorInfo]) -> None:
    width = max(map(len, tensors), default=0)
    total: Counter[str] = Counter()
    for name, info in sorted(tensors.items()):
        n_bytes = info.end - info.begin
        total[info.dtype] += n_bytes
        shape = " x ".join(map(str, info.shape))
        print(f"{name:{width}}  {info.dtype:5} {shape:>24} {n_bytes:>14,}")
    by_dtype = ", ".join(f"{dtype} {terminal.size(n)}" for dtype, n in sorted(total.items()))
    print(f"\n{len(tensors)} tensors, {terminal.size(sum(total.values()))}: {by_dtype}")
