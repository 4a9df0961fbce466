"""The sampler against numpy: cuts, ties, odd logits, penalties, seeds, logprobs, distribution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from motet import _core
from motet.errors import InvalidRequestError
from tests.reference import sampler as oracle

INF = float("inf")
NAN = float("nan")
NO_TOKEN = -1
KINDS = ("normal", "ties", "crowded", "peaked", "masked")
VOCABULARIES = (1, 2, 3, 17, 1000, 201088)


def row_of(**fields: Any) -> _core.Sampling:
    return _core.Sampling(**fields)


def draw(
    logits: npt.ArrayLike,
    history: Sequence[int] = (),
    n_prompt: int = 0,
    position: int = 0,
    **fields: Any,
) -> int:
    array = np.asarray(logits, np.float32)
    ids = np.asarray(history, np.int32)
    return _core.sample(array, row_of(**fields), ids, n_prompt, position)[0]


def draws(logits: npt.ArrayLike, n: int, **fields: Any) -> list[int]:
    array, row, history = np.asarray(logits, np.float32), row_of(**fields), np.zeros(0, np.int32)
    return [_core.sample(array, row, history, 0, position)[0] for position in range(n)]


def random_logits(vocab: int, seed: int, kind: str) -> oracle.Logits:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, vocab).astype(np.float32)
    if kind == "ties":
        logits = np.round(logits)
    elif kind == "crowded":  # within 64 ulp of each other, and a few far below
        logits = (8 + rng.integers(0, 64, vocab) * 2.0**-20).astype(np.float32)
        logits[rng.random(vocab) < 0.1] = -300
    elif kind == "peaked":
        logits[rng.integers(0, vocab, 4)] += 15
    elif kind == "masked":
        logits[rng.random(vocab) < 0.7] = -INF
        logits[rng.random(vocab) < 0.1] = NAN
        logits[rng.integers(0, vocab)] = 1
    return logits


rows = st.builds(
    oracle.Row,
    temperature=st.sampled_from([0.05, 0.7, 1.0, 1.3, 5.0, 100.0]),
    top_p=st.one_of(st.just(1.0), st.floats(0.01, 0.9999)),
    top_k=st.sampled_from([0, 0, 1, 2, 5, 40, 500, 10**6]),
    min_p=st.one_of(st.just(0.0), st.floats(1e-4, 1.0)),
    seed=st.integers(0, 2**64 - 1),
    presence_penalty=st.sampled_from([0.0, -1.5, 0.5]),
    frequency_penalty=st.sampled_from([0.0, -0.5, 0.25]),
    repetition_penalty=st.sampled_from([1.0, 0.8, 1.2]),
)


@settings(max_examples=400, deadline=None)
@given(
    rows,
    st.sampled_from(VOCABULARIES[:-1]),
    st.sampled_from(KINDS),
    st.integers(0, 2**31),
    st.integers(0, 2**40),
    st.integers(0, 60),
)
def test_draws_what_the_oracle_draws(
    row: oracle.Row, vocab: int, kind: str, seed: int, position: int, n_history: int
) -> None:
    logits = random_logits(vocab, seed, kind)
    history = np.random.default_rng(seed + 1).integers(0, vocab, n_history).astype(np.int32)
    n_prompt = n_history // 3
    kept = oracle.keep(oracle.edit(logits, row, history.tolist(), n_prompt), row)
    assume(kept.margin > 1e-5)
    token = _core.sample(logits, row_of(**asdict(row)), history, n_prompt, position)[0]
    assert token in oracle.candidates(kept, oracle.uniform(row.seed, position))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "row",
    [
        oracle.Row(),
        oracle.Row(temperature=0.6, top_p=0.95, seed=3),
        oracle.Row(temperature=20.0, top_p=0.5, seed=4),
        oracle.Row(top_k=50, top_p=0.93, min_p=0.01, seed=5),
        oracle.Row(top_k=100_000, seed=6),
    ],
)
def test_draws_what_the_oracle_draws_at_full_vocabulary(row: oracle.Row, kind: str) -> None:
    logits = random_logits(VOCABULARIES[-1], 11, kind)
    kept = oracle.keep(logits, row)
    assert kept.margin > 1e-8
    for position, token in enumerate(draws(logits, 20, **asdict(row))):
        assert token in oracle.candidates(kept, oracle.uniform(row.seed, position))


@pytest.mark.parametrize("vocab", VOCABULARIES)
def test_greedy_is_argmax_with_ties_to_the_lower_id(vocab: int) -> None:
    logits = np.round(random_logits(vocab, vocab, "normal"))
    assert draw(logits, temperature=0.0) == int(np.argmax(logits))
    assert draw(np.zeros(vocab), temperature=0.0) == 0


def test_greedy_takes_penalties_and_bias() -> None:
    logits = [1.0, 3.0, 2.9, -5.0]
    assert draw(logits, temperature=0) == 1
    assert draw(logits, temperature=0, bias_ids=[3], bias_values=[9.0]) == 3
    assert draw(logits, [1], 0, temperature=0, presence_penalty=0.5) == 2
    assert draw(logits, [1], 1, temperature=0, presence_penalty=0.5) == 1  # prompt does not count
    assert draw(logits, [1], 1, temperature=0, repetition_penalty=1.1) == 2  # here it does
    assert draw([-1.0, -1.05], [0], 0, temperature=0, repetition_penalty=1.2) == 1
    assert draw(logits, [1, 1], 0, temperature=0, frequency_penalty=0.06) == 2
    assert draw(logits, [1], 0, temperature=0, frequency_penalty=0.06) == 1


def test_min_tokens_holds_stop_ids_back() -> None:
    fields: dict[str, Any] = {"temperature": 0.0, "min_tokens": 2, "stop_ids": [1, 2]}
    logits = [0.0, 5.0, 4.0, 1.0]
    assert draw(logits, [0, 0, 3], 2, **fields) == 3
    assert draw(logits, [0, 0, 3, 3], 2, **fields) == 1


def test_cut_among_equal_logits_keeps_the_lower_ids() -> None:
    assert set(draws([0, 1, 1, 1, 1, 0], 200, top_k=2)) == {1, 2}
    assert set(draws(np.zeros(10), 300, top_p=0.3)) == {0, 1, 2}
    assert set(draws(np.zeros(10), 300, top_p=0.31)) == {0, 1, 2, 3}
    assert set(draws([0.0, -0.0, -0.0, 0.0], 200, top_k=2)) == {0, 1}


def test_each_cut_keeps_exactly_its_tokens() -> None:
    logits = np.log([0.05, 0.4, 0.15, 0.3, 0.1])
    assert set(draws(logits, 400, top_k=3)) == {1, 2, 3}
    assert set(draws(logits, 400, top_p=0.69)) == {1, 3}
    assert set(draws(logits, 400, top_p=0.71)) == {1, 2, 3}
    assert set(draws(logits, 400, min_p=0.3)) == {1, 2, 3}
    assert set(draws(logits, 400, min_p=1.0)) == {1}
    # top_p counts what min_p and top_k left: 0.4 / 0.7 is under 0.6.
    assert set(draws(logits, 400, top_k=2, top_p=0.57)) == {1}
    assert set(draws(logits, 400, top_k=2, top_p=0.6)) == {1, 3}
    assert set(draws(logits, 400, min_p=0.7, top_p=0.57)) == {1}
    # min_p comes after temperature.
    assert set(draws(logits, 900, min_p=0.3, temperature=2.0)) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_nan_and_infinities(temperature: float) -> None:
    def tokens(logits: Sequence[float], **fields: Any) -> set[int]:
        return set(draws(logits, 100, temperature=temperature, **fields))

    assert tokens([NAN, 1, NAN]) == {1}
    assert tokens([-INF, -INF, -3e38]) == {2}
    assert tokens([3e38, -3e38]) == {0}
    assert tokens([NAN, -INF, NAN]) == {NO_TOKEN}
    assert tokens([-INF] * 5, top_k=2, top_p=0.5, min_p=0.1) == {NO_TOKEN}
    assert tokens([1, INF, 2, INF, NAN]) == ({1} if temperature == 0 else {1, 3})
    assert tokens([1, INF, 2, INF], top_k=1) == {1}
    assert tokens([NAN] * 2000 + [1]) == {2000}


@pytest.mark.parametrize("temperature", [1e-5, 1e-4, 1e300])
def test_extreme_temperatures(temperature: float) -> None:
    seen = set(draws([0.0, 5.0, -INF, 4.9], 200, temperature=temperature))
    assert seen == ({0, 1, 3} if temperature > 1 else {1})


def test_generator_gives_the_published_answers() -> None:
    assert oracle.philox([0] * 4, [0] * 2) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    counter, key = [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], [0xA4093822, 0x299F31D0]
    answer = [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]
    assert oracle.philox(counter, key) == answer


@pytest.mark.parametrize("seed", [0, 1, 2**32, 2**64 - 1])
def test_generator_equals_the_oracle(seed: int) -> None:
    logits = np.zeros(1 << 16)
    for position in (0, 1, 7, 2**32, 2**40 + 5):
        expected = int(oracle.uniform(seed, position) * (1 << 16))
        assert draw(logits, position=position, seed=seed) == expected


def test_draw_depends_on_seed_and_position_alone() -> None:
    logits = random_logits(1000, 5, "normal")
    first = draws(logits, 50, seed=9)
    draws(random_logits(17, 1, "ties"), 30, top_p=0.5)  # other calls in between change nothing
    assert draws(logits, 50, seed=9) == first
    assert draws(logits, 50, seed=10) != first
    assert len(set(first)) > 10


@pytest.mark.parametrize(
    "row",
    [oracle.Row(seed=1), oracle.Row(temperature=1.7, top_p=0.9, seed=2), oracle.Row(top_k=12)],
)
@pytest.mark.parametrize("kind", ["normal", "ties"])
def test_distribution(row: oracle.Row, kind: str) -> None:
    logits = random_logits(40, 21, kind)
    kept = oracle.keep(logits, row)
    n = 20_000
    counts = np.bincount(draws(logits, n, **asdict(row)), minlength=40)
    assert counts[kept.ids].sum() == n
    expected = kept.probabilities * n
    common = expected >= 5
    chi_square = float((((counts[kept.ids] - expected) ** 2) / expected)[common].sum())
    freedom = int(common.sum())
    # Five standard deviations; the seeds are fixed, so this can't be a matter of luck.
    assert chi_square < freedom + 5 * np.sqrt(2 * freedom)


@pytest.mark.parametrize("vocab", VOCABULARIES)
@pytest.mark.parametrize("kind", ["normal", "ties", "masked"])
def test_logprobs(vocab: int, kind: str) -> None:
    logits = random_logits(vocab, vocab + 1, kind)
    expected = oracle.log_softmax(logits)
    clean = np.where(np.isnan(logits), -INF, logits)
    order = [int(i) for i in oracle.ranked(clean) if clean[i] > -INF][:20]
    for k in (0, 1, 5, 20):
        token, logprob, top = _core.sample(logits, row_of(logprobs=k), np.zeros(0, np.int32), 0, 3)
        assert logprob == pytest.approx(expected[token], abs=2e-6)
        assert [entry[0] for entry in top] == order[:k]
        assert [entry[1] for entry in top] == pytest.approx(expected[order[:k]].tolist(), abs=2e-6)
    for chosen in {0, vocab // 2, vocab - 1}:
        logprob, top = _core.logprob_of(logits, chosen, 2)
        assert logprob == pytest.approx(expected[chosen], abs=2e-6)
        assert [entry[0] for entry in top] == order[:2]


def test_logprobs_are_those_of_the_model() -> None:
    logits = np.array([1.0, 2.0, 3.0], np.float32)
    row = row_of(temperature=0.0, bias_ids=[0], bias_values=[100.0], logprobs=1, top_k=1)
    token, logprob, top = _core.sample(logits, row, np.zeros(0, np.int32), 0, 0)
    expected = oracle.log_softmax(logits)
    assert token == 0
    assert logprob == pytest.approx(expected[0], abs=1e-6)
    assert top[0][0] == 2
    assert np.isnan(_core.sample(logits, row_of(), np.zeros(0, np.int32), 0, 0)[1])


def test_logprobs_of_odd_logits() -> None:
    empty = np.zeros(0, np.int32)
    row = row_of(logprobs=3)
    token, logprob, top = _core.sample(np.full(3, -INF), row, empty, 0, 0)
    assert (token, top) == (NO_TOKEN, [])
    assert np.isnan(logprob)
    token, logprob, top = _core.sample(np.array([INF, 0, INF], np.float32), row, empty, 0, 0)
    assert token in (0, 2)
    assert logprob == pytest.approx(np.log(0.5))
    assert [entry[0] for entry in top] == [0, 2, 1]
    assert [entry[1] for entry in top] == pytest.approx([np.log(0.5), np.log(0.5), -np.inf])
    assert _core.logprob_of(np.array([NAN, 0], np.float32), 0, 0) == (-np.inf, [])


def test_logits_processor_edits_or_replaces() -> None:
    seen: list[tuple[list[int], int]] = []

    def edit(tokens: Sequence[int], logits: oracle.Logits) -> None:
        seen.append((list(tokens), logits.size))
        logits[2] = 100

    def replace(tokens: Sequence[int], logits: oracle.Logits) -> list[float]:
        return [0.0, 0.0, 0.0, 50.0]

    logits = np.zeros(4, np.float32)
    assert draw(logits, [3, 1], 1, logits_processor=edit) == 2
    assert draw(logits, logits_processor=replace) == 3
    assert seen == [([3, 1], 4)]
    assert not logits.any()


def test_logits_processor_errors_reach_the_caller() -> None:
    def fail(tokens: Sequence[int], logits: oracle.Logits) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        draw([0.0, 1.0], logits_processor=fail)
    with pytest.raises(InvalidRequestError, match=r"logits_processor.*\(2,\).*\(3,\)"):
        draw([0.0, 1.0], logits_processor=lambda tokens, logits: np.zeros(3))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"bias_ids": [4], "bias_values": [1.0]}, "logit_bias"),
        ({"bias_ids": [-1], "bias_values": [1.0]}, "logit_bias"),
        ({"bias_ids": [1], "bias_values": []}, "logit_bias"),
        ({"stop_ids": [4]}, "stop_token_ids"),
        ({"history": [4]}, "history"),
        ({"history": [-1]}, "history"),
        ({"history": [1], "n_prompt": 2}, "n_prompt"),
    ],
)
def test_ids_outside_the_vocabulary(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequestError) as error:
        draw([0.0] * 4, **fields)
    assert error.value.param == param


def test_shape_of_logits() -> None:
    for shape in ((0,), (2, 2)):
        with pytest.raises(InvalidRequestError, match="logits"):
            _core.sample(np.zeros(shape, np.float32), row_of(), np.zeros(0, np.int32), 0, 0)
