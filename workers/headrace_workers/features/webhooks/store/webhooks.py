"""Webhooks in the ledger: endpoints, and what they are told. Each method is one transaction."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from headrace_schemas.callback import Recipient
from headrace_workers.core.sql.database import writing
from headrace_workers.core.sql.store import LedgerStore, durable, reads
from headrace_workers.features.webhooks.store import deliveries as delivery_rows
from headrace_workers.features.webhooks.store import endpoints as endpoint_rows
from headrace_workers.features.webhooks.store.deliveries import Due, Tried
from headrace_workers.features.webhooks.store.endpoints import Endpoint, Health, Heard


class Webhooks(LedgerStore):
    """The webhooks of one ledger. Thread-safe. Secrets are handed over as they are kept."""

    # -- the bridge

    def heard(self, job_ids: Sequence[str], *, likely: bool = False) -> dict[str, Heard] | None:
        """Return the jobs among these with listeners. If that is not `likely`, first ask if anybody listens at all:
        None if nobody does.
        """
        return endpoint_rows.heard(self._single, job_ids) if likely or endpoint_rows.anybody(self._single) else None

    told_whole = reads(endpoint_rows.told_whole)
    unknown = reads(endpoint_rows.unknown)
    met = durable(endpoint_rows.ensure_places)

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
        return delivery_rows.announce(
            connection, tenant=tenant, event_type=event_type, subject=subject, data=data, callback=callback,
            occurrence=occurrence,
        )  # fmt: skip

    # -- the worker

    def due(self, endpoint_id: str, tenant: str, ids: Sequence[str]) -> tuple[Endpoint | None, dict[str, Due], int]:
        """An endpoint with what signs for it, those of this tenant's deliveries that are known, and the time (ms)."""
        return endpoint_rows.for_sending(self._single, endpoint_id, tenant), *delivery_rows.due(self._single, ids)

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
            delivery_rows.note(tx, tries)
            judged = endpoint_rows.judge(tx, endpoint_id, follow, wake_all=wake)
            if judged is not None and judged[0].disabled is None and judged[1].disabled is not None:
                delivery_rows.tell_disabled(tx, endpoint_id)
        return judged

    # -- people

    add = durable(endpoint_rows.add)
    callbacks = durable(endpoint_rows.ensure_callbacks)
    endpoint = reads(endpoint_rows.get)
    endpoints = reads(endpoint_rows.all_of)

    def change(self, endpoint_id: str, values: Mapping[str, Any]) -> Endpoint | None:
        """Write these columns (name, url, events, whole)."""
        with writing(self._engine) as tx:
            endpoint_rows.change(tx, endpoint_id, values)
            return endpoint_rows.get(tx, endpoint_id)

    rotate = durable(endpoint_rows.rotate)

    def disable(self, endpoint_id: str, reason: str) -> None:
        """Send nothing more there, and tell it of nothing more."""
        with writing(self._engine) as tx:
            endpoint_rows.change(tx, endpoint_id, {"disabled": reason})

    enable = durable(endpoint_rows.enable)
    remove = durable(endpoint_rows.remove)
    deliveries = reads(delivery_rows.find)
    delivery = reads(delivery_rows.get)
    preview = reads(delivery_rows.preview)
    replay = durable(delivery_rows.replay)
