"""The console feature: pages for people, beside the gateway's API."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from headrace_workers.core.feature import Feature

if TYPE_CHECKING:  # most processes do without it
    from fastapi import APIRouter
    from sqlalchemy import Table

    from headrace_workers.http.services import GatewayParts


def _routers() -> "Sequence[APIRouter]":
    from headrace_workers.features.console import jobs, now, playground, review, sign_in

    return (sign_in.router, playground.router, jobs.router, now.router, review.router)


def _services(gateway: "GatewayParts") -> Mapping[type, object]:
    from headrace_workers.features.console.connections import ConsoleReads
    from headrace_workers.features.console.now import Live
    from headrace_workers.features.console.visitors import Visitors
    from headrace_workers.runtime.settings import GatewaySettings

    reads = ConsoleReads(gateway.settings.ledger)
    live = Live(reads, gateway.settings)
    for part in (reads, live):
        gateway.at_end.callback(part.close)
    return {Visitors: Visitors(gateway.settings.of(GatewaySettings).public_url), ConsoleReads: reads, Live: live}


def _tables() -> "Sequence[Table]":
    from headrace_workers.core.tables import tables_in
    from headrace_workers.features.console import store

    return tables_in(store)


FEATURE = Feature(name="console", tables=_tables, routers=_routers, services=_services)
