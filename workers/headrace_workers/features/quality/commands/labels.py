"""`headrace labels`: what people say of jobs' ends, taken in from files, listed, and written out again."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, BinaryIO, Final

import typer
from pydantic import ValidationError

from headrace_schemas.errors import Category, ConfigurationError, HeadraceError
from headrace_schemas.reasons import describe
from headrace_schemas.review import Review
from headrace_workers.cli import asking
from headrace_workers.cli.confirm import be_sure
from headrace_workers.cli.durations import rfc3339
from headrace_workers.cli.options import JsonLinesOption, tenant_meant
from headrace_workers.cli.output import console, put_bytes, put_json, say, table
from headrace_workers.core.json_lines import LineTooLong, NoJSON, lines, listed, parsed

_LONGEST_LINE: Final = 100_000  # bytes
_AT_ONCE: Final = 500

_TenantOption = Annotated[str | None, typer.Option("--tenant", help="whose jobs they are of; all by default")]


class WrongLabels(HeadraceError):
    """Lines that are no labels; the message has a line `file:line: reason` for each."""

    category = Category.INVALID


class NoSuchLabels(HeadraceError):
    """There are no labels that could be removed."""

    category = Category.INVALID


class NotTaken(HeadraceError):
    """Labels of jobs that are not known: the others were taken."""

    category = Category.CONFLICT


def register(app: typer.Typer) -> None:
    """Add these commands."""
    labels = typer.Typer(help="What people say of answers, to compare verdicts with.", no_args_is_help=True)
    labels.command("import")(import_labels)
    labels.command("list")(list_labels)
    labels.command("export")(export)
    labels.command("remove")(remove)
    app.add_typer(labels, name="labels")


def import_labels(
    file: Annotated[str, typer.Argument(help="labels as JSON lines, or - for standard input")],
    tenant: Annotated[
        str | None, typer.Option("--tenant", help="whose jobs they are of, where a line does not say [HEADRACE_TENANT]")
    ] = None,
) -> None:
    """Take labels in: a line is `{"job_id": …, "criterion": "polite", "label": true, "who": "ann", "when": "2026-…Z"}`.

    `category` instead of `criterion` for moderation's, `score` (0 to 1) instead of `label`, and `probability`, with
    which the job was drawn to be labelled. The same file may be taken in again; labels that contradict each other are
    kept. Where a line is wrong, nothing is taken in; labels of unknown jobs are named, and the others are taken.

    Example: `headrace labels import labels.jsonl`
    """
    from headrace_workers.cli.connections import need_ledger
    from headrace_workers.features.quality.store.labels import Labels

    whose = tenant_meant(tenant)
    with asking.opened(file) as (stream, name):
        total = sum(1 for _ in _checked(stream, name, whose))
        ledger = need_ledger()
        new, refused = 0, list[str]()
        for chunk in _chunks(_checked(stream, name, whose)):
            added = ledger.of(Labels).add([review for _, review in chunk])
            new += added.new
            refused += [f"{name}:{chunk[place][0]}: {why}" for place, why in sorted(added.refused.items())]
    say(f"{new:,} of {total:,} labels are new")
    if refused:
        raise NotTaken(_told(refused, "not taken"))


def list_labels(tenant: _TenantOption = None, as_json: JsonLinesOption = False) -> None:
    """What is labelled: how many labels there are, of how many jobs, and by how many people.

    Example: `headrace labels list --tenant shop`
    """
    from headrace_workers.cli.connections import need_ledger
    from headrace_workers.features.quality.store.labels import Labels

    found = need_ledger().of(Labels).counted(tenant)
    if as_json:
        for row in found:
            put_json(
                {"tenant": row.tenant, row.kind: row.about, "labels": row.labels, "jobs": row.jobs,
                 "people": row.people, "newest": rfc3339(row.newest)}
            )  # fmt: skip
        return
    if not found:
        say("there are no labels: `headrace labels import FILE` takes them in")
        return
    rows = [
        (
            row.tenant,
            row.kind,
            row.about,
            f"{row.labels:,}",
            f"{row.jobs:,}",
            f"{row.people:,}",
            rfc3339(row.newest) or "",
        )
        for row in found
    ]
    columns = ("tenant", "of a", "named", "labels", "jobs", "people", "newest")
    console(data=True).print(table(None, columns, rows, right=("labels", "jobs", "people")))


def export(tenant: _TenantOption = None) -> None:
    """Write all labels as JSON lines that `import` takes, oldest first.

    Example: `headrace labels export > labels.jsonl`
    """
    from headrace_workers.cli.connections import need_ledger
    from headrace_workers.features.quality.store.labels import Labels

    for row in need_ledger().of(Labels).all(tenant):
        put_bytes(_review(row).model_dump_json(exclude_none=True).encode())


def remove(
    criterion: Annotated[str | None, typer.Option("--criterion", help="labels about this criterion")] = None,
    category: Annotated[str | None, typer.Option("--category", help="or about this category of moderation")] = None,
    who: Annotated[str | None, typer.Option("--who", help="of this person alone")] = None,
    job: Annotated[str | None, typer.Option("--job", help="of this job alone")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="whose jobs they are of [HEADRACE_TENANT]")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
) -> None:
    """Remove labels that should not have been taken in: of a name that is misspelt, or that a person got wrong.

    `headrace labels export` keeps them first: what is removed is gone. What quality and pass rates say follows.

    Example: `headrace labels remove --criterion polit --yes`
    """
    from headrace_workers.cli.connections import need_ledger
    from headrace_workers.features.quality.store.labels import Labels, Which

    if (criterion is None) == (category is None):
        raise ConfigurationError("say which labels: --criterion NAME, or --category NAME (`headrace labels list`)")
    kind = "category" if criterion is None else "criterion"
    which = Which(tenant_meant(tenant), kind, criterion or category or "", who, job)
    labels = need_ledger().of(Labels)
    count = labels.count(which)
    these = f"about the {kind} {which.about!r} of {which.tenant}"
    if not count:
        narrowed = "".join(f", of the {what} {name!r}" for what, name in (("person", who), ("job", job)) if name)
        raise NoSuchLabels(f"there are no labels {these}{narrowed}: `headrace labels list` shows what is labelled")
    if not yes:
        be_sure(f"Remove {count:,} label{'s' if count != 1 else ''} {these}?", "nothing was removed")
    removed = labels.remove(which)
    say(f"{removed:,} label{'s' if removed != 1 else ''} {these} {'are' if removed != 1 else 'is'} removed")


def _review(row: Any) -> Review:
    said = {"label": bool(row.value)} if row.value in (0.0, 1.0) else {"score": row.value}
    return Review.model_validate(
        {
            "job_id": row.job_id,
            "tenant": row.tenant,
            row.kind: row.about,
            **said,
            "who": row.who,
            "when": datetime.fromtimestamp(row.said_at / 1000, UTC),
            "probability": row.probability,
        }
    )


def _checked(stream: BinaryIO, name: str, tenant: str) -> Iterator[tuple[int, Review]]:
    """Each line's number and label. WrongLabels, at the end, names each line that is none."""
    problems: list[str] = []
    stream.seek(0)
    try:
        for line in lines(stream, _LONGEST_LINE):
            try:
                yield line.number, _parsed(line.text, tenant)
            except ValueError as error:
                problems.append(f"{name}:{line.number}: {error}")
    except LineTooLong as error:
        problems.append(f"{name}:{error.number}: it has more than {_LONGEST_LINE:,} bytes")
    if problems:
        raise WrongLabels(_told(problems, "wrong, and nothing was taken in"))


def _parsed(text: bytes, tenant: str) -> Review:
    found = parsed(text)
    if not isinstance(found, dict):
        raise NoJSON('it must be a JSON object, such as {"job_id": …}')
    try:
        review = Review.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise ValueError(describe(error, text)) from None
    return review if "tenant" in found else review.model_copy(update={"tenant": tenant})


def _chunks(reviews: Iterator[tuple[int, Review]]) -> Iterator[list[tuple[int, Review]]]:
    chunk: list[tuple[int, Review]] = []
    for each in reviews:
        chunk.append(each)
        if len(chunk) == _AT_ONCE:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _told(problems: list[str], what: str) -> str:
    noun = "label is" if len(problems) == 1 else "labels are"
    return f"{len(problems):,} {noun} {what}:\n{listed(problems)}"
