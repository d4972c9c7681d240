"""The kind of job that a line of a file asks for, and the defaults for what the line leaves out."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self, get_args

from headrace_schemas import DecisionJob, EmbeddingJob, GenerationJob
from headrace_schemas.aliases import DEFAULT_EMBEDDER
from headrace_schemas.event_types import EventType, job_type
from headrace_schemas.events import JobKind


class NoKind(ValueError):
    """The reason why the kind of job that a line asks for is unknown."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """Defaults for what a line leaves out. `fields` are for all jobs, `model` is that of generation and decision jobs,
    `embedder` that of embedding jobs, the rest is for generation jobs only. With `own_keys` a line's key in a batch is
    its job's, too.
    """

    model: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    sampling: Mapping[str, Any] = field(default_factory=dict)
    asked: Mapping[str, Any] = field(default_factory=dict)
    embedder: str = DEFAULT_EMBEDDER
    own_keys: bool = False

    def fill(self, line: Mapping[str, Any]) -> tuple[EventType, dict[str, Any]]:
        """Return the kind of job that the line asks for, and its fields with the defaults. Raise NoKind."""
        kind = kind_of_line(line)
        filled = {**self.fields, **line}
        filled.pop("kind", None)
        if kind.cls is EmbeddingJob:
            return kind, {"model": self.embedder, **filled}
        if kind.cls is DecisionJob:
            return kind, {"model": self.model, **filled}
        if kind.cls is not GenerationJob:
            return kind, filled
        model = {} if "application" in line else {"model": self.model}
        filled = {**model, **self.asked, **filled}
        own = line.get("sampling", {})
        if self.sampling and isinstance(own, dict):
            filled["sampling"] = {**self.sampling, **own}
        return kind, filled

    def to_json(self) -> str:
        """Return JSON to be stored: the same text for the same defaults."""
        return json.dumps(asdict(self), sort_keys=True, default=str)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the defaults that `to_json` wrote."""
        return cls(**json.loads(text))


def kind_of_line(line: Mapping[str, Any]) -> EventType:
    """Return the `kind` that a line names, else decision if it has questions, evaluation if it has an `output` to
    judge, else generation. Raise NoKind.

    An `output` that is an object is the format that a generation asks for.
    """
    kind = line.get("kind")
    if kind is None:
        if "questions" in line:
            kind = "decision"
        elif "input" in line and "output" not in line:
            raise NoKind(
                'it has an `input` and no `output`: say what is asked for, with "kind": "embedding" or "moderation"'
            )
        else:
            kind = "evaluation" if "output" in line and not isinstance(line["output"], Mapping) else "generation"
    found = job_type(kind) if isinstance(kind, str) else None
    if found is None:
        raise NoKind(f"kind: must be one of {', '.join(get_args(JobKind))}")
    return found
