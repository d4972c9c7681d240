"""A feature as one value: what it adds to headrace.

A feature stands in a folder of its own under `features/`, and its value in that folder's `feature.py`. The tuple of all
(`wiring/features.py`) is the only place that names them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


def _nothing() -> Sequence[Any]:
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """What a feature adds. Each part is loaded by a call, so that a process imports only what it runs.

    `routers` returns the FastAPI routers of the gateway, in the order in which they are asked. `commands` returns
    functions that add a command, or a group of commands, to the Typer application that they are given.
    """

    name: str
    routers: Callable[[], Sequence[Any]] = _nothing
    commands: Callable[[], Sequence[Callable[[Any], None]]] = _nothing
