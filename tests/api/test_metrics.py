from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from motet import LLM, InvalidRequestError, Metrics, ModelClosedError

SAMPLE = re.compile(r'^(motet_\w+)(?:\{((?:\w+="(?:[^"\\\n]|\\.)*",?)*)\})? (\S+)$')


def parse(text: str) -> tuple[dict[str, str], dict[tuple[str, str], float]]:
    """Types by name, values by name and labels, of Prometheus' text format."""
    types, values = {}, {}
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            name, kind = line.removeprefix("# TYPE ").split(" ")
            assert name not in types
            types[name] = kind
            continue
        matched = SAMPLE.match(line)
        assert matched, line
        name, labels, value = matched.groups(default="")
        family = re.sub(r"_(bucket|sum|count)$", "", name)
        assert types.get(name) in ("counter", "gauge") or types.get(family) == "histogram", line
        values[name, labels] = float(value)
    return types, values


def test_counts(tiny_checkpoint: Path) -> None:
    with LLM(tiny_checkpoint, max_context=2048, threads=1) as llm:
        assert llm.metrics()["generated_tokens"] == 0
        llm.generate("abc", max_tokens=5, ignore_eos=True)
        llm.stream("abc", ignore_eos=True).close()
        llm.generate("abc", ignore_eos=True, timeout=0.001)
        before = llm.metrics()
        types, values = parse(before.prometheus())
    assert before["requests_finished"]["length"] == 1
    assert values["motet_requests_total", 'finish="length"'] == 1
    assert values["motet_requests_total", 'finish="timeout"'] == 1
    assert values["motet_generated_tokens_total", ""] >= 5
    assert types["motet_requests_running"] == "gauge"
    assert types["motet_full_pages_used"] == "gauge"
    for name in ("queue", "first_token", "inter_token"):
        assert types[f"motet_{name}_seconds"] == "histogram"
    buckets = [
        (float(labels.removeprefix('le="').rstrip('"')), value)
        for (name, labels), value in values.items()
        if name == "motet_inter_token_seconds_bucket"
    ]
    assert buckets == sorted(buckets)
    assert buckets[-1][0] == math.inf
    assert buckets[-1][1] == values["motet_inter_token_seconds_count", ""] >= 4
    assert values["motet_inter_token_seconds_sum", ""] > 0
    with pytest.raises(ModelClosedError):
        llm.metrics()
    assert before["requests_finished"]["length"] == 1  # a moment's picture


def test_prompts_that_are_only_scored_count(tiny_checkpoint: Path) -> None:
    with LLM(tiny_checkpoint, max_context=2048, threads=1) as llm:
        llm.score([1] * 90, [2] * 10)
        llm.generate([3] * 50, max_tokens=0)
        llm.generate([3] * 50, max_tokens=1)
        metrics = llm.metrics()
    assert metrics["prompt_tokens"] == 100 + 50 + 50
    assert 0 < metrics["cached_tokens"] < 50
    assert metrics["computed_tokens"] == 200 - metrics["cached_tokens"]
    assert metrics["prefill_seconds"]["count"] == 3
    assert metrics["first_token_seconds"]["count"] == 1


def test_labels_are_on_every_line_and_escaped() -> None:
    histogram = {"buckets": [(0.5, 1), (math.inf, 3)], "sum": 2.5, "count": 3}
    metrics = Metrics({"steps": 7, "requests_finished": {"stop": 2}, "queue_seconds": histogram})
    text = metrics.prometheus({"model": 'a"b\\c\nd'})
    _, values = parse(text)
    label = r'model="a\"b\\c\nd"'
    assert values == {
        ("motet_steps_total", label): 7,
        ("motet_requests_total", f'{label},finish="stop"'): 2,
        ("motet_queue_seconds_bucket", f'{label},le="0.5"'): 1,
        ("motet_queue_seconds_bucket", f'{label},le="+Inf"'): 3,
        ("motet_queue_seconds_sum", label): 2.5,
        ("motet_queue_seconds_count", label): 3,
    }


def test_labels_are_checked() -> None:
    assert 'port="80"' in Metrics({"steps": 7}).prometheus({"port": 80})  # type: ignore[dict-item]
    for bad in ("a-b", "1a", "", "a\n"):
        with pytest.raises(InvalidRequestError, match=r"^labels: expected .+, found ") as caught:
            Metrics({"steps": 7}).prometheus({bad: "x"})
        assert caught.value.param == "labels"


def test_it_is_a_mapping() -> None:
    metrics = Metrics({"steps": 7})
    assert dict(metrics) == {"steps": 7}
    assert "steps" in metrics
    assert repr(metrics) == "Metrics({'steps': 7})"
