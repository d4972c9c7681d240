"""`headrace moderation train`: a head for moderation, from labelled texts of one's own."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from headrace_schemas.errors import ConfigurationError
from headrace_workers.cli.options import OneJsonOption
from headrace_workers.cli.output import console, put_json, say
from headrace_workers.features.knowledge.commands import embedder_here

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from headrace_workers.core.ports import Embedder

_AT_ONCE: Final = 256


def train(
    data: Annotated[list[Path], typer.Argument(metavar="DATA...", help="JSON lines: text, source, labels or benign")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="file for the head; its card is written beside it, as .md")
    ],
    as_json: OneJsonOption = False,
) -> None:
    """Train a head over the embedder's vectors, and write it with a card that reports its quality.

    A category needs 100 positives from at least 2 sources. Figures come from sources that training left out. You are
    responsible for the licence of each source; the card repeats what the data says.

    Example: `headrace moderation train labelled.jsonl benign.jsonl -o head.npz`
    """
    from headrace_workers.features.moderation.examples import read_examples
    from headrace_workers.features.moderation.head_card import card
    from headrace_workers.features.moderation.head_file import save_head
    from headrace_workers.features.moderation.head_training import train as learn

    if output.suffix != ".npz":
        raise ConfigurationError(f"--output {output}: a head's file ends in .npz")
    if not output.parent.is_dir():
        raise ConfigurationError(f"--output {output}: there is no folder {output.parent}")
    embedder = embedder_here()
    examples = list(read_examples(data))
    if not examples:
        raise ConfigurationError("these files have no examples")
    trained = learn(examples, _vectors([example.text for example in examples], embedder), embedder.id)
    beside = output.with_suffix(".md")
    save_head(trained.head, output)
    beside.write_text(card(trained, examples, output.name), encoding="utf-8")
    if as_json:
        put_json({"head": str(output), "card": str(beside), "version": trained.head.version,
                  "categories": list(trained.head.categories), "left_out": trained.left_out})  # fmt: skip
    for name, reason in trained.left_out.items():
        say(f"not trained: {name}, {reason}")
    say(f"{output}: {', '.join(trained.head.categories)}; {beside} says how well it does")


def _vectors(texts: Sequence[str], embedder: "Embedder") -> "NDArray[np.float32]":
    import numpy as np
    from rich.progress import track

    parts = range(0, len(texts), _AT_ONCE)
    shown = track(parts, description="reading", console=console(), transient=True)
    return np.concatenate([embedder.embed(texts[at : at + _AT_ONCE]) for at in shown])
