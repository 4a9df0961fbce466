"""The gate over kernels' machine code lets nothing pass that it should stop; needs no compiler."""

from __future__ import annotations

import dataclasses

import pytest
from tools.cuda_kernels import (
    LIMITS,
    SOURCES,
    Kernel,
    Limit,
    instructions_of,
    kernel_sources,
    launch_bounds_of,
    problems,
    read_limits,
    resources_of,
    short_name,
)

GOOD = Kernel(
    file="a.cu",
    architecture="sm_80",
    name="AKernel<2>",
    threads=256,
    registers=64,
    shared=0,
    stack=0,
    spills=0,
    local=0,
    wide_loads=4,
    tensor_cores=8,
    instructions=100,
)
LIMIT = Limit("a.cu", "AKernel<*>", registers=64, wide_loads=True, tensor_cores=True)


def test_a_kernel_within_its_limits_passes() -> None:
    assert problems([GOOD], [LIMIT]) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"stack": 8}, "8 bytes of stack"),
        ({"spills": 4}, "4 bytes of spills"),
        ({"local": 1}, "1 instructions"),
        ({"threads": 0}, "no __launch_bounds__"),
        ({"registers": 65}, "65 registers, at most 64 allowed"),
        ({"threads": 1024, "registers": 65}, "can't be launched"),
        ({"wide_loads": 0}, "no load of 16 bytes"),
        ({"tensor_cores": 0}, "no tensor-core instruction"),
        ({"hazards": 2}, "2 writes of registers"),
        ({"name": "BKernel"}, "BKernel is not in limits.toml"),
        ({"file": "b.cu"}, "b.cu: AKernel<2> is not in limits.toml"),
    ],
)
def test_what_is_not_within_its_limits_is_named(change: dict[str, object], said: str) -> None:
    found = problems([GOOD, dataclasses.replace(GOOD, **change)], [LIMIT])  # type: ignore[arg-type]
    assert said in "\n".join(found)


def test_a_line_about_one_architecture() -> None:
    limit = dataclasses.replace(LIMIT, only="sm_90a")
    other = dataclasses.replace(GOOD, architecture="sm_80", wide_loads=0, tensor_cores=0)
    empty = dataclasses.replace(other, instructions=2)
    mine = dataclasses.replace(GOOD, architecture="sm_90a")
    assert problems([mine, empty], [limit]) == []
    assert "only sm_90a" in "\n".join(problems([mine, other], [limit]))
    assert problems([dataclasses.replace(mine, tensor_cores=0), empty], [limit])


def test_a_line_without_a_kernel_is_named() -> None:
    (found,) = problems([GOOD], [LIMIT, Limit("a.cu", "GoneKernel", registers=8)])
    assert "GoneKernel, which no kernel is called" in found


def test_a_kernel_with_two_lines_is_named() -> None:
    (found,) = problems([GOOD], [LIMIT, Limit("a.cu", "AKernel<2>", registers=64)])
    assert "several lines" in found


def test_the_limits_are_for_files_that_are_compiled() -> None:
    compiled = {source.rsplit("/", 1)[1] for source in kernel_sources(SOURCES.read_text())}
    compiled.remove("launch.cu")  # has no kernel; nvcc tells it what the others are compiled for
    assert {limit.file for limit in read_limits(LIMITS.read_text())} == compiled


def test_names() -> None:
    demangled = (
        "void motet::cuda::ManyKernel<motet::cuda::Shape<8, 2>, motet::cuda::(anonymous"
        " namespace)::Store>(motet::cuda::Product, motet::cuda::(anonymous namespace)::Store)"
    )
    assert short_name(demangled) == "ManyKernel<Shape<8, 2>, Store>"
    assert short_name("motet::cuda::Kernel(motet::cuda::Args)") == "Kernel"


def test_what_the_tools_print_is_understood() -> None:
    log = """ptxas info    : Compiling entry function '_Z1aPf' for 'sm_80'
ptxas info    : Function properties for _Z1aPf
    56 bytes stack frame, 48 bytes spill stores, 52 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 56 bytes cumulative stack size, 32 bytes smem
ptxas info    : Compiling entry function '_Z1bPf' for 'sm_80'
ptxas info    : Function properties for _Z1bPf
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 10 registers, used 0 barriers, 376 bytes cmem[0]
"""
    assert resources_of(log) == {
        "_Z1aPf": {"registers": 255, "shared": 32, "stack": 56, "spills": 100},
        "_Z1bPf": {"registers": 10, "shared": 0, "stack": 0, "spills": 0},
    }
    disassembly = """
		Function : _Z1aPf
        /*0000*/                   LDG.E.128.CONSTANT R4, [R2.64] ;        /* 0x00 */
                                                                           /* 0x00 */
        /*0010*/              @!P0 LDGSTS.E.BYPASS.128 [R5], [R2.64] ;     /* 0x00 */
        /*0020*/                   LDG.E R4, [R2.64] ;                     /* 0x00 */
        /*0030*/                   HMMA.16816.F32 R4, R4, R8, R4 ;         /* 0x00 */
        /*0040*/              @UP0 STL [R1], R4 ;                          /* 0x00 */
        /*0050*/                   LDL.64 R4, [R1] ;                       /* 0x00 */
        /*0060*/                   NOP;                                    /* 0x00 */
"""
    assert instructions_of(disassembly) == {
        "_Z1aPf": {"local": 2, "wide_loads": 2, "tensor_cores": 1, "instructions": 6, "hazards": 0}
    }
    elf = """.nv.info._Z1aPf
	Attribute:	EIATTR_MAX_THREADS
	Format:	EIFMT_SVAL
	Value:	0x100 0x2 0x1
"""
    assert launch_bounds_of(elf) == {"_Z1aPf": 512}
