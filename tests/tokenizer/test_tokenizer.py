from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models

from motet.errors import CheckpointError, InvalidRequestError
from motet.tokenizer import Tokenizer

from .conftest import SPECIAL, tiny_backend

TEXTS = [
    "",
    "the cat",
    " two  spaces\n\n",
    "naïve café",
    "日本語",
    "🙂👩‍👩‍👧",
    "a\x00b\r\n",
    "1234567890",
    "\u0130\u0131",
]


@pytest.mark.parametrize("text", TEXTS)
def test_round_trip(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(text=st.text(st.characters(exclude_categories=["Cs"])))
@settings(max_examples=200, deadline=None)
def test_round_trip_of_any_text(tiny: Tokenizer, text: str) -> None:
    assert tiny.decode(tiny.encode(text)) == text


@pytest.mark.parametrize("name", SPECIAL)
def test_plain_text_never_becomes_a_special_token(tokenizer: Tokenizer, name: str) -> None:
    for text in (name, f"a{name}b", f"<{name}>", name * 3):
        ids = tokenizer.encode(text)
        assert not any(map(tokenizer.is_special, ids))
        assert tokenizer.decode(ids) == text


def test_special_text_is_parsed_on_request(tokenizer: Tokenizer) -> None:
    start, end = tokenizer.special_tokens["<|start|>"], tokenizer.special_tokens["<|end|>"]
    plain = tokenizer.encode("the <|start")
    assert tokenizer.encode_special("<|start|>the <|start<|end|>") == [start, *plain, end]
    assert tokenizer.encode_special("") == []
    assert tokenizer.decode([start, end]) == "<|start|><|end|>"


def test_template_tokens_saved_as_ordinary_ones_are_still_special() -> None:
    tokenizer = Tokenizer(tiny_backend(special=False))
    assert set(tokenizer.special_tokens) == set(SPECIAL)
    assert not any(map(tokenizer.is_special, tokenizer.encode("<|start|>")))


@pytest.mark.parametrize("text", ["café", "naïve", "日本", "<pad>", " x"])
def test_tokens_added_as_text_are_decoded_as_text(text: str) -> None:
    """Fine-tunes add words: an é in them is a letter, not the byte that byte-level BPE writes é."""
    backend = tiny_backend()
    backend.add_tokens([text])
    tokenizer = Tokenizer(backend)
    ids = tokenizer.encode(f"un {text}")
    assert ids[-1] == tokenizer.vocab_size - 1
    assert tokenizer.decode(ids) == f"un {text}"
    assert not tokenizer.is_special(ids[-1])


def test_no_special_tokens_at_all() -> None:
    backend = tiny_backend()
    bare = Tokenizer(type(backend)(backend.model))
    assert bare.special_tokens == {}
    assert bare.encode_special("a<|start|>") == bare.encode("a<|start|>")


def test_token_bytes_cover_every_byte(tokenizer: Tokenizer) -> None:
    singles = {tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size)}
    assert {bytes([b]) for b in range(256)} <= singles


def test_token_bytes_of_ids_that_name_no_token(tokenizer: Tokenizer) -> None:
    assert tokenizer.token_bytes(tokenizer.vocab_size) == b""
    assert tokenizer.token_bytes(-1) == b""
    assert tokenizer.decode([tokenizer.vocab_size]) == ""


def test_published_ids_and_size(published: Tokenizer) -> None:
    assert published.special_tokens["<|start|>"] == 200006
    assert published.special_tokens["<|return|>"] == 200002
    assert published.vocab_size == 200019
    assert published.encode("Hello world") == [13225, 2375]
    assert published.token_bytes(2375) == b" world"


@pytest.mark.parametrize("text", TEXTS)
def test_stream_never_splits_a_character(tokenizer: Tokenizer, text: str) -> None:
    decoder = tokenizer.stream()
    pieces = [decoder.push(i) for i in tokenizer.encode(text)]
    assert "".join(pieces) == text
    assert all("\ufffd" not in piece for piece in pieces)
    assert decoder.flush() == ""


def test_stream_flush_replaces_an_unfinished_character(tiny: Tokenizer) -> None:
    decoder = tiny.stream()
    ids = tiny.encode("🙂")
    assert len(ids) == 4
    assert [decoder.push(i) for i in ids[:3]] == ["", "", ""]
    assert decoder.flush() == "\ufffd"
    assert "".join(map(decoder.push, ids)) == "🙂"  # usable afresh


@given(st.lists(st.integers(0, 262), max_size=40))
@settings(max_examples=300, deadline=None)
def test_stream_equals_decode_on_any_tokens(tiny: Tokenizer, ids: list[int]) -> None:
    decoder = tiny.stream()
    assert "".join(map(decoder.push, ids)) + decoder.flush() == tiny.decode(ids)


@pytest.mark.parametrize("text", ["\ud800", "ok then \udfff!"])
def test_lone_surrogates_are_refused(tokenizer: Tokenizer, text: str) -> None:
    with pytest.raises(InvalidRequestError, match="lone surrogate U\\+D") as caught:
        tokenizer.encode(text)
    assert caught.value.param == "text"


def test_not_a_string(tiny: Tokenizer) -> None:
    with pytest.raises(TypeError, match="expected str, found int"):
        tiny.encode(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff\xfe", b'{"model": 3}', None])
def test_damaged_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json") as caught:
        Tokenizer.from_dir(tmp_path)
    assert caught.value.file == str(path)


@pytest.mark.parametrize(
    "vocab", [{}, {"h": 0, "i": 1}, {c: i for i, c in enumerate(map(chr, range(33, 127)))}]
)
def test_a_vocabulary_that_would_lose_text_is_refused(
    tmp_path: Path, vocab: dict[str, int]
) -> None:
    """Byte-level BPE leaves out without a word what it has no token for."""
    backend = tiny_backend()
    backend.model = models.BPE(vocab=vocab, merges=[])
    backend.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(CheckpointError, match="a token for each of the 256 bytes") as caught:
        Tokenizer.from_dir(tmp_path)
    assert caught.value.found == f"none for {256 - len(vocab)} of them"


def test_what_is_no_file_is_called_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.mkdir()
    with pytest.raises(CheckpointError, match="found a directory"):
        Tokenizer.from_dir(tmp_path)
    path.rmdir()
    path.symlink_to("nowhere")
    with pytest.raises(CheckpointError, match="found a dangling symbolic link"):
        Tokenizer.from_dir(tmp_path)
