"""Whether machine code writes registers that a product of a warpgroup may still read.

HGMMA reads operand A from registers long after it was issued, until WARPGROUP.DEPBAR says that its
group is done. Neither compiler nor assembler keeps those registers till then (CUDA 13.0): the
source has to (csrc/cuda/warpgroup_ptx.h, KeepOperands).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_LINE = re.compile(r"^\s*/\*([0-9a-f]{4,5})\*/\s+(?:(@!?U?P\w+)\s+)?(.*?)\s*;", re.MULTILINE)
_PRODUCT = re.compile(r"HGMMA\S*\s+R\d+, R(\d+), gdesc")
_WAIT = re.compile(r"WARPGROUP\.DEPBAR\.LE gsb0, (0x[0-9a-f]+)")
_BRANCH = re.compile(r"BRA\S*\s+(?:!?U?P\w+,\s*)?(0x[0-9a-f]+)")
_WRITE = re.compile(r"([A-Z][\w.]*)\s+R(\d+)(?![\w.]*\])")
# Whose first operand is not what they write.
_NO_RESULT = ("ST", "RED", "BRA", "BAR", "LDGSTS", "WARPGROUP", "HGMMA")
_OPERANDS = 4  # registers

Instruction = tuple[str, str, int | None]  # predicate, text, index of a branch's target


def instructions(code: str) -> list[Instruction]:
    lines = _LINE.findall(code)
    index = {int(address, 16): i for i, (address, _, _) in enumerate(lines)}
    result = []
    for _, predicate, text in lines:
        branch = _BRANCH.match(text)
        result.append((predicate, text, index.get(int(branch[1], 16)) if branch else None))
    return result


def overwritten(code: str) -> list[str]:
    """Of a kernel's disassembly: a product, and an instruction that comes too early after it."""
    program = instructions(code)
    found = []
    for i, (_, text, _) in enumerate(program):
        product = _PRODUCT.match(text)
        if product:
            first = int(product[1])
            registers = range(first, first + _OPERANDS)
            found += [f"{text}: {write}" for write in _writes_before_wait(program, i, registers)]
    return found


def _writes_before_wait(
    program: Sequence[Instruction], product: int, registers: range
) -> list[str]:
    """Along every path from the product to the wait that ends its group."""
    found = []
    # Where a path is, whether the product's group is committed, and how many after it are.
    paths = [(product + 1, "gsb0" in program[product][1], 0)]
    seen = set()
    while paths:
        at, committed, later = paths.pop()
        if at >= len(program) or (at, committed, later) in seen:
            continue
        seen.add((at, committed, later))
        predicate, text, target = program[at]
        wait = _WAIT.match(text)
        if wait and committed and int(wait[1], 16) <= later:
            continue
        if _result(text, registers):
            found.append(text)
            continue
        if text.startswith("HGMMA") and "gsb0" in text:
            committed, later = True, later + committed
        if target is not None:
            paths.append((target, committed, later))
        if predicate or not text.startswith(("BRA", "EXIT")):
            paths.append((at + 1, committed, later))
    return found


def _result(text: str, registers: range) -> bool:
    """Whether an instruction writes one of these registers."""
    write = _WRITE.match(text)
    if not write or text.startswith(_NO_RESULT):
        return False
    opcode, first = write[1], int(write[2])
    count = 4 if ".128" in opcode else 2 if ".64" in opcode or ".WIDE" in opcode else 1
    return first < registers.stop and registers.start < first + count
