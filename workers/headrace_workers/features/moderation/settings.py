"""Settings of moderation."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, ClassVar

from headrace_schemas.errors import ConfigurationError
from headrace_workers.core.environment import Variables, parsed, secret, variable

_READ_BY = "workers that moderate"


class Switch(StrEnum):
    """State of something that may be done."""

    OFF = "off"
    ON = "on"


def _key(text: str) -> str:
    """Return a key without the space around it. ConfigurationError leaves it out."""
    key = text.strip()
    if not key.isascii() or not key.isprintable():
        raise ConfigurationError("HEADRACE_MODERATION_KEY holds what no header may: a key is one line of ASCII")
    return key


class ModerationSettings(Variables):
    """Settings of moderation."""

    title: ClassVar[str] = "Moderation"

    policy: Path | None = variable(
        None,
        "The moderation policy: a TOML file that processes follow when it changes. Unset: the policy in the package. "
        "See [set a moderation policy](how-to/set-a-moderation-policy.md).",
        read_by="bridges, workers, gateways and commands",
    )
    screen: Switch = variable(
        Switch.OFF,
        "Whether the prompts of jobs that do not say (`screen`) are moderated before a model runs. The policy may ask "
        "for it, too.",
        read_by="bridges, workers and gateways",
    )
    detector_time: float = 10.0  # seconds for a group of texts, and one more for each 10,000 characters
    moderation_key: Annotated[str | None, parsed(_key)] = secret(
        None,
        "The key of the endpoint that the moderation policy "
        "[names](reference/moderation-policy.md#other-detectors), if it needs one.",
        read_by=f"{_READ_BY} and commands",
    )
