"""What bench.gpu makes of what was measured; no GPU needed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from bench import gpu, gpu_floor
from motet import _core
from motet.config import load_config


@pytest.fixture
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> gpu.Report:
    monkeypatch.setattr(_core, "cuda_devices", lambda: [{"name": "made up"}])
    report = gpu.Report(tmp_path / "results" / "made-up.json", ["spec"])
    report.result["peaks"] = {"copy_bytes_s": 1e9, "f16_flops_s": 1e15}
    return report


def test_figures_stand_beside_their_floors(report: gpu.Report, tiny_checkpoint: Path) -> None:
    config, figures = load_config(tiny_checkpoint), report.model("toy")
    report.add(config, figures, {"load_s": 2.5})
    report.add(config, figures, {"decode_8": {"batch": 8, "context": 100, "seconds": 0.01}})
    int8 = {"batch": 8, "context": 100, "mode": {"precision": "int8"}, "seconds": 0.01}
    report.add(config, figures, {"decode_8_int8": int8})
    report.add(config, figures, {"prefill_512": {"tokens": 512, "seconds": 0.02}})
    report.add(config, figures, {"stream": {"context": 100, "tokens_s": 50.0}})
    report.write()
    written = json.loads(report.path.read_text())["models"]["toy"]
    assert written["load_s"] == 2.5
    assert written["decode_8"]["tokens_s"] == pytest.approx(800)
    floor = gpu_floor.decode(config, 8, 100).bytes / 1e9
    assert written["decode_8"]["of_floor"] == pytest.approx(floor / 0.01)
    assert written["decode_8_int8"]["bytes"] < written["decode_8"]["bytes"]
    assert written["prefill_512"]["tokens_s"] == pytest.approx(25600)
    assert written["stream"]["seconds"] == pytest.approx(0.02)
    assert [line.split()[1] for line in gpu.table(report.result).splitlines()[1:]] == [
        "decode_8",
        "decode_8_int8",
        "prefill_512",
        "stream",
    ]


def test_lines_come_before_a_process_fails() -> None:
    program = "print('a warning\\n{\"a\": 1}', flush=True); raise SystemExit(3)"
    lines = gpu.lines_of([sys.executable, "-c", program], 60)
    assert next(lines) == {"a": 1}
    with pytest.raises(RuntimeError, match="exit status 3"):
        next(lines)


def test_a_process_is_stopped_in_time() -> None:
    program = "import time; time.sleep(60)"
    with pytest.raises(RuntimeError, match="exit status -9"):
        list(gpu.lines_of([sys.executable, "-c", program], 0.5))
