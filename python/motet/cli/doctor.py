"""`motet doctor`: what motet finds on this machine."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
from collections.abc import Iterator

from motet import __version__, machine
from motet.cli import terminal
from motet.locate import BUNDLED
from motet.resolve import hub_cache_dir

_PACKAGES = ("numpy", "tokenizers", "huggingface_hub")


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "doctor",
        help="show what motet finds on this machine",
        description="Show versions, CPU features, the kernels chosen, memory and folders.",
    )
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    healthy = True
    for name, value, problem in _facts():
        print(f"{name:12} {value}" + (f"  <- {problem}" if problem else ""))
        healthy = healthy and not problem
    return 0 if healthy else 1


def _facts() -> Iterator[tuple[str, str, str]]:
    """(name, value, what is wrong with it or "")."""
    yield "motet", __version__, ""
    yield "python", f"{platform.python_version()} on {platform.platform()}", ""
    for package in _PACKAGES:
        yield package, _version(package), ""
    yield from _core_facts()
    yield "cores", f"{machine.core_count()} to use, {os.cpu_count()} logical in all", ""
    yield "memory", terminal.size(machine.memory_bytes()), ""
    cache = hub_cache_dir()
    yield "model cache", str(cache) + ("" if cache.is_dir() else " (not there yet)"), ""
    present = (BUNDLED / "config.json").is_file()
    yield "bundled", str(BUNDLED), "" if present else "no model there: reinstall motet"


def _core_facts() -> Iterator[tuple[str, str, str]]:
    try:
        from motet import _core
    except ImportError as error:
        yield "engine", "not usable", str(error)
        return
    features = _core.cpu_features()
    yield "cpu", " ".join(name for name, present in features.items() if present) or "baseline", ""
    isas = _core.isas()
    chosen = os.environ.get("MOTET_ISA") or isas[0]
    wrong = "" if chosen in isas else "MOTET_ISA names kernels that this CPU can't run"
    yield "kernels", f"{chosen} (can run: {', '.join(isas)})", wrong
    version = _core.cuda_driver()
    driver = f"driver for CUDA {version // 1000}.{version % 1000 // 10}"
    gpus = _core.cuda_devices()
    for index, card in enumerate(gpus):
        major, minor = card["compute_capability"]
        old = "" if major >= 8 else "motet needs compute capability 8.0"
        name = f"{card['name']}, {terminal.size(card['memory'])}, sm_{major}{minor}, {driver}"
        yield f"cuda:{index}", name, old
    if not gpus:
        yield "cuda", _core.cuda_problem() + (f" ({driver})" if version else ""), ""


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
