"""Settings of generation."""

from typing import ClassVar

from headrace_workers.core.environment import Variables, number, variable
from headrace_workers.models.engines.engine import Device

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
