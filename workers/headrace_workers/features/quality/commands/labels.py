"""`headrace review labels`: what people say of jobs' ends, taken in from files, listed, and written out again."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, BinaryIO, Final

import typer
from pydantic import ValidationError

from headrace_schemas.errors import Category, ConfigurationError, HeadraceError
from headrace_schemas.reasons import describe
from headrace_schemas.review import Review
from headrace_workers.cli import asking
from headrace_workers.cli.connections import need_ledger
from headrace_workers.cli.durations import rfc3339
from headrace_workers.cli.options import JsonLinesOption, tenant_meant
from headrace_workers.cli.output import Column, NoSuchThing, be_sure, put_bytes, put_list, say
from headrace_workers.core.json_lines import LineTooLong, NoJSON, lines, listed, parsed
from headrace_workers.features.quality.store import Labels, Which, review_of

_LONGEST_LINE: Final = 100_000  # bytes
_AT_ONCE: Final = 500

_TenantOption = Annotated[str | None, typer.Option("--tenant", help="only labels of this tenant's jobs")]


class WrongLabels(HeadraceError):
    """A file with lines that are not labels; the message has a line `file:line: reason` for each."""

    category = Category.INVALID


class NoSuchLabels(NoSuchThing):
    """There are no labels that could be removed."""


class NotTaken(HeadraceError):
    """Labels of unknown jobs; the others were imported."""

    category = Category.CONFLICT


def import_labels(
    file: Annotated[str, typer.Argument(help="labels as JSON lines, or - for standard input")],
    tenant: Annotated[
        str | None, typer.Option("--tenant", help="the jobs' tenant, for lines that name none [HEADRACE_TENANT]")
    ] = None,
) -> None:
    """Import labels. A line is `{"job_id": …, "criterion": "polite", "label": true, "who": "ann", "when": "2026-…Z"}`.

    Use `category` instead of `criterion` for moderation, and `score` (0 to 1) instead of `label`. `probability` is the
    probability with which the job was sampled for labelling. You may import a file again; contradicting labels are all
    kept. If any line is wrong, nothing is imported. Labels of unknown jobs are named, and the others are imported.

    Example: `headrace review import labels.jsonl`
    """
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
        raise NotTaken(_problem_text(refused, "not taken"))


def labels(
    tenant: _TenantOption = None,
    export: Annotated[bool, typer.Option("--export", help="each label, as `review import` takes it")] = False,
    as_json: JsonLinesOption = False,
) -> None:
    """Show how many labels there are, of how many jobs, and by how many people.

    With --export, write all labels as JSON lines, oldest first.

    Examples: `headrace review labels --tenant shop`, `headrace review labels --export > labels.jsonl`
    """
    if export:
        for row in need_ledger().of(Labels).all(tenant):
            put_bytes(review_of(row).model_dump_json(exclude_none=True).encode())
        return
    found: Sequence[Any] = need_ledger().of(Labels).counted(tenant)
    if as_json:
        found = [
            {"tenant": row.tenant, row.kind: row.about, "labels": row.labels, "jobs": row.jobs, "people": row.people,
             "newest": rfc3339(row.newest)}
            for row in found
        ]  # fmt: skip
    counts = {name: name for name in ("labels", "jobs", "people")}
    columns: dict[str, Column] = {
        "tenant": "tenant", "of a": "kind", "named": "about", **counts, "newest": lambda row: rfc3339(row.newest),
    }  # fmt: skip
    nothing = "there are no labels: `headrace review import FILE` imports them"
    put_list(found, columns, nothing, as_json=as_json, right=tuple(counts))


def remove(
    criterion: Annotated[str | None, typer.Option("--criterion", help="labels about this criterion")] = None,
    category: Annotated[str | None, typer.Option("--category", help="labels about this moderation category")] = None,
    who: Annotated[str | None, typer.Option("--who", help="only of this person")] = None,
    job: Annotated[str | None, typer.Option("--job", help="only of this job")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="the jobs' tenant [HEADRACE_TENANT]")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
) -> None:
    """Remove wrong labels, such as those with a misspelt name, or of a person who erred.

    They cannot be restored: export them first with `headrace review labels --export`. Quality and pass rates are
    computed without them.

    Example: `headrace review unlabel --criterion polit --yes`
    """
    if (criterion is None) == (category is None):
        raise ConfigurationError("give --criterion NAME, or --category NAME (`headrace review labels`)")
    kind = "category" if criterion is None else "criterion"
    which = Which(tenant_meant(tenant), kind, criterion or category or "", who, job)
    kept = need_ledger().of(Labels)
    count = kept.count(which)
    these = f"about the {kind} {which.about!r} of {which.tenant}"
    if not count:
        narrowed = "".join(f", of the {what} {name!r}" for what, name in (("person", who), ("job", job)) if name)
        raise NoSuchLabels(f"there are no labels {these}{narrowed}: `headrace review labels` shows what is labelled")
    if not yes:
        be_sure(f"Remove {count:,} label{'s' if count != 1 else ''} {these}?", "nothing was removed")
    removed = kept.remove(which)
    say(f"{removed:,} label{'s' if removed != 1 else ''} {these} {'are' if removed != 1 else 'is'} removed")


def _checked(stream: BinaryIO, name: str, tenant: str) -> Iterator[tuple[int, Review]]:
    """Yield each line's number and label. At the end raise WrongLabels, which names each wrong line."""
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
        raise WrongLabels(_problem_text(problems, "wrong, and nothing was taken in"))


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
    for review in reviews:
        chunk.append(review)
        if len(chunk) == _AT_ONCE:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _problem_text(problems: list[str], what: str) -> str:
    noun = "label is" if len(problems) == 1 else "labels are"
    return f"{len(problems):,} {noun} {what}:\n{listed(problems)}"
