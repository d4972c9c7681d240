"""Labelled texts that a head can learn from the words of the hash embedder."""

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from headrace_workers.models.embedders.hashed import HashEmbedder

EMBEDDER = HashEmbedder()
WORDS = {
    "billing": ["invoice", "refund", "charge", "card", "payment"],
    "broken": ["crash", "error", "screen", "freezes", "restart"],
    "praise": ["lovely", "thanks", "great", "friendly", "superb"],
}


def texts(count: int, seed: int = 0, words: dict[Any, list[str]] | None = None) -> list[tuple[str, Any]]:
    """Return so many different texts with their labels: each has three words of its label, and a number."""
    drawn = random.Random(seed)
    kinds = words or WORDS
    found = []
    for number in range(count):
        label = list(kinds)[number % len(kinds)]
        found.append((f"{' '.join(drawn.sample(kinds[label], 3))} {seed}x{number}", label))
    return found


def write(path: Path, rows: Iterable[tuple[str, Any]]) -> Path:
    path.write_text("".join(json.dumps({"input": text, "label": label}) + "\n" for text, label in rows))
    return path
