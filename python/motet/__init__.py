"""motet runs OpenAI's gpt-oss models inside a Python program.

from motet import LLM

with LLM() as llm:
    print(llm.chat("What is 17 + 25?"))
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from motet.errors import (
    CheckpointError,
    ContextLengthError,
    DeviceError,
    InvalidRequestError,
    ModelClosedError,
    ModelNotFoundError,
    MotetError,
    OutOfMemoryError,
    QueueFullError,
)

if TYPE_CHECKING:
    from motet import harmony
    from motet.llm import LLM
    from motet.metrics import Metrics
    from motet.results import (
        ChatCompletion,
        Completion,
        Delta,
        InvalidToolArguments,
        ModelInfo,
        Timings,
        TokenLogprob,
        ToolCall,
        Usage,
    )
    from motet.sampling import SamplingParams
    from motet.session import Session
    from motet.stream import AsyncStream, Stream
    from motet.tokenizer import Tokenizer

__version__ = "0.1.0"

__all__ = [
    "LLM",
    "AsyncStream",
    "ChatCompletion",
    "CheckpointError",
    "Completion",
    "ContextLengthError",
    "Delta",
    "DeviceError",
    "InvalidRequestError",
    "InvalidToolArguments",
    "Metrics",
    "ModelClosedError",
    "ModelInfo",
    "ModelNotFoundError",
    "MotetError",
    "OutOfMemoryError",
    "QueueFullError",
    "SamplingParams",
    "Session",
    "Stream",
    "Timings",
    "TokenLogprob",
    "Tokenizer",
    "ToolCall",
    "Usage",
    "__version__",
    "harmony",
]

_MODULES = {
    "AsyncStream": "stream",
    "LLM": "llm",
    "Metrics": "metrics",
    "SamplingParams": "sampling",
    "Session": "session",
    "Stream": "stream",
    "Tokenizer": "tokenizer",
}


def __getattr__(name: str) -> Any:
    """Imports the engine and numpy when first used: the errors and the version need neither."""
    if name == "harmony":
        return importlib.import_module("motet.harmony")
    if name not in __all__:
        raise AttributeError(f"module 'motet' has no attribute {name!r}")
    module = importlib.import_module(f"motet.{_MODULES.get(name, 'results')}")
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
