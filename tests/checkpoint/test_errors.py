"""The exception classes: caught by builtin names, whole after pickling between processes."""

from __future__ import annotations

import pickle

import pytest

from motet import errors


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.ModelNotFoundError("looked in x"), FileNotFoundError),
        (errors.CheckpointError("bad", file="f", tensor="t", expected="1", found="2"), ValueError),
        (errors.InvalidRequestError("bad", param="top_p", code="c"), ValueError),
        (errors.ContextLengthError("long", n_prompt=5, n_ctx=4), errors.InvalidRequestError),
        (errors.OutOfMemoryError("needs 3 GB"), MemoryError),
        (errors.ModelClosedError("closed"), RuntimeError),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_builtin_base_and_pickling(error: Exception, builtin: type[Exception]) -> None:
    assert isinstance(error, errors.MotetError)
    assert isinstance(error, builtin)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


def test_checkpoint_error_composes_its_message() -> None:
    error = errors.CheckpointError("wrong shape", file="a", tensor="b", expected="1", found="2")
    assert str(error) == "a: b: wrong shape: expected 1, found 2"
    assert str(errors.CheckpointError("wrong")) == "wrong"
