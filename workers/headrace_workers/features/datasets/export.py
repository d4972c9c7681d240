"""Export of training examples: cleaning, near duplicates, the split, and the folder with its card."""

import hashlib
import json
import os
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Final

from headrace_schemas.errors import ConfigurationError
from headrace_workers.features.datasets.clean import Given, Removed, Rule, Rules, cleaned
from headrace_workers.features.datasets.duplicates import (
    NEAR,
    Bands,
    Sketch,
    likeness,
    shingles,
    sketch_of,
    words_of,
)
from headrace_workers.features.datasets.examples import Example, NoExample

TRAIN, HELD_OUT, LINEAGE, REMOVED, CARD = (
    "train.jsonl", "held-out.jsonl", "lineage.jsonl", "removed.jsonl", "card.json",
)  # fmt: skip
MOST: Final = 200_000  # examples
ALIKE: Final = 0.5  # questions that share so many of their own runs of words are on one side of the split
# A run of words in more than this share of the conversations belongs to their template and says nothing about likeness.
_TEMPLATE: Final = 0.3
_FEW: Final = 10  # with fewer conversations, a template cannot be told from the rest
_UNUSABLE: Final = "unusable"  # the rule that removes answers no model may learn from


@dataclass(slots=True)
class Split:
    """The examples that are kept, on their sides, and what was removed: by which rule, which job, and why."""

    train: list[Example] = field(default_factory=list)
    held_out: list[Example] = field(default_factory=list)
    removed: list[tuple[str, str, str]] = field(default_factory=list)
    groups: int = 0


def line_of(example: Example) -> bytes:
    """Return the line of an example: chat JSON, as OpenAI's fine-tuning takes it."""
    messages = [*example.messages, {"role": "assistant", "content": example.answer}]
    return json.dumps({"messages": messages}, ensure_ascii=False).encode()


def split_examples(
    found: Iterable[Example | NoExample], rules: Rules, *, near: float, held_out: float, seed: int
) -> Split:
    """Clean the examples, remove near duplicates, and divide the rest.

    Examples whose questions are alike are on one side: a model that saw one would know the other. `held_out` is the
    share of the other side, `near` the likeness from which the later of two examples is removed; 0 keeps both. The same
    examples and seed give the same split. Raise ConfigurationError for more than 200,000 examples.
    """
    split = Split()
    examples: list[Example] = []
    for row in found:
        if isinstance(row, NoExample):
            split.removed.append((_UNUSABLE, row.job_id, row.reason))
        elif len(examples) == MOST:
            raise ConfigurationError(f"there are more than {MOST:,} examples: name a version, or a condition (--score)")
        else:
            examples.append(row)
    kept = list(_cleaned(examples, rules, split))
    questions = _own_runs(["\n".join(str(turn.get("content")) for turn in row.messages) for row in kept])
    sketches = [sketch_of(runs) for runs in questions]
    if near:
        wholes = [sketch_of([*runs, *_runs(row.answer)]) for runs, row in zip(questions, kept, strict=True)]
        lasting = list(_apart(kept, wholes, near, split))
        kept, sketches = [kept[index] for index in lasting], [sketches[index] for index in lasting]
    groups = _groups(kept, sketches)
    split.groups = len(groups)
    _divide(kept, groups, held_out, seed, split)
    return split


def _cleaned(examples: Sequence[Example], rules: Rules, split: Split) -> Iterator[Example]:
    given = (Given(number, line_of(example)) for number, example in enumerate(examples))
    for item in cleaned(given, rules):
        if isinstance(item, Removed):
            split.removed.append((str(item.rule), examples[item.number].job_id, item.reason))
        else:
            yield examples[item.number]


def _runs(text: str) -> list[bytes]:
    return list(dict.fromkeys(shingles(words_of(text), NEAR)))


def _own_runs(texts: Sequence[str]) -> list[list[bytes]]:
    """Return the runs of words of each text, without those of the template that the texts have in common."""
    runs = [_runs(text) for text in texts]
    if len(texts) < _FEW:
        return runs
    counts = Counter(chain.from_iterable(runs))
    most = _TEMPLATE * len(texts)
    return [[run for run in of_text if counts[run] <= most] or of_text for of_text in runs]


