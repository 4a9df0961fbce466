"""Every exception motet raises on purpose.

Each class also derives from the builtin that fits it, so that callers who know nothing of motet
(`except ValueError`, `except FileNotFoundError`) still catch the right thing. Attributes have
defaults, so exceptions survive pickling.
"""

from __future__ import annotations

from pathlib import Path


class MotetError(Exception):
    """Base of all errors that motet raises."""


class ModelNotFoundError(MotetError, FileNotFoundError):
    """No model of this name: the message lists each place looked in and how to fetch it."""


class CheckpointError(MotetError, ValueError):
    """A checkpoint's file is damaged or does not fit its configuration.

    `file`, `tensor` (a tensor's name or a configuration key), `expected` and `found` are part of
    the message; those that do not apply are None. What comes out of files is cut short and its
    control characters are escaped: it must not fill or drive a terminal.
    """

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        tensor: str | None = None,
        expected: str | None = None,
        found: str | None = None,
    ) -> None:
        tensor, expected, found = _readable(tensor), _readable(expected), _readable(found)
        where = ": ".join(part for part in (file, tensor) if part is not None)
        detail = ", ".join(
            f"{label} {value}"
            for label, value in (("expected", expected), ("found", found))
            if value is not None
        )
        text = f"{where}: {message}" if where else message
        super().__init__(f"{text}: {detail}" if detail else text)
        self.message = message
        self.file = file
        self.tensor = tensor
        self.expected = expected
        self.found = found

    def in_file(self, file: Path) -> CheckpointError:
        """The same error with the file, which whoever found it did not know."""
        return CheckpointError(
            self.message,
            file=str(file),
            tensor=self.tensor,
            expected=self.expected,
            found=self.found,
        )

    def __reduce__(self) -> tuple[object, ...]:
        # args already hold the composed message: rebuild from it alone, the attributes come back as
        # state.
        return (type(self), self.args, self.__dict__)


def _readable(text: str | None) -> str | None:
    if text is None:
        return None
    short = text if len(text) <= 500 else text[:497] + "..."
    return short if short.isprintable() else ascii(short)[1:-1]


class InvalidRequestError(MotetError, ValueError):
    """A request that can't be served; `param` names the argument, `code` is OpenAI's code."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class ContextLengthError(InvalidRequestError):
    """The prompt has more tokens (`n_prompt`) than the context has room for (`n_ctx`)."""

    def __init__(
        self,
        message: str,
        *,
        n_prompt: int = 0,
        n_ctx: int = 0,
        param: str | None = "prompt",
        code: str | None = "context_length_exceeded",
    ) -> None:
        super().__init__(message, param=param, code=code)
        self.n_prompt = n_prompt
        self.n_ctx = n_ctx


class OutOfMemoryError(MotetError, MemoryError):
    """What was asked for does not fit into memory; the message says what would."""


class DeviceError(MotetError, RuntimeError):
    """A device that is not there, is too old, or has failed; the message says which and why."""


class ModelClosedError(MotetError, RuntimeError):
    """The model was used after `close()`, or in a child of the process that loaded it."""


class QueueFullError(MotetError):
    """`max_queue` requests wait already (`waiting`); the one refused was not started. HTTP 429."""

    def __init__(self, message: str, *, max_queue: int = 0, waiting: int = 0) -> None:
        super().__init__(message)
        self.max_queue = max_queue
        self.waiting = waiting
