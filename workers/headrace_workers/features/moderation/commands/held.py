"""`headrace review held`: steps that are held, and what a person decides about them."""

from typing import Annotated, Any

import typer

from headrace_schemas.errors import Category, ConfigurationError, HeadraceError
from headrace_workers.cli.connections import need_ledger, ring_bridges
from headrace_workers.cli.durations import show_time
from headrace_workers.cli.options import JsonLinesOption, limit_option
from headrace_workers.cli.output import Column, printable, put, put_json, put_list, put_view, say
from headrace_workers.features.moderation.views import HeldJob, HeldText


class NotHeld(HeadraceError):
    """Nothing of a job is held."""

    category = Category.CONFLICT


def held(
    jobs: Annotated[list[str] | None, typer.Argument(metavar="[JOB]...", help="show these jobs, with texts")] = None,
    release: Annotated[bool, typer.Option("--release", help="let these jobs go on")] = False,
    withhold: Annotated[
        str | None, typer.Option("--withhold", metavar="REASON", help="end these jobs as dead, with this reason")
    ] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="only this tenant's jobs")] = None,
    limit: Annotated[int, limit_option("the number of jobs, the longest held first")] = 100,
    as_json: JsonLinesOption = False,
) -> None:
    """List held jobs, the longest first: job, stage, since when, for whom, and what is asked or unavailable.

    With JOB, show that job for a decision: the reason, the prompt, and the text as the model wrote it. Moderation has
    not passed that text. It is shown here and nowhere else.

    With --release, the held step of each job runs again, and knows that a person released it. With --withhold, the jobs
    end as dead with that reason, which the sender reads; `headrace dead replay` asks for a new decision. Exit code 1:
    some of these jobs were not held.

    Examples: `headrace review held`, `headrace review held 7d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00 --release`,
    `headrace review held 7d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00 --withhold "names a customer"`
    """
    if release or withhold is not None:
        _decide(jobs or [], release, withhold, as_json)
        return
    for job in jobs or ():
        _show(job, as_json)
    if jobs:
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


def _decide(jobs: list[str], release: bool, reason: str | None, as_json: bool) -> None:
    """Release the jobs, or withhold them for this reason; print the outcome, and notify the bridges."""
    if not jobs or (release and reason is not None):
        raise ConfigurationError("give the jobs, and one of --release and --withhold REASON")
    if reason is not None and not reason.strip():
        raise ConfigurationError("--withhold is empty: give a reason, which the job's sender reads")
    ledger, named = need_ledger(), list(dict.fromkeys(jobs))
    if reason is None:
        what, done = "released", frozenset(job for job in named if ledger.release_held([job]))
    else:
        what, done = "withheld", ledger.withhold(named, reason)
    for job in named:
        if job not in done:
            say(f"{job}: it is not held; `headrace review held` shows held jobs")
    if as_json:
        put_json({what: len(done)})
    say(f"{len(done)} {what}")
    if done:
        ring_bridges()
    raise typer.Exit(0 if done.issuperset(jobs) else 1)


def _waits_for(job: HeldJob) -> str:
    return "a person" if job.needs_person else f"a try at {show_time(job.again_at)}"
