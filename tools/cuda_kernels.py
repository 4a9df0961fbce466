"""Compiles every CUDA kernel and holds its machine code to csrc/cuda/kernels/limits.toml.

    python -m tools.cuda_kernels

Prints a line for each kernel and each architecture: registers, memory, and counts of instructions
that say whether it can be fast. Fails on local memory (stack frames, spills), on registers of a
warpgroup's product that are written too early (warpgroup_hazards.py), on more registers
than the file allows, on missing wide loads or tensor-core instructions where it asks for them, and
where the file does not name the kernels that there are. Needs nvcc, cuobjdump, nvdisasm and
c++filt; .ci/cuda-kernels finds or gets them.
"""

from __future__ import annotations

import fnmatch
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.warpgroup_hazards import overwritten

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "csrc" / "cuda" / "sources.cmake"
LIMITS = ROOT / "csrc" / "cuda" / "kernels" / "limits.toml"

ARCHITECTURES = {"sm_80": "compute_80", "sm_90a": "compute_90a"}
FLAGS = ("-std=c++20", "-O3", "-DNDEBUG", "-Xptxas", "-v")  # as CMake's release build
REGISTERS, THREADS = 65536, 2048  # of a multiprocessor
MOST_OF_EMPTY = 8  # instructions of a kernel without a body


@dataclass(frozen=True)
class Kernel:
    """What the compiler and the disassembler say of one kernel for one architecture."""

    file: str
    architecture: str
    name: str
    threads: int  # its launch bounds'; 0: it has none
    registers: int
    shared: int  # bytes, static
    stack: int  # bytes
    spills: int  # bytes, stores and loads
    local: int  # instructions that reach local memory
    wide_loads: int  # instructions that load 16 bytes a thread from global memory
    tensor_cores: int  # instructions
    instructions: int
    hazards: int = 0  # writes of what a product of a warpgroup may still read


@dataclass(frozen=True)
class Limit:
    """A line of limits.toml."""

    file: str
    pattern: str  # of names; * stands for template arguments
    registers: int
    wide_loads: bool = False
    tensor_cores: bool = False
    only: str = ""  # the architecture that this is about; code for others is empty


def read_limits(text: str) -> list[Limit]:
    return [
        Limit(file, pattern, **values)
        for file, patterns in tomllib.loads(text).items()
        for pattern, values in patterns.items()
    ]


def limit_line(versions: Sequence[Kernel]) -> str:
    """What limits.toml could say of a kernel as it is; `versions`: one an architecture."""
    values = f"registers = {max(_roomy(kernel) for kernel in versions)}"
    values += ", wide_loads = true" if all(kernel.wide_loads for kernel in versions) else ""
    values += ", tensor_cores = true" if all(kernel.tensor_cores for kernel in versions) else ""
    return f'"{versions[0].name}" = {{ {values} }}'


