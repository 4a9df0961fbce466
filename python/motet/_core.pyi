"""The compiled engine. Private: the public surface is the package motet."""

from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, Literal, final

import numpy as np
import numpy.typing as npt

Precision = Literal["exact", "int8", "f32"]
KvCacheDtype = Literal["auto", "int8"]  # auto: half precision, float32 in that precision

@final
class ModelConfig:
    """Validated hyper-parameters; raises CheckpointError naming the value."""

    def __init__(
        self,
        *,
        num_layers: int,
        hidden_size: int,
        intermediate_size: int,
        num_heads: int,
        num_kv_heads: int,
        head_dim: int,
        vocab_size: int,
        num_experts: int,
        experts_per_token: int,
        sliding_window: int,
        layer_is_sliding: Sequence[bool],
        rms_norm_eps: float,
        swiglu_limit: float,
        max_position_embeddings: int,
        rope_theta: float,
        rope_factor: float,
        rope_beta_fast: float,
        rope_beta_slow: float,
        rope_original_max_position: int,
        rope_truncate: bool,
        experts_mxfp4: bool,
    ) -> None: ...

@final
class Sampling:
    """A request's sampling parameters, as motet.sampling fills them in."""

    def __init__(
        self,
        *,
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int = 0,
        min_p: float = 0.0,
        seed: int = 0,
        presence_penalty: float = 0.0,
        frequency_penalty: float = 0.0,
        repetition_penalty: float = 1.0,
        bias_ids: Sequence[int] = (),
        bias_values: Sequence[float] = (),
        logprobs: int = -1,
        prompt_logprobs: int = -1,
        min_tokens: int = 0,
        stop_ids: Sequence[int] = (),
        logits_processor: Callable[[list[int], npt.NDArray[np.float32]], Any] | None = None,
    ) -> None: ...
    @property
    def temperature(self) -> float: ...
    @property
    def top_p(self) -> float: ...
    @property
    def top_k(self) -> int: ...
    @property
    def min_p(self) -> float: ...
    @property
    def seed(self) -> int: ...
    @property
    def presence_penalty(self) -> float: ...
    @property
    def frequency_penalty(self) -> float: ...
    @property
    def repetition_penalty(self) -> float: ...
    @property
    def bias_ids(self) -> list[int]: ...
    @property
    def bias_values(self) -> list[float]: ...
    @property
    def logprobs(self) -> int: ...
    @property
    def prompt_logprobs(self) -> int: ...
    @property
    def min_tokens(self) -> int: ...
    @property
    def stop_ids(self) -> list[int]: ...

@final
class Event:
    """One token of one request, or its end, or both."""

    @property
    def request(self) -> int: ...
    @property
    def token(self) -> int: ...  # -1 when the event only ends the request
    @property
    def position(self) -> int: ...
    @property
    def logprob(self) -> float: ...  # NaN unless asked for
    @property
    def top(self) -> list[tuple[int, float]]: ...
    @property
    def is_prompt(self) -> bool: ...
    @property
    def finish(self) -> Literal["stop", "length", "cancelled", "timeout", "error"] | None: ...
    @property
    def time(self) -> float: ...  # seconds by the steady clock, as those that follow
    @property
    def submitted(self) -> float: ...
    @property
    def started(self) -> float: ...  # when its first step began; NaN before
    @property
    def cached_tokens(self) -> int: ...  # of the prompt, found in the prefix cache
    @property
    def error(self) -> str: ...  # what went wrong, where finish is "error"

@final
class Engine:
    """Requests in, events out. Every method may be called from any thread.

    Its own thread computes after `start`; without it whoever calls `step` does.
    """

    def __init__(
        self,
        config: ModelConfig,
        tensors: Mapping[str, npt.NDArray[Any]] | None,  # None: made up by the GPU
        *,
        device: int = -1,  # the CPU, or the index of a GPU
        precision: Precision = "exact",
        max_context: int,
        kv_cache_bytes: int,
        threads: int,
        max_batch: int = 1,
        prefix_cache: bool = True,
        speculation: bool = False,
        target_itl: float = 0.0,  # seconds between tokens that prompts respect; 0: none
        kv_cache_dtype: KvCacheDtype = "auto",
        progress: Callable[[float], None] | None = None,
    ) -> None: ...
    def reserve(self, n: int) -> int: ...  # `request` for `submit`, and the n - 1 that follow
    def submit(
        self,
        ids: npt.ArrayLike,
        sampling: Sampling,
        max_new_tokens: int,
        *,
        n: int = 1,
        cache_salt: int = 0,
        timeout: float = ...,  # seconds; default: none
        window: int = 0,  # tokens that may come before they are granted; 0: any number
        prediction: npt.ArrayLike = ...,  # token ids that the answer may resemble
        request: int = -1,  # as reserved
    ) -> int: ...  # id of sample 0; the others follow
    def submit_logits(
        self, ids: npt.ArrayLike, chunk: int = 0, *, request: int = -1
    ) -> tuple[int, npt.NDArray[np.float32]]: ...  # filled when the request ends with "length"
    def cancel(self, request: int) -> None: ...
    def grant(self, request: int, tokens: int) -> None: ...
    def start(self) -> None: ...
    def wait_events(self) -> list[Event]: ...  # [] once stopped
    def stop(self) -> None: ...  # ends all requests as "cancelled"
    def step(self) -> list[Event]: ...
    def logits(self, ids: npt.ArrayLike, chunk: int = 0) -> npt.NDArray[np.float32]: ...
    def metrics(self) -> dict[str, Any]: ...
    def memory(self) -> dict[str, int]: ...
    def audit(self) -> None: ...  # RuntimeError if the pages' accounts do not agree
    @property
    def idle(self) -> bool: ...
    @property
    def isa(self) -> str: ...
    @property
    def threads(self) -> int: ...

def weight_slots(
    config: ModelConfig,
) -> list[tuple[str, Literal["BF16", "U8"], tuple[int, ...]]]: ...
def kv_cache_bytes(
    config: ModelConfig,
    precision: Precision,
    max_context: int,
    max_batch: int,
    kv_cache_dtype: KvCacheDtype = "auto",
    device: int = -1,
) -> int: ...
def cuda_devices() -> list[dict[str, Any]]: ...
def cuda_driver() -> int: ...  # 1000 * major + 10 * minor; 0 without a driver
def cuda_problem() -> str: ...  # why there are no devices; "" where there are
def cuda_memory(
    config: ModelConfig, precision: Precision, device: int, max_context: int, max_batch: int
) -> dict[str, int]: ...
def cpu_features() -> dict[str, bool]: ...
def isas() -> list[str]: ...
def sample(
    logits: npt.ArrayLike,
    sampling: Sampling,
    history: npt.ArrayLike = ...,
    n_prompt: int = 0,
    position: int = 0,
) -> tuple[int, float, list[tuple[int, float]]]: ...
def logprob_of(
    logits: npt.ArrayLike, token: int, k: int = 0
) -> tuple[float, list[tuple[int, float]]]: ...
def peak_read_rate(threads: int) -> float: ...
def peak_multiply_rate(precision: Precision, threads: int) -> float: ...

ops: ModuleType  # single kernels on numpy arrays, for tests and benchmarks
sched: ModuleType  # the scheduler's policies on plain numbers, for tests
