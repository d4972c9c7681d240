"""`headrace status`: one job with its steps, or the whole."""

import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace_schemas.job import derive_job_id
from headrace_workers.cli.connections import RunningStack, need_ledger, other_prefix, running, served_queues
from headrace_workers.cli.durations import show_ms, show_time
from headrace_workers.cli.job_views import JobDetails
from headrace_workers.cli.options import OneJsonOption
from headrace_workers.cli.output import Line, Rows, console, printable, put_json, put_view, say, table
from headrace_workers.cli.status_views import (
    Local,
    Served,
    StatusPart,
    aside_lines,
    follower_rows,
    held_rows,
    local,
    overview_dict,
    queue_rows,
    step_rows,
    trouble_lines,
    unit_rows,
    unserved_lines,
)
from headrace_workers.core.feature import installed

if TYPE_CHECKING:
    from rich.console import Group

    from headrace_workers.core.ledger.counts import Overview
    from headrace_workers.core.ledger.job_status import JobView
    from headrace_workers.core.ledger.ledger import Ledger

_REFRESH_SECONDS = 1.0
_SHOWN = 10  # jobs of one name


def status(
    job_id: Annotated[
        str | None,
        typer.Argument(
            metavar="[JOB]",
            help="a job's id, idempotency key or correlation id, its event's id, or any name of a refused record; "
            "all if absent",
        ),
    ] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="the tenant, if JOB is a key or an event's id")] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="show it again each second, until Ctrl-C")] = False,
    as_json: OneJsonOption = False,
) -> None:
    """Show a job with its steps, attempts, times and follow-ups; without a job, show queues, work in flight, ages,
    rates and dead letters.

    Reads the ledger. If no stack runs, it shows the ledger that the last one left. Redis tells which queues have a
    worker; if it does not answer, that is unknown. Without --tenant, a key is looked up for `default` and for tenants
    with recent work. Exit code 1: there is no such job.

    Examples: `headrace status`, `headrace status 7d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00 --json`,
    `headrace status order-7 --tenant shop`
    """
    ledger = need_ledger()
    try:
        if reason := other_prefix(ledger):
            say(f"warning: {reason}")
        if watch and not as_json and console(data=True).is_terminal:
            _watch(ledger, job_id, tenant)
        while True:
            _print(ledger, job_id, tenant, as_json)
            if not watch:
                return
            time.sleep(_REFRESH_SECONDS)
    finally:
        ledger.close()


def _print(ledger: "Ledger", job_id: str | None, tenant: str | None, as_json: bool) -> None:
    if job_id is None:
        stack, overview, parts = running(), ledger.overview(), _parts(ledger)
        served = _served(overview)
        if as_json:
            put_json(overview_dict(overview, stack, served, local(), parts))
        else:
            console(data=True).print(draw_overview(overview, stack, served, local(), parts))
        return
    job = _details(ledger, job_id, tenant)
    if as_json:
        put_view(job)
    else:
        console(data=True).print(draw_job(job))
    _tell_refused(ledger, job.id)


def _parts(ledger: "Ledger") -> list[StatusPart]:
    """Return what features show of themselves."""
    return [read(ledger) for feature in installed() for read in feature.status()]


def _tell_refused(ledger: "Ledger", job_id: str) -> None:
    """Print the records that came under the job's id and were refused: their senders look here, too."""
    from headrace_workers.core.ledger.dead_letters import INGEST
    from headrace_workers.core.ledger.replay import DeadFilter

    letters: list[Any] = ledger.dead(DeadFilter(id=job_id, replayed=True), _SHOWN)
    for letter in letters:
        if letter.stage == INGEST:
            say(f"a record under this id was refused: {letter.reason}; see `headrace dead list {letter.id}`")


def _watch(ledger: "Ledger", job_id: str | None, tenant: str | None) -> None:
    from rich.live import Live

    def draw() -> "Group":
        if job_id is not None:
            return draw_job(_details(ledger, job_id, tenant))
        overview = ledger.overview()
        return draw_overview(overview, running(), _served(overview), local(), _parts(ledger))

    with Live(draw(), console=console(data=True), auto_refresh=False) as live:
        while True:
            time.sleep(_REFRESH_SECONDS)
            live.update(draw(), refresh=True)


def _details(ledger: "Ledger", job_id: str, tenant: str | None) -> JobDetails:
    view = _find(ledger, job_id, tenant)
    return JobDetails.of(view, ledger.units_of(view.job.id))


