"""The console feature: pages for people, beside the gateway's API."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from headrace_workers.core.feature import Feature

if TYPE_CHECKING:  # most processes do without it
    from fastapi import APIRouter
    from sqlalchemy import Table

    from headrace_workers.core.ledger.hooks import Hooks
    from headrace_workers.http.services import GatewayParts


def _routers() -> "Sequence[APIRouter]":
    from headrace_workers.features.console import jobs, now, playground, review, set_aside, sign_in

    return (sign_in.router, playground.router, jobs.router, now.router, review.router, set_aside.router)


def _services(gateway: "GatewayParts") -> Mapping[type, object]:
    from headrace_workers.features.console.connections import ConsoleReads
    from headrace_workers.features.console.now import Live
    from headrace_workers.features.console.plans import PlanRuns, Plans
    from headrace_workers.features.console.visitors import Visitors
    from headrace_workers.runtime.settings import GatewaySettings

    reads = ConsoleReads(gateway.settings.ledger)
    live = Live(reads, gateway.settings)
    runs = PlanRuns(gateway.ledger.of(Plans))
    for part in (reads, live, runs):
        gateway.at_end.callback(part.close)
    visitors = Visitors(gateway.settings.of(GatewaySettings).public_url)
    return {Visitors: visitors, ConsoleReads: reads, Live: live, PlanRuns: runs}


def _tables() -> "Sequence[Table]":
    from headrace_workers.core.tables import tables_in
    from headrace_workers.features.console import job_lists, plans, store

    return [*tables_in(store), *tables_in(plans), job_lists.ENDED_JOBS]


def _hooks() -> "Hooks":
    from headrace_workers.core.ledger.hooks import Hooks
    from headrace_workers.features.console import job_lists

    return Hooks(on_ends=job_lists.note_ended, on_forget_jobs=job_lists.forget_ended)


FEATURE = Feature(name="console", tables=_tables, routers=_routers, services=_services, hooks=_hooks)
