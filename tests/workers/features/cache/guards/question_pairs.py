"""Pairs of questions for tests of the guards: pairs that ask for the same, and traps that only look alike."""

from collections import defaultdict
from itertools import combinations
from pathlib import Path

from bench.wrong_hits_pairs import Meaning, swapped


def pairs() -> list[tuple[bool, str, str]]:
    """Return the swaps of the bench: whether they ask for the same, and both questions."""
    clusters: dict[tuple[str, str], list[Meaning]] = defaultdict(list)
    for meaning in swapped():
        clusters[meaning.kind, meaning.cluster].append(meaning)
    questions = []
    for meanings in clusters.values():
        for number, meaning in enumerate(meanings):
            questions += [(True, one, other) for one, other in combinations(meaning.wordings, 2)]
            turned = meaning.wordings[number:] + meaning.wordings[:number]
            questions += [
                (False, one, other)
                for trap in meanings[:number]
                for one, other in zip(turned, trap.wordings, strict=True)
            ]
    return questions


def wordings(name: str = "wordings.txt") -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return the pairs of a file of questions that ask for the same, and those that only look alike."""
    text = Path(__file__).with_name(name).read_text(encoding="utf-8")
    same: list[tuple[str, str]] = []
    traps: list[tuple[str, str]] = []
    for block in text.split("\n\n")[1:]:
        lines = block.strip().splitlines()
        asked = [line for line in lines if not line.startswith("!")]
        same += combinations(asked, 2)
        traps += [(line.removeprefix("! "), one) for line in lines if line.startswith("!") for one in asked]
    return same, traps
