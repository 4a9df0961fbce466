"""Logits against transformers: golden files for a fresh clone, bounds as the design has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from motet import _core
from tests.conftest import MakeCheckpoint
from tests.engine.conftest import CPU, DEVICE, open_engine
from tests.golden.bounds import (
    CUDA_FROM_PLAIN,
    CUDA_FROM_ROUNDED,
    EXACT_FROM_PLAIN,
    EXACT_FROM_ROUNDED,
    F32_FROM_PLAIN,
    F32_FROM_PLAIN_PAST_4096,
    INT8_FROM_PLAIN,
    INT8_FROM_PLAIN_FULL_WIDTH,
    INT8_FROM_ROUNDED,
)
from tests.golden.cases import FULL_WIDTH_CASE, LONG_CASE, SMALL_CASES, GoldenCase
from tests.golden.files import load_golden
from tests.reference.metrics import median_relative_l2
from tests.reference.model import ReferenceModel

all_cases = pytest.mark.parametrize("case", [*SMALL_CASES, LONG_CASE], ids=lambda case: case.name)
small_cases = pytest.mark.parametrize("case", SMALL_CASES, ids=lambda case: case.name)


def logits_of(directory: Path, precision: str, token_ids: list[int]) -> npt.NDArray[np.float32]:
    engine = open_engine(directory, precision=precision, max_context=len(token_ids), threads=2)
    return engine.logits(np.array(token_ids, np.int32))


@pytest.mark.parametrize("isa", _core.isas(), indirect=True)
@all_cases
def test_exact_mode(case: GoldenCase, isa: str, make_checkpoint: MakeCheckpoint) -> None:
    directory = make_checkpoint(case.spec)
    golden = load_golden(case, directory)
    logits = golden.of(logits_of(directory, "exact", case.token_ids()))
    assert median_relative_l2(logits, golden.plain) <= EXACT_FROM_PLAIN
    assert median_relative_l2(logits, golden.rounded) <= EXACT_FROM_ROUNDED


@pytest.mark.parametrize("isa", _core.isas(), indirect=True)
@small_cases
def test_int8_mode(case: GoldenCase, isa: str, make_checkpoint: MakeCheckpoint) -> None:
    directory = make_checkpoint(case.spec)
    logits = logits_of(directory, "int8", case.token_ids())
    reference = ReferenceModel(directory, precision="int8").logits(case.token_ids())
    golden = load_golden(case, directory)
    assert median_relative_l2(golden.of(logits), golden.plain) <= INT8_FROM_PLAIN
    assert median_relative_l2(logits, reference) <= INT8_FROM_ROUNDED


@pytest.mark.parametrize("isa", _core.isas(), indirect=True)
@all_cases
def test_f32_mode(case: GoldenCase, isa: str, make_checkpoint: MakeCheckpoint) -> None:
    directory = make_checkpoint(case.spec)
    golden = load_golden(case, directory)
    logits = golden.of(logits_of(directory, "f32", case.token_ids()))
    bound = F32_FROM_PLAIN_PAST_4096 if case is LONG_CASE else F32_FROM_PLAIN
    assert median_relative_l2(logits, golden.plain) <= bound


@small_cases
def test_golden_equals_the_numpy_model(case: GoldenCase, make_checkpoint: MakeCheckpoint) -> None:
    """Two implementations that share no code: what both say is the model's meaning."""
    directory = make_checkpoint(case.spec)
    golden = load_golden(case, directory)
    plain = golden.of(ReferenceModel(directory).logits(case.token_ids()))
    assert median_relative_l2(plain, golden.plain) <= F32_FROM_PLAIN
    exact = golden.of(ReferenceModel(directory, precision="exact").logits(case.token_ids()))
    assert median_relative_l2(exact, golden.rounded) <= EXACT_FROM_ROUNDED


@small_cases
def test_f32_mode_equals_the_numpy_model(case: GoldenCase, make_checkpoint: MakeCheckpoint) -> None:
    directory = make_checkpoint(case.spec)
    reference = ReferenceModel(directory).logits(case.token_ids())
    logits = logits_of(directory, "f32", case.token_ids())
    assert median_relative_l2(logits, reference) <= F32_FROM_PLAIN


@small_cases
@pytest.mark.parametrize("precision", ["exact", "int8", "f32"])
def test_token_by_token_equals_prefill(
    case: GoldenCase, precision: str, make_checkpoint: MakeCheckpoint
) -> None:
    """Bit for bit, in any chunking, and each prefix by itself."""
    ids = case.token_ids()
    engine = open_engine(make_checkpoint(case.spec), precision=precision)
    whole = engine.logits(np.array(ids, np.int32))
    for chunk in (1, 7, 32):
        assert np.array_equal(engine.logits(np.array(ids, np.int32), chunk=chunk), whole)
    for length in (1, 2, 17, len(ids) - 1):
        prefix = engine.logits(np.array(ids[:length], np.int32))
        assert np.array_equal(prefix, whole[:length])


@pytest.mark.full_width
@pytest.mark.parametrize("precision", ["exact", "int8", "f32"])
def test_two_full_width_layers(precision: str, make_checkpoint: MakeCheckpoint) -> None:
    """gpt-oss-20b's sizes with two layers: 3.4 GB on disk, 200 tokens."""
    case = FULL_WIDTH_CASE
    directory = make_checkpoint(case.spec)
    golden = load_golden(case, directory)
    logits = golden.of(logits_of(directory, precision, case.token_ids()))
    if precision == "f32":
        assert median_relative_l2(logits, golden.plain) <= F32_FROM_PLAIN
    elif precision == "int8":
        assert median_relative_l2(logits, golden.plain) <= INT8_FROM_PLAIN_FULL_WIDTH
    else:
        on_cpu = DEVICE == CPU
        from_plain = EXACT_FROM_PLAIN if on_cpu else CUDA_FROM_PLAIN
        # `rounded` is as the CPU rounds; a GPU's half precision has four bits less.
        from_rounded = EXACT_FROM_ROUNDED if on_cpu else CUDA_FROM_ROUNDED
        assert median_relative_l2(logits, golden.plain) <= from_plain
        assert median_relative_l2(logits, golden.rounded) <= from_rounded
