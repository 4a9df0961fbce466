"""A caller's logits processor, as the engine may call it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from motet.errors import InvalidRequestError

if TYPE_CHECKING:
    from motet.runner import EngineThread
    from motet.sampling import LogitsProcessor


class GuardedProcessor:
    """Keeps what the processor raises for the reader of its request.

    The engine calls it in its own thread, where nobody would catch it.
    """

    def __init__(self, processor: LogitsProcessor, engine_thread: EngineThread) -> None:
        self._processor = processor
        self._engine_thread = engine_thread
        self.error: BaseException | None = None

    def __call__(
        self, token_ids: Sequence[int], logits: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32] | None:
        if self.error is not None:
            return None
        self._engine_thread.ident = threading.get_ident()
        shape = logits.shape
        try:
            edited = self._processor(token_ids, logits)
            return _as_logits(logits if edited is None else edited, shape)
        except (StopIteration, StopAsyncIteration) as error:
            # Whoever iterates over a stream would take it for the stream's end.
            name = type(error).__name__
            self.error = RuntimeError(f"the logits_processor raised {name}")
            self.error.__cause__ = error
        except BaseException as error:
            self.error = error
        return None


def _as_logits(edited: npt.ArrayLike, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """float32 of the shape; no text, objects or complex numbers become floats."""
    try:
        given = np.asarray(edited)
        array = given.astype(np.float32, casting="same_kind", copy=False)
        found = f"shape {given.shape}"
    except (TypeError, ValueError):  # ValueError: rows of different lengths
        found = f"{type(edited).__name__} of something else"
    else:
        if array.shape == shape:
            return array
    raise InvalidRequestError(
        f"logits_processor: expected None or numbers of shape {shape}, found {found}",
        param="logits_processor",
    )
