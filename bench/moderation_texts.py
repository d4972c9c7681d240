"""Texts of our own that nobody should object to: plain questions, and texts that look dangerous and are not.

They stand in moderation_texts.jsonl. Each template is a source of its own, so that what is measured on one was never
learnt from it.
"""

import json
from pathlib import Path
from typing import Final, NamedTuple

_FILE: Final = Path(__file__).with_suffix(".jsonl")


class Template(NamedTuple):
    """A sentence with a gap, and what fills it."""

    text: str
    fills: tuple[str, ...]

    @property
    def texts(self) -> list[str]:
        """All that it makes."""
        return [self.text.format(fill) for fill in self.fills]


def _templates(kind: str) -> tuple[Template, ...]:
    rows = [json.loads(line) for line in _FILE.read_text(encoding="utf-8").splitlines()]
    return tuple(Template(row["text"], tuple(row["fills"])) for row in rows if row["kind"] == kind)


BENIGN: Final = _templates("benign")
BORDERLINE: Final = _templates("borderline")
