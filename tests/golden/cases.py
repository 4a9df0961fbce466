"""The checkpoints and prompts that golden logits are kept for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tests.reference.checkpoint_writer import CheckpointSpec

GOLDEN_DIR = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class GoldenCase:
    """One prompt of random tokens through one checkpoint.

    Kept are `num_kept` positions, evenly out of the last `spread` ones, and at most `num_columns`
    of the vocabulary. Layers are few because every rounding amplifies what came before it: after
    five of them an oracle perturbed by 1e-7 is farther from itself than the bounds allow. Seeds are
    chosen such that few positions lie near a tie of two experts, where rounding picks another one
    and no bound means anything.
    """

    name: str
    spec: CheckpointSpec
    num_tokens: int
    num_kept: int = 64
    spread: int = 64
    num_columns: int = 320

    @property
    def path(self) -> Path:
        return GOLDEN_DIR / f"{self.name}.npz"

    def token_ids(self) -> list[int]:
        raw = np.random.PCG64(self.spec.seed + 1).random_raw(self.num_tokens)
        return [int(number) % self.spec.vocab_size for number in raw]

    def positions(self) -> npt.NDArray[np.int64]:
        spread = min(self.spread, self.num_tokens)
        steps = np.linspace(0, spread - 1, min(self.num_kept, spread)).round().astype(np.int64)
        return self.num_tokens - spread + steps

    def columns(self) -> npt.NDArray[np.int64]:
        stride = math.ceil(self.spec.vocab_size / self.num_columns)
        return np.arange(0, self.spec.vocab_size, stride)


SMALL_CASES = (
    GoldenCase("past_window", CheckpointSpec(seed=1), 64),
    GoldenCase(
        "within_window_one_kv_head",
        CheckpointSpec(
            num_layers=3,
            hidden_size=128,
            intermediate_size=96,
            num_heads=6,
            num_kv_heads=1,
            sliding_window=128,
            experts_per_token=2,
            newer_config=True,
            num_shards=2,
            seed=42,
        ),
        64,
    ),
    GoldenCase(
        "four_experts_one_chosen",
        CheckpointSpec(
            num_layers=1,
            hidden_size=96,
            intermediate_size=160,
            num_heads=6,
            num_kv_heads=3,
            head_dim=16,
            num_experts=4,
            experts_per_token=1,
            seed=3,
        ),
        64,
    ),
    GoldenCase(
        "experts_128",
        CheckpointSpec(
            num_layers=2,
            hidden_size=64,
            intermediate_size=32,
            num_heads=8,
            num_kv_heads=2,
            num_experts=128,
            sliding_window=5,
            seed=24,
        ),
        64,
    ),
    GoldenCase(
        "bf16_experts",
        CheckpointSpec(
            num_layers=3,
            hidden_size=80,
            intermediate_size=56,
            num_heads=5,
            num_kv_heads=5,
            head_dim=24,
            vocab_size=301,
            num_experts=6,
            experts_per_token=3,
            experts_mxfp4=False,
            seed=45,
        ),
        64,
    ),
    GoldenCase(
        "head_64",
        CheckpointSpec(
            num_layers=3,
            hidden_size=256,
            intermediate_size=224,
            num_heads=8,
            num_kv_heads=1,
            head_dim=64,
            num_experts=16,
            sliding_window=128,
            seed=56,
        ),
        200,
    ),
    GoldenCase(
        "rope_truncated_all_full",
        CheckpointSpec(
            rope_theta=10000.0,
            rope_factor=8.0,
            rope_original_max_position=64,
            rope_truncate=True,
            layer_types=("full_attention", "full_attention"),
            num_heads=3,
            num_kv_heads=1,
            seed=37,
        ),
        150,
    ),
)

LONG_CASE = GoldenCase(
    "past_4096",
    CheckpointSpec(num_heads=2, num_kv_heads=1, head_dim=64, sliding_window=128, seed=8),
    4500,
    spread=400,
)

FULL_WIDTH_CASE = GoldenCase(
    "full_width",
    CheckpointSpec(
        num_layers=2,
        hidden_size=2880,
        intermediate_size=2880,
        num_heads=64,
        num_kv_heads=8,
        head_dim=64,
        vocab_size=201088,
        num_experts=32,
        sliding_window=128,
        seed=9,
    ),
    200,
    num_kept=200,
    spread=200,
    num_columns=512,
)
