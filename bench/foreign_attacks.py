"""Injections and jailbreaks of others that measure what is found, and questions that only look like attacks.

Nothing here teaches (`tools/injection_head.py` leaves out what is like these texts).
"""

import json
from collections.abc import Iterator
from typing import Final, NamedTuple

from bench.foreign_package import Package

SPIKEE: Final = Package(
    "spikee==0.9.2", "60cec774a1138e62b68b4bed445285f5b5103818ffb68fab681f37b5e707802b", "Apache-2.0"
)
AGENTS: Final = Package(
    "agent-injection-bench==0.1.0", "1c4339fc4e2cfcecf7971a96ab58d74ae124f5766b0a2162340fa6731c6ce9f9", "MIT"
)
CORPUS: Final = Package(
    "jailbreak-corpus-mini-py==0.1.0", "b336986c3028dffd3d31140456abc4062019cac3dbbeafa772b1df86986f5b8e", "MIT"
)
_SEEDS: Final = "spikee/data/workspace/datasets"


class Item(NamedTuple):
    """A text of a kind: `direct`, `indirect`, `ordinary`, `task` or `trap`."""

    text: str
    kind: str


def attacks() -> Iterator[Item]:
    """Yield direct attacks and jailbreaks, and orders in passages (`indirect`)."""
    for each in json.loads(CORPUS.read("jailbreak_corpus_mini/corpus.json")):
        yield Item(each["prompt"], "direct")
    for folder in ("seeds-cybersec-2026-01", "seeds-sysmsg-extraction-2025-04"):
        orders = [json.loads(line)["instruction"] for line in _lines(f"{folder}/instructions.jsonl")]
        for number, line in enumerate(_lines(f"{folder}/jailbreaks.jsonl")):
            each = json.loads(line)
            if each["jailbreak_type"] != "no-jailbreak":
                yield Item(each["text"].replace("<INSTRUCTION>", orders[number % len(orders)]), "direct")
    for line in AGENTS.read("aib/data/attacks.jsonl").splitlines():
        each = json.loads(line)
        yield Item(each["injected"], "indirect")


def traps() -> Iterator[Item]:
    """Yield questions that only look like attacks."""
    for line in _lines("seeds-investment-advice-fp/standalone_user_inputs.jsonl"):
        yield Item(json.loads(line)["text"], "trap")


def _lines(member: str) -> list[bytes]:
    return [line for line in SPIKEE.read(f"{_SEEDS}/{member}").splitlines() if line.strip()]
