"""`headrace cancel`: cancel a job, and print the outcome if the ledger can be reached."""

import time
import uuid
from contextlib import suppress
from typing import Annotated

import typer

from headrace_producers import Producer
from headrace_schemas.job import derive_job_id
from headrace_workers.cli.connections import find_ledger
from headrace_workers.cli.options import OneJsonOption
from headrace_workers.cli.output import NoSuchThing, hush_kafka, put_json, say
from headrace_workers.core.ledger.job_status import JobView
from headrace_workers.core.ledger.ledger import Ledger

_WAIT_SECONDS = 10.0
_POLL_SECONDS = 0.1
_SHOWN = 10  # jobs of one name


def cancel(
    job: Annotated[
        str,
        typer.Argument(metavar="JOB", help="a job's id, idempotency key or correlation id, or its event's id"),
    ],
    tenant: Annotated[
        str | None,
        typer.Option("--tenant", help="the job's tenant, if JOB is no job's id or no ledger can be reached"),
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="the reason for the job's receipt")] = "",
    as_json: OneJsonOption = False,
) -> None:
    """Cancel a job that has not ended. Exit code 1: it had ended before, or JOB is a name of no job or of several.

    Without --tenant, a key is looked up for `default` and for tenants with recent work.

    Examples: `headrace cancel 7d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00`, `headrace cancel order-7 --tenant shop`
    """
    hush_kafka()
    ledger = find_ledger(live=True)
    job_id = _id_of(job, tenant, ledger)
    view = ledger.job(job_id) if ledger else None
    state = _state(view) if view else None
    if view and tenant not in (None, view.job.tenant):
        state = "not_yours"
    if state in (None, "active"):
        with Producer.from_env() as producer:
            producer.cancel(job_id, tenant=tenant or (view.job.tenant if view else None), reason=reason)
        state = _outcome(ledger, job_id) if ledger else "asked"
    _tell(job_id, state, as_json)
    raise typer.Exit(0 if state in ("cancelled", "cancelled_ahead", "asked") else 1)


def _id_of(name: str, tenant: str | None, ledger: Ledger | None) -> str:
    """Return the id of the job that has this id or name. A name that the ledger does not know is the key of a job that
    may still come, if the tenant is given. Raise NoSuchThing for other names.
    """
    if ledger is not None and ledger.job(name) is not None:
        return name
    named = ledger.named(name, tenant, _SHOWN) if ledger else []
    if len(named) > 1:
        raise NoSuchThing(f"{name} is a name of several jobs: {', '.join(named)}; cancel each by its id")
    if named:
        return named[0]
    with suppress(ValueError):
        return str(uuid.UUID(name))
    if tenant is None:
        raise NoSuchThing(f"{name}: no such job is known; where it is a key or an event's id, say whose: --tenant")
    return derive_job_id(tenant, name)


def _state(found: JobView) -> str:
    """Return a job's state. A job that was never sent is cancelled in advance."""
    return "cancelled_ahead" if found.job.kind == "unknown" else str(found.job.state)


def _outcome(ledger: Ledger, job_id: str) -> str:
    """Return the state of the job once the cancellation has been processed; `asked` until then."""
    until = time.monotonic() + _WAIT_SECONDS
    while time.monotonic() < until:
        view = ledger.job(job_id)
        if view is not None and view.job.state != "active":
            return _state(view)
        time.sleep(_POLL_SECONDS)
    return "asked"


def _tell(job_id: str, state: str, as_json: bool) -> None:
    if as_json:
        put_json({"job_id": job_id, "state": state})
        return
    words = {
        "cancelled": "cancelled",
        "cancelled_ahead": "not known yet: cancelled ahead, so that it will not run when it comes; is the id right?",
        "not_yours": "it is another tenant's: only the tenant that sent a job can cancel it",
        "asked": "asked for; `headrace status` will show the result",
        "done": "too late: it is done",
        "dead": "too late: it is dead",
    }
    say(f"{job_id}: {words.get(state, state)}")
