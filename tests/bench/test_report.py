"""README's numbers are those of a results file."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from bench import report

RESULTS = report.README.parent / "bench" / "results"


def cited() -> Path:
    text = report.README.read_text()
    between = text.split(report.BEGIN)[1].split(report.END)[0]
    match = re.search(r"\[all runs\]\(bench/results/([^)]+)\)", between)
    assert match is not None
    return RESULTS / match[1]


def test_readme_says_what_was_measured() -> None:
    between = report.README.read_text().split(report.BEGIN)[1].split(report.END)[0]
    assert between == report.section(cited())


def test_chart_is_that_of_the_results() -> None:
    path = cited()
    drawn = report.chart(json.loads(path.read_text()))
    assert drawn == path.with_suffix(".svg").read_text()
    ElementTree.fromstring(drawn)


def test_medians_and_units() -> None:
    result = {
        "runs": {
            "motet exact": [{"decode": v, "peak_resident": 13e9} for v in (1.0, 3.0, 2.0)],
            "llama.cpp bf16": [{"decode": 1.5}],
        }
    }
    assert report.medians(result) == {
        "motet exact": {"decode": 2.0, "peak_resident": pytest.approx(13.0)},
        "llama.cpp bf16": {"decode": 1.5},
    }
    assert report.table(result).splitlines() == [
        "| | decode, tok/s | peak memory, GB |",
        "| --- | ---: | ---: |",
        "| motet exact | 2.00 | 13.0 |",
        "| llama.cpp bf16 | 1.50 |  |",
    ]
