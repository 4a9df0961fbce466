"""Prompts as token ids, checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
import numpy.typing as npt

from motet.errors import ContextLengthError, InvalidRequestError

if TYPE_CHECKING:
    from motet.tokenizer import Tokenizer


def prompt_ids(
    prompt: object, param: str, tokenizer: Tokenizer, vocab_size: int
) -> npt.NDArray[np.int32]:
    """int32 [n], n >= 1: the token ids of a prompt, each in the model's vocabulary."""
    if isinstance(prompt, str):
        try:
            ids: list[Any] = list(tokenizer.encode(prompt))
        except InvalidRequestError as error:  # no Unicode; the tokenizer knows no arguments
            message = str(error).replace("text:", f"{param}:", 1)
            raise InvalidRequestError(message, param=param) from None
    elif is_sequence(prompt):
        ids = list(prompt)
    else:
        raise InvalidRequestError(
            f"{param}: expected text or token ids, found {type(prompt).__name__}", param=param
        )
    if not ids:
        raise InvalidRequestError(f"{param}: expected at least one token", param=param)
    # One by one: numpy would convert a list of mixed types silently.
    for position, token_id in enumerate(ids):
        is_integer = isinstance(token_id, int | np.integer) and not isinstance(token_id, bool)
        if not is_integer or not 0 <= token_id < vocab_size:
            raise InvalidRequestError(
                f"{param}: expected text or token ids in 0..{vocab_size - 1},"
                f" found {token_id!r} at {position}",
                param=param,
            )
    return np.array(ids, dtype=np.int32)


def answer_room(n_prompt: int, max_context: int, max_tokens: int | None) -> int:
    """How many tokens an answer may have; raises ContextLengthError for a prompt too long."""
    room = max_context - n_prompt
    if room < 0 or (room == 0 and max_tokens != 0):
        raise ContextLengthError(
            f"the prompt has {n_prompt} tokens, the context {max_context}"
            + (" and needs room for the answer" if room == 0 else ""),
            n_prompt=n_prompt,
            n_ctx=max_context,
        )
    return room if max_tokens is None else min(max_tokens, room)


def is_one_prompt(prompts: object) -> bool:
    """Text or token ids, as opposed to a sequence of such; [] is no prompts at all."""
    if isinstance(prompts, str):
        return True
    if not is_sequence(prompts):
        raise InvalidRequestError(
            f"prompts: expected text, token ids or a list of prompts,"
            f" found {type(prompts).__name__}",
            param="prompts",
        )
    return len(prompts) > 0 and isinstance(prompts[0], int | np.integer)


def is_sequence(value: object) -> TypeGuard[Sequence[Any] | npt.NDArray[Any]]:
    """Whether it has a length; bytes are neither text nor ids."""
    if isinstance(value, np.ndarray):
        return value.ndim > 0
    return isinstance(value, Sequence) and not isinstance(value, bytes)
