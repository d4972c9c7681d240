"""The interfaces of detectors and moderators, and the limits and versions that detectors share."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Final, Protocol

from headrace_schemas import Finding, HeadraceError, ModerationVerdict
from headrace_schemas.errors import Unavailable
from headrace_schemas.moderation import Action

MAX_FINDINGS: Final = 1_000  # what the contract's ModerationVerdict takes; a text with more is blocked
# A detector may stop after so many detections of one category: the moderator then blocks, unless that category is
# allowed anyway.
MAX_DETECTIONS: Final = MAX_FINDINGS + 1


class Source(Protocol):
    """Origin of a finding in a text."""

    @property
    def name(self) -> str:
        """Return the detector's name in findings."""

    @property
    def version(self) -> str:
        """Return the version of its data: another version may find other things."""

    @property
    def categories(self) -> frozenset[str]:
        """Return the categories that it may report."""


class Detector(Source, Protocol):
    """Detector of spans of one hazard. It raises when it cannot say; the output is then held."""

    @property
    def reads_words(self) -> bool:
        """Return True if it looks for words, and so is shown texts in which digits and signs became letters."""

    def detect(self, texts: Sequence[str]) -> list[list["Detection"]]:
        """Return the detections of each text; the i-th list belongs to the i-th text."""


@dataclass(frozen=True, slots=True)
class Detection:
    """A span (in characters) with its category and the detector's confidence in [0, 1]."""

    category: str
    score: float
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Instructions:
    """Instructions that an operator gave a model before it wrote a text: the system prompt, and marks that may be in
    it.
    """

    system: str
    marks: tuple[str, ...] = ()


class Moderator(Protocol):
    """Detectors and a policy together."""

    def moderate(
        self,
        texts: Sequence[str],
        tenants: Sequence[str] | None = None,
        instructions: Sequence[Instructions | None] | None = None,
    ) -> list["Moderation | HeadraceError"]:
        """Return a verdict for each text, by its tenant's policy, or an error: the text must then be held.
        `instructions` are texts that a model's output must not repeat.
        """


@dataclass(frozen=True, slots=True)
class Moderation:
    """Decision about a text: `text` is redacted, or None when blocked. `again`: its model is to be asked for
    another.
    """

    text: str | None
    verdict: ModerationVerdict
    again: bool = False

    @property
    def action(self) -> Action:
        """Return the decision."""
        return self.verdict.action

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Return the findings that the decision rests on."""
        return self.verdict.findings


class NoAnswer(Unavailable):
    """An unusable answer of a guard or endpoint, without its text. `passes`: it may give a usable one the next time."""

    def __init__(self, words: str, *, passes: bool = True) -> None:
        super().__init__(words)
        self.passes = passes


def version_of(package: str) -> str:
    """Return headrace's version, and that of the package whose patterns or numbers a detector uses: `0.1.0+1.5.0`."""
    return with_part(_version(package))


def with_part(part: str) -> str:
    """Return headrace's version, and `part` for the data or model that a detector uses."""
    return f"{_version('headrace')}+{part}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
