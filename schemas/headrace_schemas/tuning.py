"""How a model is tuned, and what came of it."""

from typing import Annotated, Final

from pydantic import Field, StringConstraints

from headrace_schemas.limits import INTEGRAL, SHA256, ModuleName, Name
from headrace_schemas.model import Value

MAX_QUANTIZATIONS: Final = 4
MAX_METRICS: Final = 64
_MODULES: Final = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

Quantizations = Annotated[tuple[Name, ...], Field(min_length=1, max_length=MAX_QUANTIZATIONS)]
Metrics = Annotated[dict[Name, float], Field(max_length=MAX_METRICS)]
Sha256 = Annotated[str, StringConstraints(pattern=SHA256)]


class Lora(Value):
    """The low-rank matrices that are trained beside the weights of the base."""

    rank: Annotated[int, Field(ge=1, le=256, description="The rank of the matrices."), INTEGRAL] = 8
    alpha: Annotated[int, Field(ge=1, le=1_024, description="Their weight, multiplied by the rank."), INTEGRAL] = 16
    targets: Annotated[
        tuple[ModuleName, ...],
        Field(min_length=1, max_length=32, description="The layers that get such matrices."),
    ] = _MODULES
