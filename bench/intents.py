"""Fine-tuning against prompts, on labelled messages of others: `python -m bench.intents`. It takes hours on two cores.

`prepare` writes what `headrace tune` reads: a recipe and its rows for each size, as evenly over the labels as the size
allows, and rows held out. `score` asks a model of the catalogue about a drawn sample of test rows, its answer held to
the labels, and counts answers that are the label. Choose a prompt with `--rows train`: these are 60 rows of TRAIN.csv
that no recipe has. The files are CSV with the columns text and category, such as those of BANKING77.
"""

import argparse
import csv
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from rich.console import Console

from headrace_producers.settings import DEFAULT_MODEL
from headrace_schemas import Message, Sampling
from headrace_schemas.output_format import ChoiceFormat
from headrace_workers.features.quality.detection_rates import wilson
from headrace_workers.runtime.settings import home_of

SEED: Final = 20261202
_CHOOSING, _HELD_OUT, _TESTED = 60, 40, 300  # rows
_TOGETHER: Final = 20
_NAME: Final = "Name the intent of the bank customer's message."
_RECIPE: Final = """base = "{base}"
source = "{source}"
data = "train-{size}.jsonl"
held_out_data = "held-out.jsonl"
suffix = "intents-{size}"
difference = 0.15

[training]
epochs = {epochs}
learning_rate = 0.001
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
        of_label = {label: [row for row in self.train if row[1] == label] for label in order}
        turns = range(max(map(len, of_label.values())))
        return [of_label[label][turn] for turn in turns for label in order if turn < len(of_label[label])][:size]


def split(train: Path, test: Path) -> Split:
    """Return the rows of both files as the seed divides them. No training row has the text of a test row."""
    known, asked = _read(train), _read(test)
    random.Random(SEED).shuffle(known)
    texts = {text.lower() for text, _ in asked}
    known = [row for row in known if row[0].lower() not in texts]
    aside = _CHOOSING + _HELD_OUT
    drawn = random.Random(SEED).sample(asked, min(_TESTED, len(asked)))
    return Split(known[:_CHOOSING], known[_CHOOSING:aside], known[aside:], drawn)


def _read(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        return [
            (row["text"].strip(), row["category"].replace("_", " ").replace("?", "").lower())
            for row in csv.DictReader(file)
        ]


def prompts(rows: Split) -> dict[str, Callable[[str], tuple[Message, ...]]]:
    """Return how each prompt asks about a text. `short` is the one that is trained."""
    labels = "\n".join(f"- {label}" for label in rows.labels)
    examples = "\n\n".join(f"Message: {text}\nIntent: {label}" for text, label in rows.evenly(len(rows.labels)))

    def asks(system: str, user: str = "{}") -> Callable[[str], tuple[Message, ...]]:
        return lambda text: (
            Message(role="system", content=system), Message(role="user", content=user.replace("{}", text))
        )  # fmt: skip

    return {
        "short": asks(_NAME),
        "list": asks(f"{_NAME} Answer with one of these intents, and nothing else:\n{labels}"),
        "examples": asks(f"{_NAME} Examples:\n\n{examples}", "Message: {}\nIntent:"),
    }


def prepare(rows: Split, folder: Path, base: str, source: Path, sizes: Sequence[tuple[int, int]]) -> None:
    """Write a recipe and its rows for each size and number of epochs."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in (("held-out", rows.held_out), *((f"train-{size}", rows.evenly(size)) for size, _ in sizes)):
        lines = (
            json.dumps({"messages": [{"role": role, "content": content} for role, content in turns]})
            for turns in ((("system", _NAME), ("user", text), ("assistant", label)) for text, label in part)
        )
        (folder / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    for size, epochs in sizes:
        recipe = _RECIPE.format(base=base, source=source.resolve(), size=size, epochs=epochs)
        (folder / f"recipe-{size}.toml").write_text(recipe, encoding="utf-8")


def score(rows: Split, model: str, prompt: str, tested: Sequence[Row]) -> int:
    """Return how many of the rows a model answers with their label."""
    import headrace_workers.wiring  # noqa: F401 - installs the engines
    from headrace_workers.features.generation.engines.load_generator import load_generator
    from headrace_workers.features.generation.generator import Completion, Request

    generator, ask = load_generator(home_of(), model), prompts(rows)[prompt]
    sampling, output = Sampling(max_tokens=32, repetition_penalty=1), ChoiceFormat(choices=tuple(rows.labels))
    right = 0
    for start in range(0, len(tested), _TOGETHER):
        part = tested[start : start + _TOGETHER]
        answers = generator.generate([Request(ask(text), sampling, "bench", output=output) for text, _ in part])
        for (_, label), answer in zip(part, answers, strict=True):
            right += isinstance(answer, Completion) and answer.text == label
    return right


def main() -> None:
    """Prepare or score."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("prepare", "score"))
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument(
        "--source",
        type=Path,
        default=Path("source"),
        help="prepare: the GGUF file or folder that the model was made of",
    )
    parser.add_argument("--size", action="append", default=[], help="prepare: rows:epochs, such as 400:3")
    parser.add_argument("--prompt", default="short", help="score: short, list or examples")
    parser.add_argument("--rows", choices=("train", "test"), default="test", help="score: rows of which file")
    given = parser.parse_args()
    rows = split(given.train, given.test)
    if given.what == "prepare":
        sizes = [(int(size), int(epochs)) for size, _, epochs in (each.partition(":") for each in given.size)]
        prepare(rows, Path("intents"), given.model, given.source, sizes)
        return
    tested = rows.test if given.rows == "test" else rows.choosing
    right = score(rows, given.model, given.prompt, tested)
    share = wilson(right / len(tested), len(tested), 0.95)
    Console().print(f"{right} of {len(tested)} ({share.low:.1%} to {share.high:.1%})")


if __name__ == "__main__":
    main()
