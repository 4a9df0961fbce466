"""From a model's name to its directory: a path, the Hugging Face cache, or a download."""

from __future__ import annotations

import os
import re
from pathlib import Path

from motet._files import read_json_object
from motet.checkpoint import INDEX_FILE, SINGLE_FILE
from motet.errors import CheckpointError, ModelNotFoundError

# Only the top level's configuration, tokenizer and weights: repositories also carry original/ and
# metal/ copies. The patterns' * crosses slashes, hence the second list.
_ALLOW_PATTERNS = ["*.json", "model*.safetensors"]
_IGNORE_PATTERNS = ["*/*"]
_REPO_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_MAX_INDEX_BYTES = 4 << 20


def resolve_model(
    name_or_path: str | os.PathLike[str],
    *,
    revision: str = "main",
    cache_dir: str | None = None,
    token: str | bool | None = None,
    local_files_only: bool | None = None,
) -> Path:
    """Return the directory of a model, given as such or by its name ("openai/gpt-oss-20b").

    A name is looked up in the cache first, offline; `revision` is a branch, tag or commit hash.
    Only if it is not there in full is it downloaded, with a progress bar, if huggingface_hub is
    installed and neither `local_files_only` nor (where that is None) HF_HUB_OFFLINE forbids it.
    Raises ModelNotFoundError naming every place looked in.
    """
    name = os.fspath(name_or_path)
    # os.path, not pathlib, here and below: names too long, with a NUL, or out of reach are absent.
    path = os.path.expanduser(name)
    if os.path.isdir(path):
        return Path(path)
    looked = [f"{path}: " + ("not a directory" if os.path.exists(path) else "no such directory")]
    if not _is_repo_id(name):
        hint = "give a checkpoint directory or a name like openai/gpt-oss-20b"
        raise _not_found(name, looked, hint)
    if ".." in revision.split("/") or revision.startswith("/"):
        raise _not_found(name, looked, f"{revision!r} is no branch, tag or commit")

    cache = hub_cache_dir() if cache_dir is None else Path(os.path.expanduser(cache_dir))
    snapshot, problem = _cached_snapshot(cache, name, revision)
    if problem is None:
        return snapshot
    looked.append(f"{snapshot}: {problem}")

    command = f"hf download {name} --revision {revision} --exclude '*/*'"
    if cache_dir is not None:
        command += f" --cache-dir {cache_dir}"
    if _is_offline() if local_files_only is None else local_files_only:
        reason = "HF_HUB_OFFLINE is set" if local_files_only is None else "local_files_only is set"
        looked.append(f"https://huggingface.co/{name}: not tried, {reason}")
        raise _not_found(name, looked, f"fetch it with: {command}")
    try:
        import huggingface_hub
    except ImportError:
        looked.append(f"https://huggingface.co/{name}: not tried, huggingface_hub is not installed")
        hint = f"fetch it with: pip install 'motet[hub]' and the same call, or {command}"
        raise _not_found(name, looked, hint) from None
    try:
        return Path(
            huggingface_hub.snapshot_download(
                name,
                revision=revision,
                cache_dir=cache_dir,
                token=token,
                allow_patterns=_ALLOW_PATTERNS,
                ignore_patterns=_IGNORE_PATTERNS,
            )
        )
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
            raise  # the local disk's failure (full, read-only), not the model's absence
        looked.append(f"https://huggingface.co/{name}: {error}")
        raise _not_found(name, looked, f"fetch it with: {command}") from error


def hub_cache_dir() -> Path:
    """Where huggingface_hub keeps its cache, by the same environment variables."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if value := os.environ.get(variable):
            return _expand(value)
    if value := os.environ.get("HF_HOME"):
        return _expand(value) / "hub"
    return _expand(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface" / "hub"


def _expand(path: str) -> Path:
    return Path(os.path.expanduser(os.path.expandvars(path)))


def _is_repo_id(name: str) -> bool:
    """Hugging Face's rules for names, as far as they keep the cache's folder name unambiguous."""
    plain = ".." not in name and "--" not in name and not name.startswith((".", "-", "~"))
    return plain and len(name) <= 96 and _REPO_ID.fullmatch(name) is not None


def _is_offline() -> bool:
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in {"1", "ON", "YES", "TRUE"}


def _cached_snapshot(cache: Path, name: str, revision: str) -> tuple[Path, str | None]:
    """The snapshot's directory, or the nearest thing to it, and what it lacks (None: nothing).

    Layout: models--org--name/refs/<branch or tag> holds a commit hash, snapshots/<commit>/ symlinks
    into blobs/.
    """
    repository = cache / ("models--" + name.replace("/", "--"))
    if not os.path.isdir(repository):
        return repository, "not in the cache"
    commit = revision
    if not _COMMIT.fullmatch(revision):
        reference = repository / "refs" / revision
        try:
            commit = reference.read_text(encoding="utf-8").strip()
        except (OSError, ValueError):  # ValueError: a NUL in the name, or no text
            return reference, "no such revision in the cache"
        if not _COMMIT.fullmatch(commit):
            return reference, "holds no commit hash"
    snapshot = repository / "snapshots" / commit
    if not os.path.isdir(snapshot):
        return snapshot, "not in the cache"
    missing = [file for file in _needed_files(snapshot) if not os.path.isfile(snapshot / file)]
    return snapshot, f"incomplete, lacks {', '.join(missing)}" if missing else None


def _needed_files(snapshot: Path) -> list[str]:
    """What makes a snapshot complete: an interrupted download leaves some of it out."""
    needed = ["config.json", "tokenizer.json"]
    if os.path.isfile(snapshot / SINGLE_FILE) or not os.path.isfile(snapshot / INDEX_FILE):
        return [*needed, SINGLE_FILE]
    try:
        weight_map = read_json_object(snapshot / INDEX_FILE, _MAX_INDEX_BYTES).get("weight_map")
    except CheckpointError:
        return needed  # damaged rather than incomplete: loading it says what is wrong
    shards = weight_map.values() if isinstance(weight_map, dict) else ()
    return [*needed, *sorted({shard for shard in shards if isinstance(shard, str)})]


def _not_found(name: str, looked: list[str], hint: str) -> ModelNotFoundError:
    places = "\n".join(f"  - {place}" for place in looked)
    return ModelNotFoundError(f"model {name!r} not found; looked in:\n{places}\n{hint}")