def _roomy(kernel: Kernel) -> int:
    """The most registers with which a multiprocessor holds as many blocks as it does now."""
    threads = kernel.threads or THREADS
    blocks = max(min(THREADS // threads, REGISTERS // (_given(kernel.registers) * threads)), 1)
    return min(REGISTERS // (blocks * threads) // 8 * 8, 255)


def _given(registers: int) -> int:
    """A thread gets its registers by eights."""
    return -(-registers // 8) * 8


def problems(kernels: Iterable[Kernel], limits: Iterable[Limit]) -> list[str]:
    """Each way in which kernels and limits do not agree, in words."""
    found = []
    limits = list(limits)
    unused = set(limits)
    missing: dict[tuple[str, str], list[Kernel]] = {}
    for kernel in kernels:
        title = f"{kernel.file}: {kernel.name}, {kernel.architecture}"
        matching = [
            limit
            for limit in limits
            if limit.file == kernel.file and fnmatch.fnmatchcase(kernel.name, limit.pattern)
        ]
        unused -= set(matching)
        if not matching:
            missing.setdefault((kernel.file, kernel.name), []).append(kernel)
        elif len(matching) > 1:
            several = ", ".join(limit.pattern for limit in matching)
            found.append(f"{title}: several lines in {LIMITS.name}: {several}")
        found += [f"{title}: {what}" for what in _defects(kernel)]
        found += [f"{title}: {what}" for limit in matching for what in _excesses(kernel, limit)]
    found += [
        f"{file}: {name} is not in {LIMITS.name}; as it is now: {limit_line(versions)}"
        for (file, name), versions in missing.items()
    ]
    found += [
        f"{limit.file}: {LIMITS.name} names {limit.pattern}, which no kernel is called"
        for limit in limits
        if limit in unused
    ]
    return found


def _defects(kernel: Kernel) -> Iterable[str]:
    """What no kernel may have."""
    if kernel.stack or kernel.spills or kernel.local:
        yield (
            f"local memory: {kernel.stack} bytes of stack, {kernel.spills} bytes of spills,"
            f" {kernel.local} instructions"
        )
    if kernel.hazards:
        yield f"{kernel.hazards} writes of registers that a product may still read"
    if not kernel.threads:
        yield "no __launch_bounds__"
    if _given(kernel.registers) * kernel.threads > REGISTERS:
        yield f"{kernel.threads} threads of {kernel.registers} registers can't be launched"


def _excesses(kernel: Kernel, limit: Limit) -> Iterable[str]:
    if kernel.registers > limit.registers:
        yield f"{kernel.registers} registers, at most {limit.registers} allowed"
    if limit.only not in ("", kernel.architecture):
        if kernel.instructions > MOST_OF_EMPTY:
            yield f"{kernel.instructions} instructions, only {limit.only} should have any"
        return
    if limit.wide_loads and not kernel.wide_loads:
        yield "no load of 16 bytes"
    if limit.tensor_cores and not kernel.tensor_cores:
        yield "no tensor-core instruction"


def kernel_sources(text: str) -> list[str]:
    """The files in sources.cmake's cuda_kernels."""
    match = re.search(r"set\(cuda_kernels\s+([^)]*)\)", text)
    if not match:
        raise SystemExit(f"{SOURCES}: no set(cuda_kernels ...)")
    return match[1].split()


def short_name(demangled: str) -> str:
    """A kernel's name with template arguments, without namespaces and parameters."""
    name = re.sub(r"motet::cuda::|\(anonymous namespace\)::", "", demangled)
    depth = 0
    for i, character in enumerate(name):
        depth += (character == "<") - (character == ">")
        if character == "(" and depth == 0:
            name = name[:i]
            break
    return name.removeprefix("void ")


def resources_of(log: str) -> dict[str, dict[str, int]]:
    """By mangled name, what `ptxas -v` tells of each kernel."""
    resources = {}
    for part in log.split("Compiling entry function '")[1:]:
        name = part.split("'", 1)[0]
        stack = re.search(
            rf"Function properties for {re.escape(name)}\s+(\d+) bytes stack frame,"
            r" (\d+) bytes spill stores, (\d+) bytes spill loads",
            part,
        )
        used = re.search(r"Used (\d+) registers(?:.*?, (\d+) bytes smem)?", part)
        if not stack or not used:
            raise SystemExit(f"{name}: not understood: {part}")
        resources[name] = {
            "registers": int(used[1]),
            "shared": int(used[2] or 0),
            "stack": int(stack[1]),
            "spills": int(stack[2]) + int(stack[3]),
        }
    return resources


_INSTRUCTION = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", re.MULTILINE)
_TENSOR_CORES = ("HMMA", "HGMMA", "IMMA", "QGMMA", "IGMMA")


def instructions_of(disassembly: str) -> dict[str, dict[str, int]]:
    """By mangled name, counts of instructions."""
    counts = {}
    for part in disassembly.split("Function : ")[1:]:
        name, code = part.split(maxsplit=1)
        opcodes = [opcode for opcode in _INSTRUCTION.findall(code) if opcode != "NOP"]
        counts[name] = {
            "local": sum(opcode.split(".")[0] in ("LDL", "STL") for opcode in opcodes),
            "wide_loads": sum(
                opcode.split(".")[0] in ("LDG", "LDGSTS") and ".128" in opcode for opcode in opcodes
            ),
            "tensor_cores": sum(opcode.split(".")[0] in _TENSOR_CORES for opcode in opcodes),
            "instructions": len(opcodes),
            "hazards": len(overwritten(code)),
        }
    return counts


def launch_bounds_of(elf: str) -> dict[str, int]:
    """By mangled name, the threads of launch bounds."""
    threads = {}
    for part in elf.split(".nv.info.")[1:]:
        name = re.split(r"[\s\"]", part, maxsplit=1)[0]
        bounds = re.search(r"EIATTR_MAX_THREADS\s+Format:.*\s+Value:\s+(\w+) (\w+) (\w+)", part)
        if bounds:
            x, y, z = (int(value, 16) for value in bounds.groups())
            threads[name] = x * y * z
    return threads


def _run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def inspect(source: str, architecture: str) -> list[Kernel]:
    """Compiles one file for one architecture."""
    with tempfile.TemporaryDirectory() as directory:
        cubin = str(Path(directory) / "kernels.cubin")
        virtual = ARCHITECTURES[architecture]
        target = f"-gencode=arch={virtual},code={architecture}"
        log = _run("nvcc", *FLAGS, "-I", "csrc", target, "-cubin", source, "-o", cubin, cwd=ROOT)
        instructions = instructions_of(_run("cuobjdump", "-sass", cubin))
        threads = launch_bounds_of(_run("cuobjdump", "-elf", cubin))
    resources = resources_of(log)
    if instructions.keys() != resources.keys():
        raise SystemExit(f"{source}: compiler and disassembler name different kernels")
    if not resources:
        return []
    demangled = _run("c++filt", *resources).splitlines()
    kernels = [
        Kernel(
            file=Path(source).name,
            architecture=architecture,
            name=short_name(name),
            threads=threads.get(mangled, 0),
            **resources[mangled],
            **instructions[mangled],
        )
        for mangled, name in zip(resources, demangled, strict=True)
    ]
    return sorted(kernels, key=lambda kernel: kernel.name)


def table(kernels: Iterable[Kernel]) -> str:
    columns: Mapping[str, Any] = {
        "threads": lambda k: k.threads,
        "regs": lambda k: k.registers,
        "shared": lambda k: k.shared,
        "stack": lambda k: k.stack,
        "spills": lambda k: k.spills,
        "LDL/STL": lambda k: k.local,
        "load 16 B": lambda k: k.wide_loads,
        "tensor": lambda k: k.tensor_cores,
        "instr": lambda k: k.instructions,
    }
    rows: list[tuple[str, list[Any]]] = []
    title = ""
    for kernel in kernels:
        if title != (title := f"{kernel.file} {kernel.architecture}"):
            rows.append((title, list(columns)))
        rows.append((kernel.name, [value(kernel) for value in columns.values()]))
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join(
        f"{name:{width}} " + " ".join(f"{value:>9}" for value in values) for name, values in rows
    )


def main() -> None:
    sources = kernel_sources(SOURCES.read_text())
    # The longest first, so that none is left alone at the end.
    sources.sort(key=lambda source: (ROOT / source).stat().st_size, reverse=True)
    jobs = int(os.environ.get("MOTET_BUILD_JOBS", 0)) or os.cpu_count()
    work = [(source, architecture) for source in sources for architecture in ARCHITECTURES]
    with ThreadPoolExecutor(jobs) as pool:
        parts = pool.map(lambda one: inspect(*one), work)
        kernels = [kernel for part in parts for kernel in part]
    kernels.sort(key=lambda kernel: (kernel.file, kernel.architecture))
    print(table(kernels))
    found = problems(kernels, read_limits(LIMITS.read_text()))
    if found:
        print("\n".join(["", *found]), file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    main()
