"""`headrace review held`, `release` and `withhold`: steps that are held, and what a person decides about them."""

from typing import Annotated, Any

import typer

from headrace_schemas.errors import Category, ConfigurationError, HeadraceError
from headrace_workers.cli.connections import need_ledger, ring_bridges
from headrace_workers.cli.durations import show_time
from headrace_workers.cli.options import JsonLinesOption, OneJsonOption, limit_option
from headrace_workers.cli.output import Column, printable, put, put_json, put_list, put_view, say
from headrace_workers.features.moderation.views import HeldJob, HeldText

_IdsArgument = Annotated[list[str], typer.Argument(metavar="JOB...", help="as `headrace review held` shows them")]


class NotHeld(HeadraceError):
    """Nothing of a job is held."""

    category = Category.CONFLICT


def held(
    job: Annotated[str | None, typer.Argument(metavar="[JOB]", help="show this job, with its texts")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="only this tenant's jobs")] = None,
    limit: Annotated[int, limit_option("the number of jobs, the longest held first")] = 100,
    as_json: JsonLinesOption = False,
) -> None:
    """List held jobs, the longest first: job, stage, since when, for whom, and what is asked or unavailable.

    With JOB, show that job for a decision: the reason, the prompt, and the text as the model wrote it. Moderation has
    not passed that text. It is shown here and nowhere else.

    Examples: `headrace review held`, `headrace review held 7d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00`
    """
    if job is not None:
        _show(job, as_json)
        return
    found: list[Any] = need_ledger().held(limit + 1, tenant)
    columns: dict[str, Column] = {
        "job": "job_id", "tenant": "tenant", "stage": "stage", "since": lambda job: show_time(job.since),
        "waits for": _waits_for, "reason": "reason",
    }  # fmt: skip
    views = list(map(HeldJob.of, found))
    which = "that wait longest"
    put_list(views, columns, "nothing is held", as_json=as_json, limit=limit, which=which, whole=("job",))


def _show(job: str, as_json: bool) -> None:
    row = need_ledger().held_of(job)
    if row is None:
        raise NotHeld(f"{job}: it is not held; `headrace review held` shows held jobs")
    view = HeldText.of(row)
    if as_json:
        put_view(view)
        return
    for name, text in (
        ("job", f"{view.job_id} of {view.tenant}, at {view.stage}"), ("since", show_time(view.since)),
        ("waits for", _waits_for(view)), ("reason", view.reason or ""), ("asked", view.asked), ("text", view.text),
    ):  # fmt: skip
        if text is not None:
            put(f"{name}: {printable(text)}")


def release(jobs: _IdsArgument, as_json: OneJsonOption = False) -> None:
    """Release held jobs: the held step of each runs again, and knows that a person released it.

    Exit code 1: some of these jobs were not held.

    Example: `headrace review release 7d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00`
    """
    ledger = need_ledger()
    _done("released", jobs, frozenset(job for job in dict.fromkeys(jobs) if ledger.release_held([job])), as_json)


def withhold(
    jobs: _IdsArgument,
    reason: Annotated[str, typer.Option("--reason", help="the reason, for the dead letter")],
    as_json: OneJsonOption = False,
) -> None:
    """End held jobs as dead, with this reason. `headrace dead replay` asks for a new decision.

    Exit code 1: some of these jobs were not held.

    Example: `headrace review withhold 7d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00 --reason "names a customer"`
    """
    if not reason.strip():
        raise ConfigurationError("--reason is empty: give a reason, which the job's sender reads")
    _done("withheld", jobs, need_ledger().withhold(list(dict.fromkeys(jobs)), reason), as_json)


def _waits_for(job: HeldJob) -> str:
    return "a person" if job.needs_person else f"a try at {show_time(job.again_at)}"


def _done(what: str, jobs: list[str], done: frozenset[str], as_json: bool) -> None:
    """Print the outcome, and notify the bridges."""
    for job in dict.fromkeys(jobs):
        if job not in done:
            say(f"{job}: it is not held; `headrace review held` shows held jobs")
    if as_json:
        put_json({what: len(done)})
    say(f"{len(done)} {what}")
    if done:
        ring_bridges()
    raise typer.Exit(0 if done.issuperset(jobs) else 1)
