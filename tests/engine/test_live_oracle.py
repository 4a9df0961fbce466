"""Logits against transformers itself, where it is installed, on weights no golden file has seen."""

from __future__ import annotations

import pytest

from tests.conftest import MakeCheckpoint
from tests.engine.test_golden import logits_of
from tests.golden.bounds import EXACT_FROM_PLAIN, EXACT_FROM_ROUNDED, F32_FROM_PLAIN
from tests.reference.checkpoint_writer import CheckpointSpec
from tests.reference.metrics import median_relative_l2
from tests.reference.oracle import oracle_logits

pytest.importorskip("torch")
pytest.importorskip("transformers")


@pytest.mark.parametrize(
    "spec",
    [
        CheckpointSpec(seed=101),
        CheckpointSpec(seed=102, newer_config=True, num_shards=3, experts_mxfp4=False),
        CheckpointSpec(seed=103, num_layers=3, num_heads=9, num_kv_heads=3, head_dim=16),
    ],
    ids=["published", "saved again, bf16 experts", "odd"],
)
def test_live_oracle(spec: CheckpointSpec, make_checkpoint: MakeCheckpoint) -> None:
    directory = make_checkpoint(spec)
    ids = [(37 * i * i + 11 * i) % spec.vocab_size for i in range(80)]
    plain, rounded = oracle_logits(directory, ids)
    assert median_relative_l2(logits_of(directory, "f32", ids), plain) <= F32_FROM_PLAIN
    exact = logits_of(directory, "exact", ids)
    assert median_relative_l2(exact, plain) <= EXACT_FROM_PLAIN
    assert median_relative_l2(exact, rounded) <= EXACT_FROM_ROUNDED
