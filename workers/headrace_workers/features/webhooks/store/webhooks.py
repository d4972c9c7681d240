"""Webhooks in the ledger: endpoints, and what they are told. Each method is one transaction."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from headrace_schemas.callback import Recipient
from headrace_workers.core.sql.database import alone, writing
from headrace_workers.core.sql.engines import LedgerStore
from headrace_workers.core.sql.transactions import durable, reads
from headrace_workers.features.webhooks.store import attempts, deliveries, delivery_views, redelivery
from headrace_workers.features.webhooks.store import endpoints as rows
from headrace_workers.features.webhooks.store import listeners as listening
from headrace_workers.features.webhooks.store.attempts import Due, Tried
from headrace_workers.features.webhooks.store.endpoints import Endpoint, Health
from headrace_workers.features.webhooks.store.listeners import Heard


class Webhooks(LedgerStore):
    """The webhooks of one ledger. Thread-safe. Secrets are handed over as they are kept."""

    # -- the bridge

    def heard(self, job_ids: Sequence[str], *, likely: bool = False) -> dict[str, Heard] | None:
        """Return the jobs among these with listeners. If that is not `likely`, first ask if anybody listens at all:
        None if nobody does.
        """
        return listening.heard(self._single, job_ids) if likely or listening.anybody(self._single) else None

    told_whole = reads(listening.told_whole)
    unknown = reads(rows.unknown)
    met = durable(rows.ensure_places)

    def announce(
        self,
        connection: Connection,
        *,
        tenant: str,
        event_type: str,
        subject: str,
        data: Mapping[str, Any] | None = None,
        callback: Recipient | None = None,
        occurrence: str = "",
    ) -> int:
        """See `deliveries.announce`. In the caller's own transaction."""
        return deliveries.announce(
            connection, tenant=tenant, event_type=event_type, subject=subject, data=data, callback=callback,
            occurrence=occurrence,
        )  # fmt: skip

    # -- the worker

    def due(self, endpoint_id: str, tenant: str, ids: Sequence[str]) -> tuple[Endpoint | None, dict[str, Due], int]:
        """An endpoint with what signs for it, those of this tenant's deliveries that are known, and the time (ms)."""
        return rows.for_sending(self._single, endpoint_id, tenant), *attempts.due(self._single, ids)

    def note(
        self,
        endpoint_id: str,
        tries: Sequence[Tried],
        follow: Callable[[Health, int], Health],
        *,
        wake: bool = False,
    ) -> tuple[Health, Health] | None:
        """Write what came of attempts, and how their endpoint stands after them: before and now; None where it is gone.

        One that is disabled by them is told of to the tenant's others. With `wake` what waits for it is ready again.
        """
        with writing(self._volatile) as tx:
            attempts.note(tx, tries)
            judged = rows.judge(tx, endpoint_id, follow, wake_all=wake)
            if judged is not None and judged[0].disabled is None and judged[1].disabled is not None:
                deliveries.tell_disabled(tx, endpoint_id)
        return judged

    # -- people

    def add(
        self, *, endpoint_id: str, tenant: str, name: str, url: str, events: Sequence[str], whole: bool, secret: str,
        hint: str, most: int,
    ) -> Endpoint | None:  # fmt: skip
        """Register a receiver; None where the tenant has so many already."""
        with writing(self._engine) as tx:
            alone(tx, f"webhook endpoints of {tenant}")
            if rows.count(tx, tenant) >= most:
                return None
            return rows.add(
                tx, endpoint_id=endpoint_id, tenant=tenant, name=name, url=url, events=events, whole=whole,
                secret=secret, hint=hint,
            )  # fmt: skip

    callbacks = durable(rows.ensure_callbacks)
    endpoint = reads(rows.get)
    endpoints = reads(rows.all_of)

    def change(self, endpoint_id: str, values: Mapping[str, Any]) -> Endpoint | None:
        """Write these columns (name, url, events, whole)."""
        with writing(self._engine) as tx:
            rows.change(tx, endpoint_id, values)
            return rows.get(tx, endpoint_id)

    rotate = durable(rows.rotate)

    def disable(self, endpoint_id: str, reason: str) -> None:
        """Send nothing more there, and tell it of nothing more."""
        with writing(self._engine) as tx:
            rows.change(tx, endpoint_id, {"disabled": reason})

    enable = durable(rows.enable)
    remove = durable(rows.remove)
    deliveries = reads(delivery_views.find)
    delivery = reads(delivery_views.get)
    preview = reads(redelivery.preview)
    replay = durable(redelivery.replay)
