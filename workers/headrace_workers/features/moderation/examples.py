"""Labelled texts that train a head, as JSON lines: the text, its source, and its labels."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import Field, ValidationError, model_validator

from headrace_schemas.errors import ConfigurationError
from headrace_schemas.hazards import HAZARDS
from headrace_schemas.limits import NonEmptyText, ShortText
from headrace_schemas.model import Value
from headrace_schemas.reasons import describe

MAX_EXAMPLES: Final = 200_000
_LONGEST: Final = 4_000_000  # bytes of a line
# Found by patterns, or by the deployment's own lists: nothing to learn.
NOT_LEARNT: Final = frozenset({"personal_data", "secrets", "system_prompt_leak", "profanity", "blocklist", "unsafe"})
LEARNT: Final = tuple(hazard.name for hazard in HAZARDS if hazard.name not in NOT_LEARNT)


class Example(Value):
    """One labelled text. A category that `labels` does not name is unknown of it; `benign` is a no to all."""

    text: NonEmptyText
    source: Annotated[ShortText, Field(min_length=1, description="The data set that it is from.")]
    licence: ShortText = "not stated"
    labels: dict[str, bool] = {}
    benign: bool = False

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if unknown := sorted(self.labels.keys() - set(LEARNT)):
            raise ValueError(f"labels: {unknown[0][:80]!r} is none that is learnt; those are {', '.join(LEARNT)}")
        if self.benign and any(self.labels.values()):
            raise ValueError("it is benign, and labelled otherwise")
        if not self.benign and not self.labels:
            raise ValueError("it has neither labels nor benign: true")
        return self

    def label(self, category: str) -> bool | None:
        """Return True if it is of this category, False if not, and None where there is no label."""
        return False if self.benign else self.labels.get(category)


def read_examples(paths: list[Path]) -> Iterator[Example]:
    """Yield the examples of these files, at most MAX_EXAMPLES; ConfigurationError names file, line and reason."""
    number = 0
    for path in paths:
        try:
            with path.open("rb") as file:
                for line, content in enumerate(iter(lambda: file.readline(_LONGEST + 1), b""), start=1):
                    if content.strip():
                        number += 1
                        yield _example(path, line, content, number)
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error


def _example(path: Path, line: int, content: bytes, number: int) -> Example:
    where = f"{path}, line {line}"
    if len(content) > _LONGEST:
        raise ConfigurationError(f"{where} has more than {_LONGEST:,} bytes")
    if number > MAX_EXAMPLES:
        raise ConfigurationError(f"{where}: more than {MAX_EXAMPLES:,} examples; take a sample of each source")
    try:
        return Example.model_validate_json(content, strict=True)
    except ValidationError as error:
        raise ConfigurationError(f"{where}: {describe(error, content)}") from None


def sources_of(examples: list[Example]) -> Mapping[str, list[Example]]:
    """Return the examples by their source, in the order in which they come."""
    found: dict[str, list[Example]] = {}
    for example in examples:
        found.setdefault(example.source, []).append(example)
    return found
