from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motet.stop import StopMatcher


def visible(pieces: list[str], stops: list[str], include: bool = False) -> tuple[str, str | None]:
    matcher = StopMatcher(stops, include=include)
    text = "".join(map(matcher.push, pieces))
    return text + matcher.flush(), matcher.matched


def expected(text: str, stops: list[str], include: bool) -> tuple[str, str | None]:
    """By the definition: grow the text by characters until a stop string is in it."""
    for end in range(1, len(text) + 1):
        found = [(text[:end].find(stop), stop) for stop in stops if stop in text[:end]]
        if found:
            start, stop = min(found)
            return text[: start + len(stop) * include], stop
    return text, None


@pytest.mark.parametrize("include", [False, True])
def test_match_across_pieces(include: bool) -> None:
    text, matched = visible(["he", "llo S", "TO", "P world"], ["STOP"], include)
    assert matched == "STOP"
    assert text == ("hello STOP" if include else "hello ")


def test_a_false_start_is_let_out() -> None:
    matcher = StopMatcher(["\n\nUser:"])
    assert [matcher.push(piece) for piece in ["a\n", "\nUse", "d", "!"]] == [
        "a",
        "",
        "\n\nUsed",
        "!",
    ]
    assert matcher.matched is None


def test_nothing_is_held_without_stops() -> None:
    matcher = StopMatcher([])
    assert matcher.push("abc") == "abc"
    assert matcher.flush() == ""


def test_flush_gives_out_the_held_end() -> None:
    assert visible(["abc ST"], ["STOP"]) == ("abc ST", None)


def test_nothing_comes_after_a_match() -> None:
    matcher = StopMatcher(["b"])
    assert [matcher.push("abc"), matcher.push("d"), matcher.flush()] == ["a", "", ""]


@given(
    pieces=st.lists(st.text("ab", max_size=4), max_size=8),
    stops=st.lists(st.text("ab", min_size=1, max_size=3), max_size=3),
    include=st.booleans(),
)
def test_equals_the_definition_however_the_text_is_cut(
    pieces: list[str], stops: list[str], include: bool
) -> None:
    assert visible(pieces, stops, include) == expected("".join(pieces), stops, include)
