"""Model names: directories, the Hugging Face cache, downloads, and what is said otherwise."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from motet.errors import ModelNotFoundError
from motet.resolve import hub_cache_dir, resolve_model

NAME = "openai/gpt-oss-20b"
COMMIT = "6cee5e81ee83917806bbde320786a8fb61efebee"
FILES = ("config.json", "tokenizer.json", "model.safetensors")


@pytest.fixture(autouse=True)
def isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No cache, setting or huggingface_hub of this machine."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.chdir(tmp_path)


def fill_cache(cache: Path, files: tuple[str, ...] = FILES, name: str = NAME) -> Path:
    """A snapshot as huggingface_hub lays it out: symbolic links into blobs/."""
    repository = cache / ("models--" + name.replace("/", "--"))
    snapshot = repository / "snapshots" / COMMIT
    for folder in (snapshot, repository / "blobs", repository / "refs"):
        folder.mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    for number, file in enumerate(files):
        blob = repository / "blobs" / f"{number:064x}"
        blob.write_text("{}")
        (snapshot / file).symlink_to(Path("../..") / "blobs" / blob.name)
    return snapshot


class FakeHub(ModuleType):
    """Stands in for huggingface_hub: records the call, then returns or raises."""

    def __init__(self, result: Path | Exception) -> None:
        super().__init__("huggingface_hub")
        self.result = result
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def snapshot_download(self, repo_id: str, **options: Any) -> str:
        self.calls.append((repo_id, options))
        if isinstance(self.result, Exception):
            raise self.result
        return str(self.result)


def test_directory_comes_first(tmp_path: Path) -> None:
    fill_cache(tmp_path / "home/.cache/huggingface/hub")
    (tmp_path / NAME).mkdir(parents=True)
    assert resolve_model(NAME) == Path(NAME)
    assert resolve_model(tmp_path / NAME) == tmp_path / NAME
    (tmp_path / "home" / "model").mkdir()
    assert resolve_model("~/model") == tmp_path / "home" / "model"


@pytest.mark.parametrize(
    ("variables", "cache"),
    [
        ({}, "home/.cache/huggingface/hub"),
        ({"XDG_CACHE_HOME": "{tmp}/xdg"}, "xdg/huggingface/hub"),
        ({"XDG_CACHE_HOME": "{tmp}/xdg", "HF_HOME": "~/hf"}, "home/hf/hub"),
        ({"HF_HOME": "~/hf", "HUGGINGFACE_HUB_CACHE": "{tmp}/old"}, "old"),
        ({"HUGGINGFACE_HUB_CACHE": "{tmp}/old", "HF_HUB_CACHE": "$HOME/new"}, "home/new"),
    ],
)
def test_cache_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], cache: str
) -> None:
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value.format(tmp=tmp_path))
    assert hub_cache_dir() == tmp_path / cache
    snapshot = fill_cache(tmp_path / cache)
    assert resolve_model(NAME) == snapshot


def test_revisions(tmp_path: Path) -> None:
    snapshot = fill_cache(tmp_path / "cache")
    references = snapshot.parents[1] / "refs"
    (references / "pr").mkdir()
    (references / "pr" / "1").write_text(COMMIT + "\n")
    for revision in ("main", COMMIT, "pr/1"):
        found = resolve_model(NAME, revision=revision, cache_dir=str(tmp_path / "cache"))
        assert found == snapshot


@pytest.mark.parametrize("revision", ["v2", "0" * 40, "../refs/main", "/etc/passwd", "", "a\0b"])
def test_unknown_revisions(tmp_path: Path, revision: str) -> None:
    fill_cache(tmp_path)
    with pytest.raises(ModelNotFoundError):
        resolve_model(NAME, revision=revision, cache_dir=str(tmp_path))


def test_damaged_reference(tmp_path: Path) -> None:
    (fill_cache(tmp_path).parents[1] / "refs" / "main").write_bytes(b"\xff../..")
    with pytest.raises(ModelNotFoundError):
        resolve_model(NAME, cache_dir=str(tmp_path))


@pytest.mark.parametrize("missing", FILES)
def test_incomplete_snapshot(tmp_path: Path, missing: str) -> None:
    snapshot = fill_cache(tmp_path, tuple(file for file in FILES if file != missing))
    (snapshot / missing).symlink_to("../../blobs/interrupted")
    with pytest.raises(ModelNotFoundError, match=f"incomplete, lacks {missing}"):
        resolve_model(NAME, cache_dir=str(tmp_path))


def test_incomplete_shards(tmp_path: Path) -> None:
    shards = [f"model-0000{k}-of-00002.safetensors" for k in range(3)]
    index = "model.safetensors.index.json"
    snapshot = fill_cache(tmp_path, ("config.json", "tokenizer.json", index, *shards[:2]))
    (snapshot / index).write_text(json.dumps({"weight_map": {"a": shards[0], "b": shards[2]}}))
    with pytest.raises(ModelNotFoundError, match=f"incomplete, lacks {shards[2]}"):
        resolve_model(NAME, cache_dir=str(tmp_path))
    (snapshot / shards[2]).write_text("")
    assert resolve_model(NAME, cache_dir=str(tmp_path)) == snapshot


def test_message_names_each_place_and_the_command(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        resolve_model(NAME)
    message = str(caught.value)
    assert f"{NAME}: no such directory" in message
    assert str(tmp_path / "home/.cache/huggingface/hub/models--openai--gpt-oss-20b") in message
    assert "https://huggingface.co/openai/gpt-oss-20b" in message
    assert "pip install 'motet[hub]'" in message
    assert "hf download openai/gpt-oss-20b" in message
    assert isinstance(caught.value, FileNotFoundError)


@pytest.mark.parametrize(
    "name",
    ["/no/such/dir", "./model", "../x/y", "a/b/c", "a--b/c", "", "x" * 5000, "a\0b", "~nobody/x"],
)
def test_names_that_are_only_paths(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = FakeHub(AssertionError("must not be asked"))
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    with pytest.raises(ModelNotFoundError, match="no such directory"):
        resolve_model(name)
    assert hub.calls == []


def test_a_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_text("")
    with pytest.raises(ModelNotFoundError, match="not a directory"):
        resolve_model("./model.gguf")


def test_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = FakeHub(tmp_path / "downloaded")
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    found = resolve_model(NAME, revision="v1", cache_dir=str(tmp_path), token="secret")
    assert found == tmp_path / "downloaded"
    [(name, options)] = hub.calls
    assert name == NAME
    assert (
        options.items()
        >= {
            "revision": "v1",
            "cache_dir": str(tmp_path),
            "token": "secret",
        }.items()
    )


def test_incomplete_snapshot_is_downloaded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = FakeHub(fill_cache(tmp_path, FILES[:2]))
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert resolve_model(NAME, cache_dir=str(tmp_path)) == hub.result
    assert len(hub.calls) == 1


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", None])
def test_offline(monkeypatch: pytest.MonkeyPatch, variable: str | None) -> None:
    hub = FakeHub(AssertionError("must not be asked"))
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    if variable is not None:
        monkeypatch.setenv(variable, "1")
    reason = "HF_HUB_OFFLINE" if variable else "local_files_only"
    with pytest.raises(ModelNotFoundError, match=f"not tried, {reason} is set"):
        resolve_model(NAME, local_files_only=None if variable else True)
    assert hub.calls == []


def test_failed_download(monkeypatch: pytest.MonkeyPatch) -> None:
    cause = ConnectionError("401 Client Error: gated repository")
    monkeypatch.setitem(sys.modules, "huggingface_hub", FakeHub(cause))
    with pytest.raises(ModelNotFoundError, match="gated repository") as caught:
        resolve_model(NAME, token="secret")
    assert caught.value.__cause__ is cause
    assert "secret" not in str(caught.value)


def test_full_disk_is_reported_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    full = OSError(28, "No space left on device", "/cache/blob")
    monkeypatch.setitem(sys.modules, "huggingface_hub", FakeHub(full))
    with pytest.raises(OSError, match="No space left") as caught:
        resolve_model(NAME)
    assert caught.value is full


def test_huggingface_hub_is_imported_only_to_download() -> None:
    code = "import sys, motet.resolve; assert 'huggingface_hub' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


class TestRealHub:
    """Against huggingface_hub itself, where it is installed."""

    @pytest.fixture(autouse=True)
    def real(self, monkeypatch: pytest.MonkeyPatch, isolated: None) -> None:
        monkeypatch.delitem(sys.modules, "huggingface_hub")
        pytest.importorskip("huggingface_hub")

    def test_same_snapshot(self, tmp_path: Path) -> None:
        from huggingface_hub import snapshot_download

        fill_cache(tmp_path)
        theirs = snapshot_download(NAME, cache_dir=tmp_path, local_files_only=True)
        assert resolve_model(NAME, cache_dir=str(tmp_path)) == Path(theirs)

    def test_only_the_files_needed_are_downloaded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from huggingface_hub.utils._paths import filter_repo_objects

        hub = FakeHub(Path("x"))
        monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
        resolve_model(NAME)
        options = hub.calls[0][1]
        wanted = [
            "config.json",
            "tokenizer.json",
            "model-00000-of-00002.safetensors",
            "model.safetensors.index.json",
        ]
        unwanted = ["original/config.json", "original/model.safetensors", "metal/model.bin", "a.py"]
        chosen = filter_repo_objects(
            wanted + unwanted,
            allow_patterns=options["allow_patterns"],
            ignore_patterns=options["ignore_patterns"],
        )
        assert list(chosen) == wanted
