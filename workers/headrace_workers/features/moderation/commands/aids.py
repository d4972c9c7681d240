"""Libraries and models of the detectors that a moderation policy names, in a command's own process."""

from typing import TYPE_CHECKING

from headrace_workers.features.knowledge.commands import embedder_here
from headrace_workers.features.moderation.settings import ModerationSettings
from headrace_workers.runtime.settings import home_of

if TYPE_CHECKING:
    from headrace_workers.core.ports import Generator
    from headrace_workers.features.moderation.moderator import Aids


def aids_here() -> "Aids":
    """Return the aids of this home and environment."""
    from headrace_workers.features.moderation.moderator import Aids

    return Aids(embedder_here, _guard, ModerationSettings.from_env().moderation_key)


def _guard(alias: str) -> "Generator":
    from headrace_workers.features.generation.engines.load_generator import load_generator

    return load_generator(home_of(), alias, needs_logprobs=True)