def _apart(examples: Sequence[Example], sketches: Sequence[Sketch], near: float, split: Split) -> Iterator[int]:
    """Yield the places of examples that are not nearly the same as an earlier one."""
    index = Bands(min(near, 0.9))
    for place, sketch in enumerate(sketches):
        like = [(likeness(sketch, sketches[other]), other) for other in index.candidates(sketch)]
        share, other = max(like, default=(0.0, 0))
        if share >= near:
            reason = f"{share:.0%} like job {examples[other].job_id}"
            split.removed.append((str(Rule.NEAR_DUPLICATE), examples[place].job_id, reason))
            continue
        index.insert(place, sketch)
        yield place


def _groups(examples: Sequence[Example], sketches: Sequence[Sketch]) -> list[list[int]]:
    """Return the places of examples whose questions are alike, also by way of others."""
    index, parents = Bands(ALIKE), list(range(len(examples)))

    def root(place: int) -> int:
        while parents[place] != place:
            parents[place] = parents[parents[place]]
            place = parents[place]
        return place

    for place, sketch in enumerate(sketches):
        for other in index.candidates(sketch):
            if likeness(sketch, sketches[other]) >= ALIKE:
                parents[root(place)] = root(other)
        index.insert(place, sketch)
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for place in range(len(examples)):
        groups[root(place)].append(place)
    return list(groups.values())


def _divide(
    examples: Sequence[Example], groups: Sequence[Sequence[int]], held_out: float, seed: int, split: Split
) -> None:
    """Put whole groups aside, in an order that the seed draws, as long as they do not exceed the share."""
    room, aside = round(held_out * len(examples)), set[int]()
    drawn = sorted(groups, key=lambda group: _drawn(seed, min(examples[place].job_id for place in group)))
    for group in drawn:
        if len(group) <= room - len(aside):
            aside.update(group)
    for place, example in enumerate(examples):
        (split.held_out if place in aside else split.train).append(example)


def _drawn(seed: int, job_id: str) -> bytes:
    return hashlib.blake2b(f"{seed}\n{job_id}".encode(), digest_size=8).digest()


def card_of(split: Split, licences: Mapping[str, str], asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the card of a data set: counts by side, source, application and model, what was removed by which rule, the
    `licences` of the models that wrote the answers, and what was `asked` for.
    """
    kept = [*split.train, *split.held_out]
    models = Counter(row.model or "unknown" for row in kept if row.source != "corrected")
    return {
        "rows": {"train": len(split.train), "held_out": len(split.held_out)},
        "groups": split.groups,
        "sources": dict(Counter(row.source for row in kept)),
        "applications": dict(Counter(row.application or "none" for row in kept)),
        "models": {name: {"rows": rows, "licence": licences.get(name, "unknown")} for name, rows in models.items()},
        "removed": dict(Counter(rule for rule, _, _ in split.removed)),
        **asked,
    }


def write_dataset(folder: Path, split: Split, card: dict[str, Any]) -> dict[str, Any]:
    """Write the folder, private, whole or not at all. Return the card with the SHA-256 of both sides.

    Raise ConfigurationError if the folder exists or cannot be written.
    """
    if folder.exists() or folder.is_symlink():
        raise ConfigurationError(f"{folder} exists already: name a new folder, or remove it")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))  # 0700
        try:
            card = {**card, "sha256": _write_files(unfinished, split)}
            _write(unfinished / CARD, [json.dumps(card, ensure_ascii=False, indent=2).encode()])
            unfinished.rename(folder)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be written: {error.strerror}") from error
    return card


def _write_files(folder: Path, split: Split) -> dict[str, str]:
    sides = {TRAIN: split.train, HELD_OUT: split.held_out}
    digests = {name: _write(folder / name, map(line_of, examples)) for name, examples in sides.items()}
    _write(folder / LINEAGE, _lineage(sides))
    removed = ({"rule": rule, "job_id": job_id, "reason": reason} for rule, job_id, reason in split.removed)
    _write(folder / REMOVED, (json.dumps(entry, ensure_ascii=False).encode() for entry in removed))
    return digests


def _lineage(sides: Mapping[str, Sequence[Example]]) -> Iterator[bytes]:
    """Yield for each row where it comes from."""
    for name, examples in sides.items():
        for number, example in enumerate(examples, 1):
            fields = example._asdict() | {"messages": None, "answer": None}
            told = {key: value for key, value in fields.items() if value not in (None, ())}
            yield json.dumps({"file": name, "line": number, **told}, ensure_ascii=False).encode()


def _write(path: Path, lines: Iterable[bytes]) -> str:
    """Write lines into a new private file. Return its SHA-256."""
    digest = hashlib.sha256()
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        for line in lines:
            digest.update(line + b"\n")
            file.write(line + b"\n")
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()
