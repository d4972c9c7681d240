"""`headrace dataset`: training data from the ledger, and what of it is fit to learn from."""

import io
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final, cast

import typer

from headrace_schemas.errors import ConfigurationError
from headrace_workers.cli.connections import need_ledger
from headrace_workers.cli.durations import rfc3339
from headrace_workers.cli.options import OneJsonOption, tenant_meant
from headrace_workers.cli.output import NoSuchThing, console, put_json, say, table, whole_file
from headrace_workers.cli.pages import refuse_unwritable
from headrace_workers.core.json_lines import Read, read_on
from headrace_workers.features.datasets.clean import SMALL_WORDS, Given, Kept, Removed, Rules, Tally, cleaned
from headrace_workers.features.datasets.duplicates import Near, evaluation_sets
from headrace_workers.features.datasets.examples import Examples, ScoreFilter, Selection
from headrace_workers.features.datasets.export import Split, card_of, split_examples, write_dataset
from headrace_workers.features.moderation.commands.moderation import PolicyOption
from headrace_workers.features.moderation.commands.moderation_try import aids_here
from headrace_workers.features.moderation.moderator import build_moderator
from headrace_workers.features.moderation.settings import ModerationSettings
from headrace_workers.models.registry import list_cards
from headrace_workers.runtime.settings import home_of

_Source = Annotated[Path, typer.Argument(metavar="IN", help="JSON lines, plain, .gz or .zst")]
_Target = Annotated[Path, typer.Argument(metavar="OUT", help="the lines that are kept, as they are")]
_Field = Annotated[
    str | None,
    typer.Option("--field", help="the field with the text; by default messages, or text, prompt, completion, …"),
]
_Tests = Annotated[
    list[Path] | None,
    typer.Option("--tests", metavar="FILE", help="an evaluation set whose items are removed; may be repeated"),
]
_Near = Annotated[
    float, typer.Option("--near", min=0.0, max=1.0, help="remove lines this similar to an earlier line; 0 keeps them")
]
_Language = Annotated[
    str | None, typer.Option("--language", help="keep only this language: de, en, es, fr, it, nl or pt")
]
_Quality = Annotated[bool, typer.Option("--quality/--no-quality", help="remove text that does not look like prose")]
_Removed = Annotated[
    Path | None, typer.Option("--removed", metavar="FILE", help="write line, rule and reason of each removed line here")
]
_LONGEST: Final = 4_000_000  # bytes of a line
_Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="the new folder of the data set")]
_Application = Annotated[
    str | None, typer.Option("--application", "-a", help="only answers of this application: NAME or NAME@VERSION")
]
_Scores = Annotated[
    list[str] | None,
    typer.Option(
        "--score", metavar="CONDITION", help='"right >= 0.8": by people\'s labels, or by the judge; repeatable'
    ),
]
_Teacher = Annotated[
    str | None,
    typer.Option("--from-model", metavar="MODEL", help="accepted answers of this model, instead of reviewed ones"),
]
_HeldOut = Annotated[
    float, typer.Option("--held-out", min=0.0, max=0.5, help="the share of rows that no training may read")
]


