"""Reviews on a terminal: an item is shown, and one key decides."""

import shlex
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import typer

from headrace_schemas.errors import InvalidRecord
from headrace_schemas.moderation import Finding
from headrace_workers.cli.connections import ring_bridges
from headrace_workers.cli.output import Line, console, printable, say
from headrace_workers.core.environment import environment
from headrace_workers.features.reviews.decision import Conflict, Person, decision_of
from headrace_workers.features.reviews.store import Reviews
from headrace_workers.features.reviews.views import ShownItem

_Answered = Literal["decided", "passed", "quit"]
_HELD_KEYS: Final = {"r": "release", "w": "withhold", "c": "correct", "s": "skip", "q": "quit"}
_LABEL_KEYS: Final = {"y": "yes", "n": "no", "s": "skip", "b": "back to the last", "q": "quit"}
_REVISION_KEYS: Final = {"y": "yes", "n": "no", "s": "leave it as it is", "q": "quit"}


def review(reviews: Reviews, person: Person, rule: str | None) -> int:
    """Show the person's items one after the other until there is none or they quit; return how many they decided."""
    decided = 0
    while (item := reviews.next(person, rule=rule)) is not None:
        answered = _review(reviews, person, ShownItem.seen(item))
        if answered == "quit":
            return decided
        decided += answered == "decided"
    say("no item waits for you")
    return decided


def _review(reviews: Reviews, person: Person, view: ShownItem) -> _Answered:
    """Show an item and do what the person's keys say."""
    _show(view)
    while True:
        said = _asked_held(view) if view.held else _asked_labels(view, _LABEL_KEYS)
        if said == "q":
            return "quit"
        if said == "b":
            if _revise(reviews, person) == "quit":
                return "quit"
            _show(view)
            continue
        if said == "s":
            return _kept(lambda: reviews.skip(person, view.id, view.lease or 0), "passed")
        if isinstance(said, dict) and (done := _recorded(reviews, person, view, said, 1)) is not None:
            return done


def _revise(reviews: Reviews, person: Person) -> _Answered:
    """Show the answer about which the person decided last, and record what they say now."""
    last = next((row for row in reviews.mine(person, limit=20) if not row[0].held and row[1].stands), None)
    if last is None:
        say("you have decided about no answer yet")
        return "passed"
    view = ShownItem.seen(reviews.item(person, last[0].id))
    _show(view)
    while True:
        said = _asked_labels(view, _REVISION_KEYS)
        if isinstance(said, str):
            return "quit" if said == "q" else "passed"
        if (done := _recorded(reviews, person, view, said, last[1].revision + 1)) is not None:
            return done


def _recorded(
    reviews: Reviews, person: Person, view: ShownItem, said: dict[str, Any], revision: int
) -> _Answered | None:
    """Record a decision; return None where the person has to say something else."""

    def record() -> None:
        decision = decision_of(said | {"lease": view.lease, "revision": revision})
        if reviews.decide(person, view.id, decision).wakes:
            ring_bridges()

    try:
        return _kept(record, "decided")
    except InvalidRecord as error:
        say(str(error))
        return None


def _kept(do: Callable[[], object], answered: _Answered) -> _Answered:
    """Do it; where the item is not the person's any more, say so and go on."""
    try:
        do()
    except Conflict as error:
        say(str(error))
        return "passed"
    return answered


def _asked_held(view: ShownItem) -> dict[str, Any] | str | None:
    """Ask what becomes of a held job. Return the decision, or `s` or `q`; None to ask again."""
    match _key(_HELD_KEYS, ""):
        case "r":
            return {"action": "release"}
        case "w":
            return {"action": "withhold", "note": typer.prompt("the reason, which the job's sender reads", err=True)}
        case "c":
            corrected = _edited(view.answer or "")
            return None if corrected is None else {"action": "correct", "corrected": corrected}
        case key:
            return key


