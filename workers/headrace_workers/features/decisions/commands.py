"""`headrace decisions`: calibrate the probabilities that a model gives to answers."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from headrace_producers.settings import ProducerSettings
from headrace_schemas import HeadraceError, Message
from headrace_schemas.decision import Choice, Predicate, Question
from headrace_schemas.errors import ConfigurationError
from headrace_schemas.limits import NonEmptyText
from headrace_workers.cli.connections import need_ledger
from headrace_workers.cli.options import OneJsonOption, tenant_meant
from headrace_workers.cli.output import console, put_json, say, table
from headrace_workers.features.decisions.calibration import Calibrated, CalibrationError, Row, without_labels
from headrace_workers.features.decisions.deciding import DecisionRequest, QuestionScores, decide_all
from headrace_workers.features.decisions.temperatures import Calibrations, digest_of, fingerprint
from headrace_workers.models.engines.load_generator import load_generator
from headrace_workers.models.generator import Generator
from headrace_workers.models.registry import Registry
from headrace_workers.runtime.settings import home_of

_MOST_ROWS: Final = 100_000
_AT_ONCE: Final = 64


def calibrate(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="JSON lines: input, question, answer")],
    model: Annotated[str | None, typer.Option("--model", help="by default HEADRACE_MODEL")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="whose decisions are calibrated")] = None,
    content_free: Annotated[
        bool,
        typer.Option(
            "--content-free", help="fit choices without labels, to what the model says of texts without content"
        ),
    ] = False,
    as_json: OneJsonOption = False,
) -> None:
    """Fit a temperature and a bias of each label to each question, and write them to the ledger for the workers of the
    model.

    A line is `{"input": …, "question": {"type": "predicate", …}, "answer": true}`: the question as jobs ask it, and
    its right answer (true or false, the value of a choice, the label of a level). A question with 100 lines gets a
    calibration of its own, one with 50 the temperature of all lines; with fewer, its answers stay `calibrated: false`,
    and so do those that say no more about the lines than the shares of the labels. A bias is used only where it gains.
    Errors and accuracies are measured on lines that nothing was fitted on. Another model or another version of headrace
    voids a calibration.

    Without labels, `--content-free` takes lines with a choice each and corrects what the model prefers when the input
    says nothing. It may help or hurt, and answers stay `calibrated: false`: prefer labels.

    Example: `headrace decisions calibrate labelled.jsonl --model smollm2-135m-instruct`
    """
    from headrace_workers.features.decisions.calibration import calibrate as fitted

    alias, owner, home = model or ProducerSettings.from_env().model, tenant_meant(tenant), home_of()
    lines = _choices(data) if content_free else _read(data)
    store = need_ledger().of(Calibrations)
    generator = load_generator(home, alias, needs_logprobs=True)
    with console().status(f"asking {alias}: {len(lines):,} lines") as status:

        def show(done: int) -> None:
            status.update(f"asking {alias}: {done:,} of {len(lines):,} lines")

        rows, refused = _asked(generator, lines, show)
    if content_free:
        found = {digest: Calibrated(0, without_labels([row.probabilities for row in asked]))
                 for digest, asked in rows.items() if asked}  # fmt: skip
    else:
        found = fitted(rows)
    mark = fingerprint(Registry(home).version(alias), generator.quantization)
    store.replace(
        owner,
        alias,
        mark,
        {digest: (calibrated.calibration, calibrated.labels) for digest, calibrated in found.items()},
    )
    questions = {digest_of(question): question for _, question, _ in lines}
    if as_json:
        put_json({"model": alias, "tenant": owner, "refused": refused,
                  "questions": [_document(questions[digest], made) for digest, made in found.items()]})  # fmt: skip
        return
    cells = [_cells(questions[digest], calibrated) for digest, calibrated in found.items()]
    columns = ("question", "lines", "temperature", "bias", "right before", "right after", "largest label",
               "error before", "error after")  # fmt: skip
    console(data=True).print(table(None, columns, cells, right=columns[1:7]))
    for digest, calibrated in found.items():
        if calibrated.at_chance:
            say(f"{_name(questions[digest])}: not calibrated: {alias} answers it at chance. Its probabilities say no "
                "more about these lines than the shares of the labels: give more lines, ask another model, or train a "
                "classifier (`headrace classifier train`)")  # fmt: skip
    say(f"{alias}: {sum(map(len, rows.values()))} lines were answered, {refused} were refused for too little mass")


_Line = tuple[str, "Question", int]
_CONTENT_FREE: Final = ("N/A", "[MASK]", "-")


def _choices(data: Path) -> list[_Line]:
    """Return each choice of the file once with each text without content. ConfigurationError names another question."""
    questions = {digest_of(question): question for _, question, _ in _read(data, labelled=False)}
    for question in questions.values():
        if not isinstance(question, Choice):
            raise ConfigurationError(
                f"{data} has a {question.type}, and --content-free is for choices: leave it out, or give labelled lines"
            )
    return [(text, question, 0) for question in questions.values() for text in _CONTENT_FREE]


def _read(data: Path, *, labelled: bool = True) -> list[_Line]:
    """Return input, question and the place of the right label of each line. ConfigurationError names a wrong line."""
    import json

    from pydantic import TypeAdapter, ValidationError

    questions: TypeAdapter[Any] = TypeAdapter(Question)
    texts: TypeAdapter[str] = TypeAdapter(NonEmptyText)
    lines: list[_Line] = []
    try:
        with data.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                if number > _MOST_ROWS:
                    raise ConfigurationError(f"{data} has more than {_MOST_ROWS:,} lines: leave some out")
                try:
                    row = json.loads(line)
                    question = questions.validate_python(row["question"])
                    text = texts.validate_python(row["input"]) if labelled else ""
                    lines.append((text, question, _place(question, row["answer"]) if labelled else 0))
                except (ValidationError, ValueError, KeyError, TypeError, RecursionError) as error:
                    missing = f"`{error.args[0]}` is missing: " if isinstance(error, KeyError) else ""
                    raise ConfigurationError(
                        f"{data}, line {number}: {missing}give input, question and answer, the answer one of the "
                        "question's"
                    ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{data} cannot be read: {error}") from error
    if not lines:
        raise ConfigurationError(f"{data} has no lines")
    return lines


def _place(question: Question, answer: Any) -> int:
    """Return the place of an answer among a question's labels. ValueError if it is none of them."""
    match question:
        case Predicate():
            if not isinstance(answer, bool):
                raise ValueError("a predicate is true or false")
            return 0 if answer else 1
        case Choice():
            values = [(type(choice.value), choice.value) for choice in question.choices]
            return values.index((type(answer), answer))
    return [level.label for level in question.levels].index(answer)


