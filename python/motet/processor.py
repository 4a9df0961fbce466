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
    ) -> npt.ArrayLike | None:
        if self.error is not None:
            return None
        self._engine_thread.ident = threading.get_ident()
        try:
            edited = self._processor(token_ids, logits)
            if edited is not None and np.shape(edited) != logits.shape:
                raise InvalidRequestError(
                    f"logits_processor: expected logits of shape {logits.shape} or None,"
                    f" found shape {np.shape(edited)}",
                    param="logits_processor",
                )
        except BaseException as error:
            self.error = error
            return None
        return edited
