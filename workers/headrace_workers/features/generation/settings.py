"""Settings of generation."""

from typing import ClassVar

from headrace_workers.core.environment import Variables, number, variable
from headrace_workers.models.engines.engine import Device
from headrace_workers.models.engines.prefixes import MOST_TOKENS

_READ_BY = "workers that run a model"


class GenerationSettings(Variables):
    """Settings of the engine that runs a model."""

    title: ClassVar[str] = "Generation"

    device: Device = variable("auto", "The device that models run on.", read_by=_READ_BY)
    compute_type: str | None = variable(
        None,
        "The type that weights are computed in: `int8`, `int8_float32`, `float32`, `int8_float16`, `float16` or "
        "`bfloat16`. Unset: what the device does best.",
        read_by=_READ_BY,
    )
    inter_threads: int | None = number(
        None,
        "Generations side by side in one worker, and threads of one that tunes. Unset: as many as there are cores.",
        read_by="workers",
    )
    prefix_tokens: int = number(
        MOST_TOKENS,
        "Tokens of [system prompts that many jobs share](how-to/run-a-large-file.md#share-one-system-prompt) that a "
        "model's worker keeps computed until it ends, of all together: 0.14 MB each for SmolLM2, 0.5 MB for a model of "
        "7 billion parameters in float16. 0: each prompt is read whole.",
        read_by=_READ_BY,
        ge=0,
    )