def _asked(generator: Generator, lines: list[_Line], show: Callable[[int], object]) -> tuple[dict[str, list[Row]], int]:
    """Return the rows of each question by its digest, and how many the model did not answer. Show how many lines were
    asked.
    """
    rows: dict[str, list[Row]] = {digest_of(question): [] for _, question, _ in lines}
    refused = 0
    for start in range(0, len(lines), _AT_ONCE):
        part = lines[start : start + _AT_ONCE]
        asked = [DecisionRequest((Message(role="user", content=text),), (question,)) for text, question, _ in part]
        for (_, question, place), decided in zip(part, decide_all(generator, asked), strict=True):
            if isinstance(decided, HeadraceError):
                raise decided
            scores = decided.answers[0]  # of one question, which was asked
            if not isinstance(scores, QuestionScores):
                refused += 1
            else:
                rows[digest_of(question)].append(Row(scores.probabilities, place))
        show(start + len(part))
    return rows, refused


def _document(question: Question, found: Calibrated) -> dict[str, Any]:
    from dataclasses import asdict

    document = {"name": question.name, "instructions": question.instructions, **asdict(found)}
    fitted = document.pop("calibration")
    return document | {"temperature": fitted and fitted[0], "bias": fitted and list(fitted[1])}


def _name(question: Question) -> str:
    return question.name or question.instructions[:40]


def _cells(question: Question, found: Calibrated) -> tuple[str, ...]:
    temperature = bias = "–"
    if found.calibration is not None:
        temperature = f"{found.calibration.temperature:.2f}" + (" (of the model)" if found.shared else "")
        bias = "yes" if found.calibration.bias else "no gain"
    elif found.at_chance:
        temperature = "at chance"
    shares = (found.accuracy_before, found.accuracy_after, found.largest)
    return (
        _name(question), f"{found.labels}", temperature, bias,
        *("–" if share is None else f"{share:.0%}" for share in shares), _error(found.before), _error(found.after),
    )  # fmt: skip


def _error(error: CalibrationError | None) -> str:
    return "–" if error is None else f"{error.value:.3f} ({error.low:.3f} to {error.high:.3f})"