def export(
    folder: _Folder,
    application: _Application = None,
    approved: Annotated[bool, typer.Option("--approved", help="answers that people found good")] = False,
    corrected: Annotated[bool, typer.Option("--corrected", help="answers that people corrected")] = False,
    score: _Scores = None,
    teacher: _Teacher = None,
    held_out: _HeldOut = 0.1,
    tests: _Tests = None,
    near: _Near = 0.8,
    language: _Language = None,
    quality: _Quality = True,
    seed: Annotated[int, typer.Option("--seed", min=0, help="draws the rows that are held out")] = 0,
    policy: PolicyOption = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="the jobs' tenant [HEADRACE_TENANT]")] = None,
    as_json: OneJsonOption = False,
) -> None:
    """Make a data set for training out of answers that people approved or corrected, or out of another model's answers.

    Rows are cleaned as `headrace dataset clean` does. Rows of the tenant's evals and of each --tests file are removed.
    Questions that are alike stand on one side of the split. FOLDER gets train.jsonl and held-out.jsonl (chat JSON), the
    lineage of each row, the reason for each removed row, and a card. A tenant with `training = false` in the rules of
    reviews is refused.

    Examples: `headrace dataset export tickets --application ticket-triage --corrected`,
    `headrace dataset export distilled --application ticket-triage --from-model large --score "right >= 0.8"`
    """
    if teacher is not None and (approved or corrected):
        raise ConfigurationError("--from-model takes the model's own answers: leave --approved and --corrected out")
    wanted = Selection(
        tenant=tenant_meant(tenant),
        application=application,
        approved=approved or not corrected,
        corrected=corrected or not approved,
        scores=tuple(map(ScoreFilter.parse, score or ())),
        teacher=teacher,
    )
    tests = tests or []
    split = _split(wanted, policy, language, quality, tests, near=near, held_out=held_out, seed=seed)
    asked = {
        "tenant": wanted.tenant,
        "application": application,
        "score": score or [],
        "from_model": teacher,
        "tests": [path.name for path in tests],
        "near": near,
        "seed": seed,
    }
    card = card_of(split, _licences(), {**asked, "made_at": rfc3339(int(time.time() * 1000))})
    card = write_dataset(folder, split, card)
    if as_json:
        put_json(card | {"folder": str(folder)})
        return
    _show_card(card)
    say(f"{folder}: {len(split.train):,} rows to train on, {len(split.held_out):,} held out; card.json has the counts")


def _split(
    wanted: Selection, policy: Path | None, language: str | None, quality: bool, tests: list[Path], **how: Any
) -> Split:
    """Return the cleaned answers that are wanted, split as `split_examples` does. Raises ConfigurationError where the
    tenant's texts train no model, and NoSuchThing where none is left.
    """
    examples = need_ledger().of(Examples)
    if not examples.may_train(wanted.tenant):
        raise ConfigurationError(
            f"the tenant {wanted.tenant!r} has `training = false` in the rules of reviews: its texts train no model"
        )
    rules = Rules(
        moderator=build_moderator(policy or ModerationSettings.from_env().policy, aids_here()),
        language=_checked_language(language),
        quality=quality,
        tests=evaluation_sets(
            [*_items(tests, None), *examples.eval_texts(wanted.tenant)], [path.name for path in tests]
        ),
    )
    with console().status("reading the ledger"):
        split = split_examples(examples.of(wanted), rules, **how)
    if not (split.train or split.held_out):
        raise NoSuchThing(_none_left(wanted, Counter(rule for rule, _, _ in split.removed)))
    return split


def _show_card(card: dict[str, Any]) -> None:
    rows = [
        (kind, name, f"{count:,}") for kind in ("sources", "models", "removed") for name, count in _counts(card[kind])
    ]
    console(data=True).print(table(None, ("", "what", "rows"), rows, right=("rows",)))


