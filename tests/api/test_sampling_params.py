"""SamplingParams: what it accepts, what it refuses and how, and the row it compiles to."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, fields
from typing import Any

import numpy as np
import pytest

from motet.errors import InvalidRequestError
from motet.options import SamplingOptions
from motet.sampling import MAX_STOP_STRINGS, SamplingParams, compile_sampling


def row_of(default_seed: int = 77, **fields: Any) -> Any:
    params = SamplingParams(**fields)
    return compile_sampling(params, vocab_size=100, eos_ids=(7, 9), default_seed=default_seed)


def test_defaults_compile_to_plain_sampling() -> None:
    row = row_of()
    assert (row.temperature, row.top_p, row.top_k, row.min_p) == (1.0, 1.0, 0, 0.0)
    assert (row.presence_penalty, row.frequency_penalty, row.repetition_penalty) == (0.0, 0.0, 1.0)
    assert (row.logprobs, row.prompt_logprobs, row.min_tokens) == (-1, -1, 0)
    assert (row.bias_ids, row.bias_values, row.stop_ids, row.seed) == ([], [], [7, 9], 77)


def test_fields_reach_the_row() -> None:
    row = row_of(
        temperature=0.25,
        top_p=0.3,
        top_k=40,
        min_p=0.125,
        seed=5,
        presence_penalty=0.5,
        frequency_penalty=-0.25,
        repetition_penalty=1.5,
        logit_bias={3: -100, np.int64(99): 0.5},
        logprobs=0,
        prompt_logprobs=20,
        min_tokens=2,
        stop_token_ids=[9, 4],
    )
    assert (row.temperature, row.top_p, row.top_k, row.min_p, row.seed) == (0.25, 0.3, 40, 0.125, 5)
    assert (row.presence_penalty, row.frequency_penalty, row.repetition_penalty) == (
        0.5,
        -0.25,
        1.5,
    )
    assert (row.bias_ids, row.bias_values) == ([3, 99], [-100.0, 0.5])
    assert (row.logprobs, row.prompt_logprobs, row.min_tokens) == (0, 20, 2)
    assert row.stop_ids == [7, 9, 4]


def test_seeds_of_any_sign_and_the_default() -> None:
    assert row_of(seed=-1).seed == 2**64 - 1
    assert row_of(seed=2**64 - 1).seed == 2**64 - 1
    assert row_of(seed=0).seed == 0
    assert row_of(default_seed=2**70 + 3).seed == 3


def test_ignore_eos_leaves_the_callers_stop_tokens() -> None:
    assert row_of(ignore_eos=True, stop_token_ids=(4,)).stop_ids == [4]


def test_values_are_normalised() -> None:
    numpy: dict[str, Any] = {
        "temperature": np.float32(0.5),
        "top_k": np.int32(3),
        "stop_token_ids": np.array([1, 2]),
    }
    params = SamplingParams(**numpy, stop="x")
    assert (type(params.temperature), params.temperature) == (float, 0.5)
    assert (type(params.top_k), params.top_k) == (int, 3)
    assert (params.stop, params.stop_token_ids) == (("x",), (1, 2))
    assert type(SamplingParams(temperature=0).temperature) is float


def test_merged_validates_and_keeps_the_rest() -> None:
    params = SamplingParams(temperature=0.5, stop=["a"], logit_bias={1: 2.0})
    merged = params.merged(top_k=3)
    assert merged == SamplingParams(temperature=0.5, stop=["a"], logit_bias={1: 2.0}, top_k=3)
    assert params.top_k == 0
    with pytest.raises(InvalidRequestError, match="top_p"):
        params.merged(top_p=2)
    with pytest.raises(TypeError, match="temprature"):
        params.merged(temprature=1)


def test_frozen_keyword_only_and_picklable() -> None:
    params = SamplingParams(logit_bias={1: 1.0}, stop=("a", "b"))
    assert pickle.loads(pickle.dumps(params)) == params
    with pytest.raises(FrozenInstanceError):
        params.top_k = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        SamplingParams(10)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="max_new_tokens"):
        SamplingParams(max_new_tokens=1)  # type: ignore[call-arg]


def test_the_mapping_given_may_change_afterwards() -> None:
    bias = {1: 1.0}
    params = SamplingParams(logit_bias=bias)
    bias[2] = float("nan")
    assert params.logit_bias == {1: 1.0}


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("param", "value"),
    [
        *(("temperature", bad) for bad in (-0.1, 100.5, NAN, INF, "1", None, True, 10**400, [1])),
        *(("top_p", bad) for bad in (0, 0.0, 1.01, -1, NAN, "0.5", None)),
        *(("min_p", bad) for bad in (-0.01, 1.01, NAN, None)),
        *(("top_k", bad) for bad in (-1, 1.0, 2**31, True, "5", None)),
        *(("presence_penalty", bad) for bad in (-2.1, 2.1, NAN, None)),
        *(("frequency_penalty", bad) for bad in (-2.1, 2.1, INF, None)),
        *(("repetition_penalty", bad) for bad in (0, -1, NAN, INF, 1e-300, None)),
        *(("max_tokens", bad) for bad in (-1, 1.5, "9", False)),
        *(("min_tokens", bad) for bad in (-1, None, 2.0)),
        *(("seed", bad) for bad in (-(2**63) - 1, 2**64, 1.0, "x", True)),
        *(("stop", bad) for bad in ("", [""], ["a", 1], None, 5, b"a", ["a"] * 65)),
        *(("stop_token_ids", bad) for bad in (5, "12", [-1], [1.0], [True], None)),
        *(("logprobs", bad) for bad in (-1, 21, True, 1.0)),
        *(("prompt_logprobs", bad) for bad in (-1, 21, True)),
        *(("logit_bias", bad) for bad in ({1: NAN}, {1: 101}, {1: None}, {"1": 1.0}, {-1: 1.0})),
        *(("logit_bias", bad) for bad in ([1], {True: 1.0}, {1.0: 1.0})),
        *(("include_stop_str_in_output", bad) for bad in (1, None, "yes")),
        *(("ignore_eos", bad) for bad in (0, None)),
        ("logits_processor", 3),
    ],
)
def test_bad_values_name_the_argument_expected_and_found(param: str, value: Any) -> None:
    with pytest.raises(InvalidRequestError, match=rf"^{param}: expected .+, found .+") as error:
        SamplingParams(**{param: value})
    assert error.value.param == param
    assert len(str(error.value)) < 500


def test_an_integer_too_long_to_print() -> None:
    with pytest.raises(InvalidRequestError, match="found int too long to show"):
        SamplingParams(top_k=10**5000)


def test_limits_themselves_are_allowed() -> None:
    SamplingParams(temperature=100, top_p=1, min_p=1, presence_penalty=-2, frequency_penalty=2)
    SamplingParams(stop=["a"] * MAX_STOP_STRINGS, logprobs=20, prompt_logprobs=0, max_tokens=0)
    SamplingParams(logit_bias={0: -100, 1: 100}, repetition_penalty=0.01, seed=-(2**63))


def test_min_tokens_over_max_tokens() -> None:
    with pytest.raises(InvalidRequestError, match="at most max_tokens = 3, found 4") as error:
        SamplingParams(max_tokens=3, min_tokens=4)
    assert error.value.param == "min_tokens"


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"logit_bias": {100: 1.0}}, "logit_bias"), ({"stop_token_ids": [100]}, "stop_token_ids")],
)
def test_ids_outside_the_vocabulary(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequestError, match="vocabulary's 100, found 100") as error:
        row_of(**fields)
    assert error.value.param == param


def test_calls_take_every_field_by_name() -> None:
    assert set(SamplingOptions.__annotations__) == {field.name for field in fields(SamplingParams)}
