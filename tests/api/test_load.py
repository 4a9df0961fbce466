from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import motet
from motet import (
    LLM,
    CheckpointError,
    InvalidRequestError,
    ModelNotFoundError,
    MotetError,
    OutOfMemoryError,
    _core,
)
from motet.loading import Precision

from .conftest import CONTEXT


def test_info(llm: LLM, tiny_checkpoint: Path) -> None:
    info = llm.info
    files = sum(path.stat().st_size for path in tiny_checkpoint.glob("*.safetensors"))
    assert info.name == tiny_checkpoint.name
    device = "cuda:0" if _core.cuda_devices() else "cpu"
    assert (info.n_layers, info.max_context, info.device) == (2, CONTEXT, device)
    assert files * 0.9 < info.bytes < files
    assert info.n_params > info.bytes / 2  # most weights take 4 bits, the rest 16
    assert info.dtype == "mxfp4"
    assert info.threads == 1
    assert info.isa


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("device", "gpu"),
        ("device", "cuda:x"),
        ("device", None),
        ("device", 0),
        ("gpu_memory", 0),
        ("gpu_memory", 1.5),
        ("gpu_memory", True),
        ("load_format", "random"),
        ("precision", "int4"),
        ("max_context", 0),
        ("max_context", 10**9),
        ("max_context", 1.5),
        ("kv_cache_bytes", -1),
        ("threads", 0),
        ("threads", True),
        ("max_batch", 0),
        ("max_batch", None),
        ("max_queue", 0),
        ("max_queue", 1.5),
        ("prefix_cache", 1),
        ("speculation", None),
        ("target_itl", 0),
        ("target_itl", True),
        ("target_itl", float("nan")),
        ("max_batch", 1 << 70),
        ("threads", 1 << 40),
        ("kv_cache_bytes", 1 << 80),
        ("progress", 5),
        ("seed", "3"),
        ("seed", 1.5),
        ("seed", True),
    ],
)
def test_bad_options(tiny_checkpoint: Path, param: str, value: object) -> None:
    with pytest.raises(InvalidRequestError, match=rf"^{param}: expected .+, found ") as caught:
        LLM(tiny_checkpoint, **{param: value})  # type: ignore[arg-type]
    assert caught.value.param == param


def test_numpy_numbers_are_numbers(tiny_checkpoint: Path) -> None:
    def draw(**options: Any) -> list[int]:
        with LLM(tiny_checkpoint, **options) as llm:
            assert llm.info.max_context == 64
            return llm.generate("a", max_tokens=8, timeout=np.float32(60)).token_ids

    plain = draw(max_context=64, threads=1, max_queue=3, target_itl=0.5, seed=3)
    assert plain == draw(
        max_context=np.int32(64),
        threads=np.int64(1),
        max_queue=np.uint8(3),
        target_itl=np.float32(0.5),
        seed=np.int64(3),
    )


def test_context_is_what_the_cache_has_room_for(tiny_checkpoint: Path) -> None:
    with LLM(tiny_checkpoint, kv_cache_bytes=1 << 20, threads=1) as llm:
        room = llm.info.max_context
        assert 100 < room < 131072
    with LLM(tiny_checkpoint, kv_cache_bytes=1 << 20, max_context=room, threads=1):
        pass
    with pytest.raises(OutOfMemoryError, match="would fit"):
        LLM(tiny_checkpoint, kv_cache_bytes=1 << 20, max_context=131072, threads=1)


def test_missing_model_names_the_places() -> None:
    with pytest.raises(ModelNotFoundError, match="no/such-model"):
        LLM.from_pretrained("no/such-model", local_files_only=True)


def test_from_pretrained_takes_the_options(tiny_checkpoint: Path) -> None:
    with LLM.from_pretrained(str(tiny_checkpoint), max_context=33, threads=1) as llm:
        assert llm.info.max_context == 33


def test_progress(tiny_checkpoint: Path) -> None:
    seen: list[float] = []
    LLM(tiny_checkpoint, max_context=33, threads=1, progress=seen.append).close()
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


