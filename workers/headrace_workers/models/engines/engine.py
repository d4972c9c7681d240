"""Engines: how an engine loads a model and counts its tokens, and the device, number format and threads that a model
runs with on this machine.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeVar

from headrace_schemas.errors import ConfigurationError
from headrace_workers.core.environment import environment
from headrace_workers.models import ENGINES

if TYPE_CHECKING:
    from headrace_workers.models.registry import ModelCard

Device = Literal["auto", "cpu", "cuda"]

_VNNI: Final = frozenset({"avx512_vnni", "avx_vnni"})  # as Linux names the instructions that multiply int8 exactly
# Values of ONEDNN_MAX_CPU_ISA that lower the kernels to ones without such instructions.
_WITHOUT_VNNI: Final = frozenset({"SSE41", "AVX", "AVX2", "AVX512_CORE"})

Kind = Literal["generator", "embedder"]
M = TypeVar("M")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The hardware: CPU cores that we may use, CUDA devices, and the number formats of each kind of device."""

    cores: int
    cuda_devices: int
    compute_types: Callable[[str], frozenset[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """The decision. `reason` is for the log; batches hold at most `batch_tokens` and `batch_rows`."""

    device: Literal["cpu", "cuda"]
    compute_type: str
    inter_threads: int
    intra_threads: int
    batch_tokens: int
    batch_rows: int
    reason: str


def choose_placement(
    stored: str,
    machine: Machine,
    *,
    device: Device = "auto",
    compute_type: str | None = None,
    inter_threads: int | None = None,
) -> Placement:
    """Place a model whose weights are stored as `stored`. ConfigurationError when the machine cannot do what is asked.

    On CPU each generation takes one thread (`intra_threads` 1): OpenMP threads that contend for a core are many times
    slower than none, while several generations side by side share the weights and scale with the cores.
    """
    if device == "cuda" and machine.cuda_devices == 0:
        raise ConfigurationError("device 'cuda' is asked for, but no CUDA device is visible; use 'cpu' or 'auto'")
    chosen: Literal["cpu", "cuda"] = "cpu" if device == "cpu" or machine.cuda_devices == 0 else "cuda"
    supported = machine.compute_types(chosen)
    if compute_type is not None and compute_type not in supported:
        raise ConfigurationError(
            f"compute type {compute_type!r} does not work on {chosen} here; possible: {', '.join(sorted(supported))}"
        )
    kind = compute_type or _best_type(stored, chosen, supported)
    how = "asked for" if compute_type else f"best for weights stored as {stored}"
    on_gpu = chosen == "cuda"
    threads = inter_threads or (1 if on_gpu else machine.cores)
    text = f"{machine.cuda_devices} CUDA device(s)" if on_gpu else f"{machine.cores} core(s), no CUDA device in use"
    return Placement(
        device=chosen,
        compute_type=kind,
        inter_threads=threads,
        intra_threads=1,
        # CPU: 16 rows are as fast as 32 when prompts are alike, and faster when they are not. A GPU wants far more.
        batch_tokens=16_384 if on_gpu else 2_048,
        batch_rows=128 if on_gpu else 16,
        reason=f"{chosen} ({text}), {kind} ({how}), {threads} generation(s) at once",
    )


def _best_type(stored: str, device: str, supported: frozenset[str]) -> str:
    wanted: tuple[str, ...]
    if device == "cpu":
        wanted = ("int8", "int8_float32", "float32") if stored.startswith("int8") else ("float32",)
    elif stored.startswith("int8"):
        wanted = ("int8_float16", "int8", "float16", "float32")
    else:
        wanted = (*(("bfloat16",) if stored == "bfloat16" else ()), "float16", "float32")
    for kind in wanted:
        if kind in supported:
            return kind
    raise ConfigurationError(
        f"weights stored as {stored} cannot be computed on {device}; possible: {', '.join(sorted(supported))}"
    )


def int8_saturates(cpuinfo: Path = Path("/proc/cpuinfo"), env: Mapping[str, str] | None = None) -> bool:
    """Return True if this CPU multiplies int8 in pairs that overflow where weights go up to ±127 (see `quantization`).

    Such are x86 processors without VNNI. Where the system does not say what the processor has, the answer is False.
    """
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    if "sse2" not in flags:  # another architecture
        return False
    return not _VNNI & set(flags) or environment(env).get("ONEDNN_MAX_CPU_ISA", "").upper() in _WITHOUT_VNNI


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """Settings of this process for a model that it loads. An engine ignores those that mean nothing to it.

    `inter_threads` is how many batches run at once (all cores when absent); `compute_type` overrides the choice of
    number format. `redis` is where workers
    share the rates of a provider's key, under names that begin with `prefix`.
    """

    inter_threads: int | None = None
    device: Device = "auto"
    compute_type: str | None = None
    redis: str | None = None
    prefix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine(Generic[M, T]):
    """An engine that model cards name. `M` is a loaded model, `T` counts its tokens without loading its weights.

    `load` raises ConfigurationError when the model, or this machine, cannot do what is asked; `counter` does so when
    the tokenizer cannot be used. Without a `counter`, the sizes of prompts are guessed.
    """

    name: str
    kind: Kind
    load: "Callable[[ModelCard, Path, LoadOptions], M]"
    counter: "Callable[[ModelCard, Path], T] | None" = None
    logprobs: bool = False
    """It gives the probabilities of labels (`Generator.label_probabilities`)."""
    batching: bool = False
    """It computes several prompts of one call together."""
    grammar: bool = False
    """It can be held to a grammar or a JSON schema."""
    remote: bool = False
    """It sends prompts to another machine."""
    client: str | None = None
    """The package that it asks its provider with. headrace's extra of this name installs it."""
    lacks: frozenset[str] = frozenset()
    """Names of sampling parameters that it never sends: a job that sets one is refused."""


def need_client(engine: str, alias: str) -> None:
    """Raise ConfigurationError if this engine's client is not installed, which the model `alias` needs."""
    client = engines("generator")[engine].client
    if client is None:
        return
    with suppress(ImportError):
        if find_spec(client) is not None:
            return
    raise missing_client(client, alias)


def missing_client(client: str, alias: str) -> ConfigurationError:
    """Return the error of a model whose provider's client is not installed."""
    return ConfigurationError(f"{alias} needs the {client} client: pip install 'headrace[{client}]'")


@cache
def engines(kind: Kind) -> Mapping[str, Engine[Any, Any]]:
    """Return the engines of all features for models of this kind, by their names."""
    return {engine.name: engine for added in ENGINES.values() for engine in added if engine.kind == kind}
