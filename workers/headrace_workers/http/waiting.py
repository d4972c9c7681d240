"""Waiting for jobs on behalf of a client that is there: for the doors that answer with what a job came to."""

import asyncio
import logging
from collections.abc import Sequence

from starlette.requests import Request

from headrace_workers.core.log import Action, log
from headrace_workers.http.caller import Caller
from headrace_workers.http.errors import Refusal
from headrace_workers.http.hangup import ClientGone, while_here
from headrace_workers.http.services import Services
from headrace_workers.http.waiter import End


async def ends_of(
    request: Request, services: Services, caller: Caller, job_ids: Sequence[str], *, seconds: float, keep: bool
) -> dict[str, End]:
    """The ends of those of these jobs that end within so many seconds. The request's body must have been read.

    When the client hangs up meanwhile, the jobs are cancelled, since nobody would see what comes of them; not so with
    `keep`: under an idempotency key, or stored, they can be asked for again. Raises ClientGone then.
    """
    try:
        return await while_here(request, services.waiter.ends(job_ids, seconds))
    except ClientGone:
        if not keep:
            await asyncio.shield(_cancel(services, caller, job_ids))
        raise


async def _cancel(services: Services, caller: Caller, job_ids: Sequence[str]) -> None:
    try:
        await services.cancel_abandoned(job_ids, caller.tenant, "the client hung up before it was answered")
    except Refusal as error:  # the jobs run on, and nobody is there to be told
        log("gateway", logging.WARNING, Action.UNAVAILABLE, f"jobs of a client that is gone run on: {error}",
            jobs=len(job_ids))  # fmt: skip