def _find(ledger: "Ledger", job_id: str, tenant: str | None) -> "JobView":
    view = ledger.job(job_id)
    if view is not None:
        return view
    named = ledger.named(job_id, tenant, _SHOWN + 1)
    if len(named) == 1 and (view := ledger.job(named[0])) is not None:
        return view
    from headrace_workers.core.ledger.dead_letters import INGEST
    from headrace_workers.core.ledger.replay import DeadFilter

    letters: list[Any] = []
    for name in (job_id, derive_job_id(tenant or "default", job_id)):  # the second: of a refused record under this key
        letters = letters or ledger.dead(DeadFilter(id=name, replayed=True), 1)
    if named:
        more = ", the newest of them" if len(named) > _SHOWN else ""
        say(f"{job_id} is a name of several jobs{more}: {', '.join(named[:_SHOWN])}")
    elif letters and letters[0].stage == INGEST:
        say(f"{job_id}: refused at admission: {letters[0].reason}; see `headrace dead list {letters[0].id}`")
    elif letters and (view := ledger.job(letters[0].job_id)) is not None:
        return view
    else:
        hint = "" if tenant is not None else "; where it is a key or an event's id, say whose: --tenant"
        say(f"{job_id}: the ledger knows no such job{hint}")
    raise typer.Exit(1)


def _served(found: "Overview") -> Served:
    return served_queues({queue.queue for queue in found.queues})


def draw_overview(
    found: "Overview", stack: RunningStack | None, served: Served, here: Local, parts: Sequence[StatusPart] = ()
) -> "Group":
    """Return the whole, with the parts of features, as tables."""
    from rich.console import Group

    lines = (
        *unserved_lines((queue.queue for queue in found.queues), served),
        *trouble_lines(found.incidents, found.held, found.set_aside),
        *here.lines(),
    )
    return Group(
        _jobs_table(found),
        *([_queues_table(found, served)] if found.queues else []),
        *(Line(printable(line), style="bold") for line in lines),
        *([_held_table(found)] if found.held_by else []),
        _events_table(found, stack),
        *(Line(printable(line), style="dim") for line in here.policies()),
        *([_followers_table(found)] if found.followers else []),
        *(table(part.title, part.columns, part.rows, right=part.right) for part in parts if part.rows),
    )


def _jobs_table(found: "Overview") -> Rows:
    columns = ("active", "done", "dead", "cancelled", "ended in the last minute", "oldest active")
    counts = (found.active, found.done, found.dead, found.cancelled, found.ended_last_minute)
    oldest = show_ms(found.oldest_ms) if found.active else "–"
    return table("jobs", columns, [(*(f"{n:,}" for n in counts), oldest)])


def _queues_table(found: "Overview", served: Served) -> Rows:
    columns = ("queue", "stage", "lane", "waiting", "in flight", "worker")
    return table("queues", columns, queue_rows(found.queues, served), right=("waiting", "in flight"))


def _held_table(found: "Overview") -> Rows:
    columns = ("stage", "waits for", "jobs", "longest", "one of the reasons")
    return table("held", columns, held_rows(found.held_by), right=("jobs", "longest"))


def _events_table(found: "Overview", stack: RunningStack | None) -> Rows:
    columns = ("groups handed out", "events to be published", "dead letters", "broker")
    row = (f"{found.claims:,}", f"{found.outbox:,}", f"{found.dead_letters:,}", _broker(stack))
    return table("events", columns, [row])


def _followers_table(found: "Overview") -> Rows:
    columns = ("worker", "follows", "changes behind", "oldest")
    return table("memories", columns, follower_rows(found.followers), right=("changes behind", "oldest"))


def _broker(stack: RunningStack | None) -> str:
    if stack is None:
        return "no embedded stack runs"
    return f"{stack.broker} at {stack.kafka}" + ("" if stack.durable else " (log in memory)")


def draw_job(job: JobDetails) -> "Group":
    """Return one job with its units, as tables."""
    from rich.console import Group

    head = table(
        None,
        ("job", "tenant", "kind", "state", "accepted", "replays", "took" if job.ended_at else "age"),
        [
            (
                job.id, job.tenant, job.kind or "unknown", job.state, show_time(job.accepted_at), str(job.replays),
                show_ms(job.age_ms),
            )
        ],
    )  # fmt: skip
    steps = table(
        "steps",
        ("stage", "state", "queue", "attempts", "waited", "ran", "reason"),
        step_rows(job),
        right=("attempts", "waited", "ran"),
    )
    untold = [Line(printable(line), style="bold") for line in aside_lines(job)]
    parts: list[Any] = [head, *untold, steps]
    if job.units:
        columns = ("stage", "endpoint", "state", "attempts", "unit", "reason")
        parts.append(table("what follows", columns, unit_rows(job.units), right=("attempts",), whole=("unit",)))
    if job.type is not None and job.end is not None:
        from headrace_workers.cli.receipts import Receipt, because, row_in_full, table_of, whole

        receipt = Receipt.decode(job.type, json.dumps(job.end).encode())
        rows = [row_in_full(receipt)]
        parts.append(table("receipt", *table_of(rows, skip=1), right=("tokens", "ms"), whole=whole(rows)))
        parts += [Line(printable(line), style="dim") for line in because(receipt.event)]
        parts.append(Line("all of it: add --json", style="dim"))
    return Group(*parts)
