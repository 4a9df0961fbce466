"""The examples, as a user runs them."""

from __future__ import annotations

import functools
import importlib.util
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from motet import LLM

from .conftest import assert_idle

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str, *args: str | Path) -> str:
    command = [sys.executable, str(EXAMPLES / name), *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # its annotations are looked up there
    spec.loader.exec_module(module)
    return module


def test_threads() -> None:
    lines = run("threads.py").splitlines()
    assert len(lines) == 8
    assert lines[0].startswith("What is 12 + 8? ")
    assert "20" in lines[0]


def test_asyncio_batch(tmp_path: Path) -> None:
    pytest.importorskip("tqdm")
    sums = [(i, 3 * i) for i in range(1, 13)]
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows = [{"prompt": f"What is {a} + {b}?", "id": a, "note": "\u2028\x85"} for a, b in sums]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    source.write_text("\n".join(lines) + "\n", encoding="utf-8")
    run("asyncio_batch.py", source, target, "--concurrency", "4")
    answers = [json.loads(line) for line in target.read_text(encoding="utf-8").split("\n")[:-1]]
    assert [answer["id"] for answer in answers] == [a for a, _ in sums]
    right = sum(str(a + b) in answer["text"] for answer, (a, b) in zip(answers, sums, strict=True))
    assert right >= 10


@contextmanager
def served(llm: LLM) -> Iterator[str]:
    """The address of the FastAPI example around a model."""
    uvicorn = pytest.importorskip("uvicorn")
    pytest.importorskip("fastapi")
    app = load("fastapi_stream").make_app(llm)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=30)


def test_fastapi_streams() -> None:
    httpx = pytest.importorskip("httpx")
    with LLM() as bundled, served(bundled) as url:
        body: dict[str, Any] = {"messages": [{"role": "user", "content": "What is 17 + 25?"}]}
        answer = httpx.post(f"{url}/v1/chat/completions", json=body | {"user": "me"}, timeout=60)
        events = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
        assert events.pop() == "[DONE]"
        choices = [json.loads(event)["choices"][0] for event in events]
        assert "42" in "".join(choice["delta"].get("content", "") for choice in choices)
        assert choices[-1]["finish_reason"] == "stop"
        bad = httpx.post(f"{url}/v1/chat/completions", json={"messages": [{"role": "king"}]})
        assert (bad.status_code, "role" in bad.text) == (400, True)
        assert 'motet_requests_total{model="' in httpx.get(f"{url}/metrics").text


def test_fastapi_cancels_for_a_client_that_hangs_up(
    llm: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    httpx = pytest.importorskip("httpx")
    endless = functools.partial(llm.achat_stream, ignore_eos=True)
    monkeypatch.setattr(llm, "achat_stream", endless)
    body = {"messages": [{"role": "user", "content": "Hi"}]}
    with served(llm) as url:
        before = llm.metrics()["requests_finished"]["cancelled"]
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=60) as answer:
            next(answer.iter_lines())
        assert_idle(llm)
        assert llm.metrics()["requests_finished"]["cancelled"] == before + 1
