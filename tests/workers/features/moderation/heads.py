"""Synthetic examples whose harm is in their words, and an embedder that reads words."""

from collections.abc import Iterator

from headrace_workers.features.moderation.head_training import Example

CALM = ["river", "mill", "flour", "summer", "bread", "water", "wheel", "stone", "valley", "autumn"]
GRIM = ["smash", "burn", "crush", "destroy", "wreck", "stab"]


def examples(source: str, violent: int, benign: int) -> Iterator[Example]:
    """So many texts that are labelled violent, and so many that are of nothing. Sources have no siblings in others."""
    for n in range(violent):
        text = f"{CALM[n % 10]} {source} {GRIM[n % 6]} {GRIM[n // 6 % 6]} {CALM[n // 10 % 10]}"
        yield Example(text=text, source=source, licence="CC0-1.0", labels={"violence": True, "hate": False})
    for n in range(benign):
        yield Example(
            text=f"{CALM[n % 10]} {source} {CALM[n // 10 % 10]} {CALM[n // 7 % 10]}", source=source, benign=True
        )
