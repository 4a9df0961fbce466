"""Write the golden logits: python -m tests.golden.make_golden [NAME ...] with transformers.

Without names all but full_width are written, which needs 4 GB of disk and 19 GB of memory. For
each case it prints how far bf16 rounding alone moves the oracle, and how far the numpy model lies
from the rounded oracle: the room that the tests' bounds leave.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

from tests.golden.cases import FULL_WIDTH_CASE, LONG_CASE, SMALL_CASES, GoldenCase
from tests.golden.files import fingerprint
from tests.reference.checkpoint_writer import write_checkpoint
from tests.reference.metrics import median_relative_l2
from tests.reference.model import ReferenceModel
from tests.reference.oracle import oracle_logits


def write_case(case: GoldenCase) -> None:
    ids, positions, columns = case.token_ids(), case.positions(), case.columns()
    kept = np.ix_(positions, columns)
    with tempfile.TemporaryDirectory() as folder:
        directory = write_checkpoint(Path(folder), case.spec)
        plain, rounded = (logits[kept] for logits in oracle_logits(directory, ids))
        report = f"rounding {median_relative_l2(rounded, plain):.1e}"
        if case is not FULL_WIDTH_CASE:  # the plain numpy model would take minutes
            exact = ReferenceModel(directory, precision="exact").logits(ids)[kept]
            report += f", numpy from rounded {median_relative_l2(exact, rounded):.1e}"
        weights = fingerprint(directory)
    np.savez_compressed(
        case.path,
        token_ids=ids,
        positions=positions,
        columns=columns,
        plain=plain,
        rounded=rounded,
        fingerprint=np.array(weights),
    )
    print(f"{case.name}: {report}, {case.path.stat().st_size} bytes")


def main(names: list[str]) -> None:
    cases = {case.name: case for case in (*SMALL_CASES, LONG_CASE, FULL_WIDTH_CASE)}
    for name in names or [case.name for case in (*SMALL_CASES, LONG_CASE)]:
        write_case(cases[name])


if __name__ == "__main__":
    main(sys.argv[1:])
