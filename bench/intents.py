"""Fine-tuning against prompts, on labelled messages: `python -m bench.intents TRAIN.csv TEST.csv`. It takes an hour.

With `--size` it writes recipes and rows for `headrace tune` into intents/. Else it asks a model about drawn rows, its
answer held to the labels, and counts those that are the label. Choose a prompt with `--rows train`: no recipe has these
60 rows of TRAIN.csv. The files have the columns text and category, as those of BANKING77 do.
"""

import argparse
import csv
import json
import random
import sys
from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

import headrace_workers.wiring  # noqa: F401 - installs the engines
from headrace_producers.settings import DEFAULT_MODEL
from headrace_schemas import Message, Sampling
from headrace_schemas.output_format import ChoiceFormat
from headrace_workers.models.embedders.load_embedder import load_embedder
from headrace_workers.models.engines.load_generator import load_generator
from headrace_workers.models.generator import Completion, Request
from headrace_workers.runtime.settings import home_of
from headrace_workers.stats.detection_rates import wilson

SEED: Final = 20261202
_CHOOSING, _ASIDE, _TESTED = 60, 100, 300  # rows; those aside choose a prompt, or are held out of training
_TOGETHER, _NEAREST = 20, 8  # prompts that are asked at once, and rows that are shown in one
_NAME: Final = "Name the intent of the bank customer's message."
_RECIPE: Final = """base = "{base}"
source = "{source}"
data = "train-{size}.jsonl"
held_out_data = "held-out.jsonl"
suffix = "intents-{size}"
difference = 0.15
training = {{epochs = {epochs}, learning_rate = 0.001}}
"""

Row = tuple[str, str]  # a text and its label, as words


class Split(NamedTuple):
    """Rows to choose a prompt with, held out of training, to train on, and to test on."""

    choosing: list[Row]
    held_out: list[Row]
    train: list[Row]
    test: list[Row]

    @property
    def labels(self) -> list[str]:
        """Return the labels of the training rows in the order of the alphabet."""
        return sorted({label for part in self[:3] for _, label in part})

    def evenly(self, size: int) -> list[Row]:
        """Return so many training rows, in turns of one for each label. A smaller set is the beginning of a larger."""
        order = self.labels
        random.Random(SEED).shuffle(order)
        turns = zip_longest(*([row for row in self.train if row[1] == label] for label in order))
        return [row for turn in turns for row in turn if row is not None][:size]


def split(train: Path, test: Path) -> Split:
    """Return the rows of both files as the seed divides them. No training row has the text of a test row."""
    known, asked = _read(train), _read(test)
    random.Random(SEED).shuffle(known)
    texts = {text.lower() for text, _ in asked}
    known = [row for row in known if row[0].lower() not in texts]
    drawn = random.Random(SEED).sample(asked, min(_TESTED, len(asked)))
    return Split(known[:_CHOOSING], known[_CHOOSING:_ASIDE], known[_ASIDE:], drawn)


def _read(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = [(row["text"].strip(), row["category"]) for row in csv.DictReader(file)]
    return [(text, label.replace("_", " ").replace("?", "").lower()) for text, label in rows]


def asking(rows: Split, prompt: str) -> Callable[[str], tuple[Message, ...]]:
    """Return how a prompt asks about a text: `short` is trained, `nearest-400` shows the nearest of 400 rows."""
    labels = "\n".join(f"- {label}" for label in rows.labels)
    listed = f" Answer with one of these intents, and nothing else:\n{labels}" if prompt == "list" else ""
    name, _, size = prompt.partition("-")
    nearest = _nearest(rows.evenly(int(size))) if name == "nearest" else lambda _: ()
    system = Message(role="system", content=_NAME + listed)
    return lambda text: (system, *nearest(text), Message(role="user", content=text))


def _nearest(known: Sequence[Row]) -> Callable[[str], tuple[Message, ...]]:
    embedder = load_embedder(home_of(), "all-minilm-l6-v2")
    vectors = embedder.embed([text for text, _ in known])
    return lambda asked: tuple(
        Message(role=role, content=content)
        for place in np.argsort(vectors @ embedder.embed([asked])[0])[-_NEAREST:]  # the nearest one last
        for role, content in zip(("user", "assistant"), known[place], strict=True)
    )


def prepare(rows: Split, folder: Path, base: str, source: Path, sizes: Sequence[str]) -> None:
    """Write a recipe and its rows for each size, which is a number of rows and of epochs, such as 400:3."""
    folder.mkdir(exist_ok=True)
    of = {int(size): int(epochs) for size, _, epochs in (size.partition(":") for size in sizes)}
    for name, part in (("held-out", rows.held_out), *((f"train-{number}", rows.evenly(number)) for number in of)):
        lines = (
            json.dumps({"messages": [{"role": role, "content": content} for role, content in turns]})
            for turns in ((("system", _NAME), ("user", text), ("assistant", label)) for text, label in part)
        )
        (folder / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    for size, epochs in of.items():
        recipe = _RECIPE.format(base=base, source=source.resolve(), size=size, epochs=epochs)
        (folder / f"recipe-{size}.toml").write_text(recipe, encoding="utf-8")


def score(rows: Split, model: str, prompt: str, tested: Sequence[Row]) -> int:
    """Return how many of the rows a model answers with their label."""
    generator, ask = load_generator(home_of(), model), asking(rows, prompt)
    sampling, output = Sampling(max_tokens=32, repetition_penalty=1), ChoiceFormat(choices=tuple(rows.labels))
    right = 0
    for part in (tested[start : start + _TOGETHER] for start in range(0, len(tested), _TOGETHER)):
        answers = generator.generate([Request(ask(text), sampling, "bench", output=output) for text, _ in part])
        pairs = zip(part, answers, strict=True)
        right += sum(isinstance(answer, Completion) and answer.text == label for (_, label), answer in pairs)
    return right


def main() -> None:
    """Write recipes, or score a model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", type=Path, nargs=2, help="TRAIN.csv TEST.csv")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--source", type=Path, default=Path(), help="the GGUF file or folder it was made of")
    parser.add_argument("--size", action="append", default=[], help="rows:epochs of a recipe, such as 400:3")
    parser.add_argument("--prompt", default="short", help="short, list or nearest-400")
    parser.add_argument("--rows", choices=("train", "test"), default="test", help="of which file")
    given = parser.parse_args()
    rows = split(*given.files)
    if given.size:
        prepare(rows, Path("intents"), given.model, given.source, given.size)
        return
    right = score(rows, given.model, given.prompt, tested := rows.test if given.rows == "test" else rows.choosing)
    share = wilson(right / len(tested), len(tested), 0.95)
    sys.stdout.write(f"{right} of {len(tested)} ({share.low:.1%} to {share.high:.1%})\n")


if __name__ == "__main__":
    main()