def _counts(of: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield names and counts of a part of a card."""
    for name, value in of.items():
        yield (f"{name} ({value['licence']})", value["rows"]) if isinstance(value, dict) else (name, value)


def _none_left(wanted: Selection, removed: Counter[str]) -> str:
    where = f"of {wanted.application}" if wanted.application else f"of the tenant {wanted.tenant}"
    if removed:
        rules = ", ".join(f"{rule} {count:,}" for rule, count in removed.most_common())
        return f"all {removed.total():,} examples {where} were removed: {rules}"
    if wanted.teacher is not None:
        return f"no ended job {where} was answered by {wanted.teacher}: the ledger keeps jobs for HEADRACE_RETENTION"
    return f"nobody approved or corrected an answer {where}: `headrace review next` asks for decisions"


def _licences() -> dict[str, str]:
    """Return the licences of this machine's models, by their names."""
    return {card.alias: card.licence for card in list_cards(home_of())}


def _checked_language(language: str | None) -> str | None:
    if language is not None and language not in SMALL_WORDS:
        raise ConfigurationError(f"--language {language}: it may be {', '.join(sorted(SMALL_WORDS))}")
    return language


def clean(
    source: _Source,
    target: _Target,
    field: _Field = None,
    tests: _Tests = None,
    near: _Near = 0.8,
    language: _Language = None,
    quality: _Quality = True,
    removed: _Removed = None,
    policy: PolicyOption = None,
    as_json: OneJsonOption = False,
) -> None:
    """Keep the lines that a model may learn from, and give the reason for each line that is removed.

    A line is removed if it cannot be read, is hardly a text, is in another language, repeats an earlier line exactly or
    nearly, contains a test item, or does not pass moderation unchanged: personal data and secrets, for example. OUT is
    written whole or not at all. Lines keep their order and their bytes.

    Example: `headrace dataset clean raw.jsonl clean.jsonl --tests eval.jsonl --language en --removed removed.jsonl`
    """
    _apart(source, target, removed)
    rules = Rules(
        moderator=build_moderator(policy or ModerationSettings.from_env().policy, aids_here()),
        field=field,
        quality=quality,
        language=_checked_language(language),
        tests=evaluation_sets(_items(tests or [], field), [path.name for path in tests or []]),
        near=Near(near) if near else None,
    )
    tally = Tally()
    with whole_file(target) as kept, nullcontext() if removed is None else whole_file(removed) as report:
        for item in cleaned(_given(source), rules):
            tally.add(item)
            if isinstance(item, Kept):
                kept.write(item.line.rstrip(b"\r\n") + b"\n")
            elif report is not None:
                report.write(_line_of(item))
    _show(tally, target, as_json)


def _show(tally: Tally, target: Path, as_json: bool) -> None:
    if as_json:
        put_json(tally.document() | {"file": str(target)})
        return
    rows = [(rule, f"{count:,}", f"{count / tally.read:.1%}") for rule, count in tally.counts()]
    if rows:
        console(data=True).print(table(None, ("removed as", "lines", "share"), rows, right=("lines", "share")))
        examples = [(rule, str(removed.number), removed.reason, removed.text) for rule, removed in tally.shown()]
        console(data=True).print(table("examples", ("rule", "line", "why", "begins"), examples, right=("line",)))
    say(f"{target}: {tally.kept:,} of {tally.read:,} lines kept")


def _line_of(each: Removed) -> bytes:
    fields = {"line": each.number, "rule": str(each.rule), "reason": each.reason}
    return json.dumps(fields, ensure_ascii=False).encode() + b"\n"


def _apart(source: Path, target: Path, removed: Path | None) -> None:
    paths = [path.resolve() for path in (source, target, removed) if path is not None]
    if len(set(paths)) < len(paths):
        raise ConfigurationError("IN, OUT and --removed must be three different files")
    for path in paths[1:]:
        refuse_unwritable(path)


def _given(path: Path) -> Iterator[Given]:
    """Yield the lines of a file with something in them, and a bar on a terminal."""
    from rich.progress import wrap_file

    def shown(raw: io.RawIOBase) -> AbstractContextManager[BinaryIO]:
        size = path.stat().st_size
        return wrap_file(cast(BinaryIO, raw), size, description="cleaning", console=console(), transient=True)

    for line in _lines(path, shown):
        yield Given(line.number, None if line.too_long else line.text)


def _items(paths: list[Path], field: str | None) -> Iterator[tuple[str, str]]:
    """Yield the texts of evaluation sets. Raise an error for an unreadable one: its items could not be removed."""
    from headrace_workers.features.datasets.clean import Unreadable, text_of

    for path in paths:
        for line in _lines(path):
            try:
                yield text_of(line.text, field), path.name
            except Unreadable as error:
                raise ConfigurationError(f"{path}:{line.number}: {error}") from None


def _lines(path: Path, shown: Callable[[io.RawIOBase], AbstractContextManager[Any]] = nullcontext) -> Iterator[Read]:
    """Yield the lines of a file, compressed or not, with something in them."""
    from headrace_workers.core.text_file import NotReadable, text_of

    try:
        with path.open("rb", buffering=0) as raw, shown(raw) as file:
            yield from (line for line in read_on(text_of(file, bounded=False), _LONGEST) if not line.is_empty)
    except NotReadable as error:
        raise ConfigurationError(f"{path}: {error}") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
