"""Streaming UTF-8: pieces are those of the whole, characters stay whole."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from motet.harmony.utf8 import Utf8Stream

_BYTES = st.one_of(
    st.binary(max_size=6),
    st.text(max_size=4).map(str.encode),
    st.text(max_size=2).map(lambda text: text.encode()[:-1]),
)


@given(st.lists(_BYTES, max_size=12))
def test_pieces_join_to_the_whole(chunks: list[bytes]) -> None:
    stream = Utf8Stream()
    pieces = [stream.push(chunk) for chunk in chunks]
    assert "".join(pieces) + stream.flush() == b"".join(chunks).decode("utf-8", "replace")


def test_garbage_does_not_pile_up() -> None:
    stream = Utf8Stream()
    pushed = sum(len(stream.push(b"\xff" * 8)) for _ in range(1000))
    assert pushed > 7900
