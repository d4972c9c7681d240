"""What the lines of a file get that do not say."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a line gets where it says nothing itself. `fields` are for all jobs, the rest for generation jobs only."""

    model: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    sampling: Mapping[str, Any] = field(default_factory=dict)
    asked: Mapping[str, Any] = field(default_factory=dict)

    def fill(self, line: Mapping[str, Any]) -> dict[str, Any]:
        """The line with what it lacks."""
        filled = {**self.fields, **line}
        if "output" in line:  # an evaluation job
            return filled
        filled = {"model": self.model, **self.asked, **filled}
        own = line.get("sampling", {})
        if self.sampling and isinstance(own, dict):
            filled["sampling"] = {**self.sampling, **own}
        return filled

    def to_json(self) -> str:
        """To be kept: the same text for the same defaults."""
        return json.dumps(asdict(self), sort_keys=True, default=str)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What `to_json` wrote."""
        return cls(**json.loads(text))
