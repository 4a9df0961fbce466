"""Registers of warpgroups' products that are written too early are found, and no others."""

from __future__ import annotations

import pytest
from tools.warpgroup_hazards import overwritten


def code(*lines: str) -> str:
    return "\n".join(
        f"        /*{16 * i:04x}*/  {line} ;  /* 0x0 */" for i, line in enumerate(lines)
    )


PRODUCT = "HGMMA.64x64x16.F32 R24, R56, gdesc[UR4], R24"
LAST = PRODUCT + ", gsb0"  # of a group
OTHER = LAST.replace("R56", "R60")


@pytest.mark.parametrize(
    "write",
    [
        "IMAD.U32 R56, RZ, RZ, UR14",
        "LDS.128 R52, [R3]",
        "LDS.128 R59, [R3]",
        "IMAD.WIDE R58, R1, R2, R4",
    ],
)
def test_a_write_before_the_wait(write: str) -> None:
    wait = "WARPGROUP.DEPBAR.LE gsb0, 0x0"
    found = bool("R52" not in write)
    assert bool(overwritten(code(PRODUCT, LAST, write, wait))) == found
    assert not overwritten(code(PRODUCT, LAST, wait, write))


def test_a_wait_for_older_groups_only() -> None:
    wait = "WARPGROUP.DEPBAR.LE gsb0, 0x1"
    write = "LDS.128 R56, [R3]"
    assert overwritten(code(LAST, wait, write))
    assert not overwritten(code(LAST, OTHER, wait, write))
    assert overwritten(code(LAST, OTHER, wait, write.replace("R56", "R60")))


def test_reads_and_stores_are_no_writes() -> None:
    lines = (LAST, "STS.128 [R56], R56", "LDS R4, [R56]", "LDGSTS.E [R56], desc[UR8][R56.64]")
    assert not overwritten(code(*lines, "WARPGROUP.DEPBAR.LE gsb0, 0x0"))


def test_a_loop_whose_next_round_writes() -> None:
    loop = ("LDS.128 R56, [R3]", LAST, "@P0 BRA 0x0000", "WARPGROUP.DEPBAR.LE gsb0, 0x0")
    assert overwritten(code(*loop))
    waits = (*loop[:2], "WARPGROUP.DEPBAR.LE gsb0, 0x0", *loop[2:])
    assert not overwritten(code(*waits))
