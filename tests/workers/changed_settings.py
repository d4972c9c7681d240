"""Settings of a test that differ from others."""

from typing import Any

from headrace_workers.core.environment import Variables
from headrace_workers.runtime.settings import Settings


def changed(settings: Settings, *parts: Variables, **own: Any) -> Settings:
    """Return these settings with other values: `parts` take the place of the groups of their kinds."""
    kinds = {type(part) for part in parts}
    kept = tuple(part for part in settings.parts if type(part) not in kinds)
    return settings.model_copy(update={**own, "parts": (*kept, *parts)})
