"""Questions for the wrong-hits bench that were written after the guards were done.

`wrong_hits_held_out.txt` has questions as people type them, each in several wordings, and beside them others that only
look alike. Three of these (miles to kilometres, for whom, the first woman) passed at the first look, and guards were
corrected since. `wrong_hits_left_out.jsonl` has kinds of swaps that neither the guards' lists nor the questions that
they were developed on know. If you change a guard because of one of these questions, move it to the tests, and write
another in its place.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.wrong_hits_pairs import Meaning, Swap

_FREE: Final = Path(__file__).with_name("wrong_hits_held_out.txt")
_LEFT_OUT: Final = Path(__file__).with_name("wrong_hits_left_out.jsonl")


def free() -> list[Meaning]:
    """Return the meanings of the free questions: each block's question, and each of those that only look alike."""
    _comment, *blocks = _FREE.read_text(encoding="utf-8").strip().split("\n\n")
    return [meaning for place, block in enumerate(blocks) for meaning in _meanings(place, block)]


def left_out() -> list[Meaning]:
    """Return the meanings of the swaps that were left out."""
    return [meaning for swap in _swaps() for meaning in swap.meanings()]


def _swaps() -> Iterator[Swap]:
    for line in _LEFT_OUT.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        yield Swap(row["kind"], tuple(row["wordings"]), tuple(row["swapped"]), tuple(row["about"]))


def _meanings(place: int, block: str) -> Iterator[Meaning]:
    lines = block.splitlines()
    yield Meaning("free", str(place), 0, tuple(line for line in lines if not line.startswith("!")))
    yield from (Meaning("free", str(place), 1, (line.removeprefix("! "),)) for line in lines if line.startswith("!"))
