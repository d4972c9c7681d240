"""`headrace knowledge floor`: what a relevance floor lets through, and what it loses."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headrace_schemas.errors import ConfigurationError
from headrace_workers.cli.connections import need_ledger
from headrace_workers.cli.options import OneJsonOption, tenant_meant
from headrace_workers.cli.output import console, put_json, say, table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MOST_BYTES = 10_000_000  # of a file of questions
_STEPS = (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6)
_COLUMNS = ("floor", "foreign questions let through", "your questions lost")


@dataclass(frozen=True, slots=True)
class _Floor:
    floor: float
    let_through: float
    lost: float | None


def floor(
    name: Annotated[str, typer.Argument(metavar="BASE", help="the knowledge base's name")],
    questions: Annotated[
        Path | None, typer.Option("--questions", metavar="FILE", help="questions that the base answers")
    ] = None,
    foreign: Annotated[
        Path | None,
        typer.Option("--foreign", metavar="FILE", help="questions that it cannot answer, for the everyday ones"),
    ] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="its tenant [HEADRACE_TENANT]")] = None,
    as_json: OneJsonOption = False,
) -> None:
    """Show the relevance floor that fits a base, the share of foreign questions that each floor lets through, and the
    share of your questions that it loses.

    A file has a question a line, as text or as JSON with `question`. Without `--foreign`, the foreign questions are the
    160 everyday ones from which the floor is read. Exit code 1: there is no such base.

    Example: `headrace knowledge floor handbook --questions questions.txt`
    """
    from headrace_workers.features.knowledge.commands.knowledge import embedder_here, named
    from headrace_workers.features.knowledge.passages import Passages
    from headrace_workers.features.knowledge.relevance_floor import everyday_questions
    from headrace_workers.features.knowledge.settings import KnowledgeSettings

    base, owner, set_by_hand = named(name), tenant_meant(tenant), KnowledgeSettings.from_env().relevance
    asked = None if questions is None else _questions(questions)
    strange = everyday_questions() if foreign is None else _questions(foreign)
    ledger, embedder = need_ledger(), embedder_here()
    passages = Passages.of(ledger, owner, base, embedder)
    if not len(passages):
        say(f"{owner} has no knowledge base {base!r}: `headrace knowledge list` shows all, --tenant names another's")
        raise typer.Exit(1)
    fitting = passages.floor(lambda: embedder.embed(everyday_questions()))
    far = passages.nearest(embedder.embed(strange))
    near = None if asked is None else passages.nearest(embedder.embed(asked))
    shown = sorted({*_STEPS, fitting} | ({set_by_hand} if set_by_hand is not None else set()))
    found = [_measured(each, far, near) for each in shown]
    if as_json:
        put_json({
            "knowledge": base, "passages": len(passages), "fitting": fitting, "set": set_by_hand,
            "foreign": len(strange), "questions": None if asked is None else len(asked),
            "floors": [asdict(each) for each in found],
        })  # fmt: skip
        return
    rows = [(f"{each.floor:.3g}", _share(each.let_through), _share(each.lost)) for each in found]
    console(data=True).print(table(None, _COLUMNS, rows, right=_COLUMNS))
    say(f"{base}: {len(passages):,} passages; the floor that fits is {fitting:.3g}")
    if set_by_hand is not None:
        say(f"HEADRACE_RELEVANCE sets {set_by_hand:g} for all bases: that is used")


def _measured(floor: float, far: "NDArray[np.float32]", near: "NDArray[np.float32] | None") -> _Floor:
    return _Floor(floor, float((far >= floor).mean()), None if near is None else float((near < floor).mean()))


def _share(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _questions(path: Path) -> list[str]:
    """Return the questions of a file. Raise ConfigurationError if it cannot be read, or has none."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ConfigurationError(f"{path} has more than {_MOST_BYTES:,} bytes: give fewer questions")
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    found = [_question(path, number, line) for number, line in enumerate(lines, start=1) if line]
    if not found:
        raise ConfigurationError(f"{path} has no question: give a question a line")
    return found


def _question(path: Path, number: int, line: str) -> str:
    if not line.startswith("{"):
        return line
    try:
        asked = json.loads(line)["question"]
    except (ValueError, KeyError, RecursionError) as error:
        raise ConfigurationError(f"{path}:{number}: it is no JSON object with `question`") from error
    if not isinstance(asked, str) or not asked.strip():
        raise ConfigurationError(f"{path}:{number}: `question` is not a text")
    return asked