def _edited(text: str) -> str | None:
    """Return the text as the person's editor leaves it; None where it is as it was."""
    editor = _editor()
    with tempfile.TemporaryDirectory() as folder:  # nobody else may look into it
        path = Path(folder) / "answer.txt"
        path.write_text(text, encoding="utf-8")
        try:
            subprocess.run([*shlex.split(editor), str(path)], check=True)
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            say(f"the editor {editor!r} failed: {error}; EDITOR names another")
            return None
        edited = path.read_text(encoding="utf-8", errors="replace")
    edited = edited if text.endswith("\n") else edited.removesuffix("\n")
    if edited == text:
        say("the text is as it was")
        return None
    return edited


def _editor() -> str:
    variables = environment()
    return variables.get("VISUAL") or variables.get("EDITOR") or "vi"


def _asked_labels(view: ShownItem, keys: Mapping[str, str]) -> dict[str, Any] | str:
    """Ask for each label of an answer. Return the decision, or the key that says something else than yes or no."""
    questions = [
        (
            {"criterion": criterion.name},
            f"{criterion.name}: {criterion.question}" if criterion.question else f"{criterion.name}?",
        )
        for criterion in view.asks.criteria
    ]
    questions += [({"category": name}, f"does it belong to {name}?") for name in view.asks.categories]
    labels = []
    for about, question in questions:
        key = _key(keys, question)
        if key not in "yn":
            return key
        labels.append({**about, "value": float(key == "y")})
    return {"action": "label", "labels": labels}


def _key(keys: Mapping[str, str], question: str) -> str:
    """Ask for one of these keys. The end of the input counts as q."""
    words = ", ".join(f"{key} {meaning}" for key, meaning in keys.items())
    typer.echo(f"{printable(question)} [{words}] ".lstrip(), nl=False, err=True)
    while True:
        try:
            key = typer.getchar().lower()
        except EOFError:
            key = "q"
        if key in keys:
            typer.echo(keys[key], err=True)
            return key


def _show(view: ShownItem) -> None:
    """Print an item for a person."""
    out = console(data=True)
    out.print()
    for name, text in _lines(view):
        if text:
            out.print(Line(printable(text), f"{name}: "))


def _lines(view: ShownItem) -> Iterator[tuple[str, str | None]]:
    at = f", held at {view.stage}" if view.held else ""
    yield "item", f"{view.id} (job {view.job_id}{at})"
    yield "application", view.application
    yield "held for", view.held_for
    for turn in view.messages:
        yield turn.role, turn.content
    yield "context", view.context
    findings = () if view.verdict is None else view.verdict.findings
    of_answer = findings if view.verdict_text is None else ()
    yield "answer", None if view.answer is None else _marked(view.answer, of_answer)
    for call in view.tool_calls:
        yield "call", f"{call.name}({call.arguments})"
    for passage in view.citations:
        yield f"passage [{passage.number}]", f"{passage.document}{' > ' if passage.section else ''}{passage.section}"
    if view.verdict_text is not None:
        yield "text with findings", _marked(view.verdict_text, findings)
    if view.verdict is not None:
        yield "verdict", view.verdict.action
    for finding in findings:
        yield "finding", f"{finding.category} ({finding.action}), by {finding.detector}, {finding.score:.2f}"
    for score in view.scores:
        told = score.reason if score.value is None else f"{score.value:.2f}"
        yield "score", f"{score.name or score.criterion}: {told}"
    if view.mine is not None:
        said = ", ".join(f"{label.criterion or label.category} {label.value:g}" for label in view.mine.labels)
        yield "your decision", f"{view.mine.action} {said}".rstrip()


def _marked(text: str, findings: Sequence[Finding]) -> str:
    """Return the text with ⟦ and ⟧ around what was found."""
    marks = sorted(
        {(at, mark) for finding in findings for at, mark in ((finding.start, "⟦"), (finding.end, "⟧"))}, reverse=True
    )
    for at, mark in marks:
        text = text[:at] + mark + text[at:]
    return text
