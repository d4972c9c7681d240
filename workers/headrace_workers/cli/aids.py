"""What detectors that a moderation policy names work with, in a command's own process."""

from typing import TYPE_CHECKING

from headrace_workers.cli.knowledge import embedder_here
from headrace_workers.settings import home_of, moderation_key

if TYPE_CHECKING:
    from headrace_workers.moderation.moderator import Aids
    from headrace_workers.ports import Generator


def aids_here() -> "Aids":
    """Of this home and environment."""
    from headrace_workers.moderation.moderator import Aids

    return Aids(embedder_here, _guard, moderation_key())


def _guard(alias: str) -> "Generator":
    from headrace_workers.engines.load import load_generator

    return load_generator(home_of(), alias)
