"""A short run of the fuzz; `python -m tests.harmony.fuzz` is the long one."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harmony import fuzz


def test_random_and_mutated_streams() -> None:
    counts = fuzz.run(20_000, seed=1)
    assert counts["random"] > 3000
    assert counts["mutated"] > 3000
    assert counts["valid"] > 1000


_TOKENS = st.one_of(
    st.sampled_from(sorted(fuzz.TOY.special_tokens.values())),
    st.sampled_from(fuzz.TOY.text_tokens),
    st.sampled_from(fuzz.TOY.words),
)


@settings(max_examples=300, deadline=None)
@given(opened=st.booleans(), ids=st.lists(_TOKENS, max_size=40))
def test_any_stream(opened: bool, ids: list[int]) -> None:
    fuzz.check(opened, ids)