@pytest.mark.parametrize("file", ["tokenizer.json", "generation_config.json", "config.json"])
def test_damaged_file_is_named(tiny_checkpoint: Path, tmp_path: Path, file: str) -> None:
    copy = shutil.copytree(tiny_checkpoint, tmp_path / "copy")
    (copy / file).write_text("{")
    with pytest.raises(CheckpointError, match=file.replace(".", r"\.")):
        LLM(copy)


@pytest.mark.parametrize("bits", [0x7FC0, 0x7F80, 0xFF80], ids=["NaN", "infinity", "-infinity"])
@pytest.mark.parametrize("tensor", ["model.layers.1.self_attn.o_proj.weight", "lm_head.weight"])
def test_weights_that_are_not_finite_are_named(
    tiny_checkpoint: Path, tmp_path: Path, tensor: str, bits: int
) -> None:
    copy = shutil.copytree(tiny_checkpoint, tmp_path / "copy")
    path = set_bf16(copy, tensor, row=3, bits=bits)
    with pytest.raises(CheckpointError) as caught:
        LLM(copy, threads=1)
    error = caught.value
    assert (error.file, error.tensor) == (str(path), tensor)
    assert (error.expected, error.found) == ("finite numbers", "NaN or infinity in row 3")


@pytest.mark.parametrize("precision", ["exact", "int8", "f32"])
def test_embedding_that_is_not_finite_ends_who_uses_it(
    tiny_checkpoint: Path, tmp_path: Path, precision: Precision
) -> None:
    """It is not read when loading; a row of it is when its token is."""
    copy = shutil.copytree(tiny_checkpoint, tmp_path / "copy")
    set_bf16(copy, "model.embed_tokens.weight", row=97, bits=0x7FC0)
    with LLM(copy, device="cpu", threads=1, precision=precision) as llm:
        with pytest.raises(MotetError, match="no token can be drawn"):
            llm.generate([96, 97], max_tokens=3)
        assert llm.generate([96, 98], max_tokens=3).finish_reason == "length"


def set_bf16(checkpoint: Path, tensor: str, row: int, bits: int) -> Path:
    """Of a tensor in the only file, which is returned."""
    path = next(checkpoint.glob("*.safetensors"))
    data = bytearray(path.read_bytes())
    length = int.from_bytes(data[:8], "little")
    entry = json.loads(data[8 : 8 + length])[tensor]
    at = 8 + length + entry["data_offsets"][0] + 2 * (entry["shape"][1] * row + 1)
    data[at : at + 2] = bits.to_bytes(2, "little")
    path.write_bytes(data)
    return path


def test_tokenizer_of_another_model(tiny_checkpoint: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny_checkpoint, tmp_path / "copy")
    path = copy / "tokenizer.json"
    content = json.loads(path.read_text())
    last = content["added_tokens"][-1]
    content["added_tokens"] += [last | {"id": i, "content": f"<|{i}|>"} for i in range(265, 400)]
    path.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="vocab_size 320, found ids up to 399"):
        LLM(copy)


def test_f32(tiny_checkpoint: Path) -> None:
    with LLM(tiny_checkpoint, precision="f32", max_context=64, threads=1) as llm:
        assert len(llm.generate("a", max_tokens=3, ignore_eos=True).token_ids) == 3


def test_import_is_light() -> None:
    """Less than 0.3 s of processor time, and no package but numpy and tokenizers."""
    program = """
import sys, time
start = time.process_time()
import motet
print(f"{time.process_time() - start:.3f}")
from motet import LLM, SamplingParams, Tokenizer, harmony
import motet.cli
print(*{"torch", "transformers", "huggingface_hub", "safetensors", "pydantic"} & set(sys.modules))
"""
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    seconds, heavy = out.stdout.split("\n")[:2]
    assert float(seconds) < 0.3
    assert heavy == ""


def test_public_names() -> None:
    for name in motet.__all__:
        assert getattr(motet, name) is not None
    assert set(motet.__all__) <= set(dir(motet))
    with pytest.raises(AttributeError, match="nonsense"):
        motet.nonsense  # noqa: B018
