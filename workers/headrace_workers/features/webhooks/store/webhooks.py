"""Webhooks in the ledger: endpoints, and what they are told. Each method is one transaction."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from headrace_schemas.callback import Recipient
from headrace_workers.core.sql.database import alone, reading, writing
from headrace_workers.core.sql.engines import LedgerStore
from headrace_workers.features.webhooks.store import attempts, deliveries, delivery_views, endpoints, redelivery
from headrace_workers.features.webhooks.store import listeners as listening
from headrace_workers.features.webhooks.store.attempts import Due, Tried
from headrace_workers.features.webhooks.store.delivery_views import DeliveryView, Range, State
from headrace_workers.features.webhooks.store.endpoints import Endpoint, Health
from headrace_workers.features.webhooks.store.listeners import Heard
from headrace_workers.features.webhooks.store.redelivery import Preview
from headrace_workers.features.webhooks.tables import CALLBACKS, REGISTERED


class Webhooks(LedgerStore):
    """The webhooks of one ledger. Thread-safe. Secrets are handed over as they are kept."""

    # -- the bridge

    def heard(self, job_ids: Sequence[str], *, likely: bool = False) -> dict[str, Heard] | None:
        """Those of these jobs that somebody listens to. Where that is not `likely`, it is first asked whether anybody
        listens at all: None where nobody does.
        """
        return listening.heard(self._reads, job_ids) if likely or listening.anybody(self._reads) else None

    def told_whole(self, endpoint_ids: Sequence[str]) -> frozenset[str]:
        """Those of these endpoints that are told the whole receipt."""
        with reading(self._engine) as tx:
            return listening.told_whole(tx, endpoint_ids)

    def unknown(self, named: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        """Of these endpoints (tenant and id) those that the tenant has not registered."""
        with reading(self._engine) as tx:
            return endpoints.unknown(tx, named)

    def met(self, places: Mapping[str, tuple[str, str]]) -> None:
        """Know these places of callbacks: id to tenant and origin."""
        with writing(self._engine) as tx:
            endpoints.ensure_places(tx, places)

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
        return endpoints.for_sending(self._reads, endpoint_id, tenant), *attempts.due(self._reads, ids)

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
            judged = endpoints.judge(tx, endpoint_id, follow, wake_all=wake)
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
            if endpoints.count(tx, tenant) >= most:
                return None
            return endpoints.add(
                tx, endpoint_id=endpoint_id, tenant=tenant, name=name, url=url, events=events, whole=whole,
                secret=secret, hint=hint,
            )  # fmt: skip

    def callbacks(self, tenant: str, secret: str, hint: str) -> Endpoint:
        """The tenant's own endpoint for callbacks, made with this secret where it is not there yet."""
        with writing(self._engine) as tx:
            return endpoints.ensure_callbacks(tx, tenant, secret, hint)

    def endpoint(self, endpoint_id: str, tenant: str | None = None) -> Endpoint | None:
        """One endpoint, where it is there, and the tenant's."""
        with reading(self._engine) as tx:
            return endpoints.get(tx, endpoint_id, tenant)

    def endpoints(
        self,
        tenant: str | None = None,
        limit: int = 100,
        after: str | None = None,
        *,
        origins: Sequence[str] = (REGISTERED, CALLBACKS),
    ) -> list[Endpoint]:
        """Endpoints of these origins, newest first, those behind `after`."""
        with reading(self._engine) as tx:
            return endpoints.all_of(tx, tenant, limit, after, origins)

    def change(self, endpoint_id: str, values: Mapping[str, Any]) -> Endpoint | None:
        """Write these columns (name, url, events, whole)."""
        with writing(self._engine) as tx:
            endpoints.change(tx, endpoint_id, values)
            return endpoints.get(tx, endpoint_id)

    def rotate(self, endpoint_id: str, secret: str, hint: str, overlap_ms: int) -> Endpoint | None:
        """Sign with another secret, and for a while with the one before, too; None where it is gone."""
        with writing(self._engine) as tx:
            return endpoints.rotate(tx, endpoint_id, secret, hint, overlap_ms)

    def disable(self, endpoint_id: str, reason: str) -> None:
        """Send nothing more there, and tell it of nothing more."""
        with writing(self._engine) as tx:
            endpoints.change(tx, endpoint_id, {"disabled": reason})

    def enable(self, endpoint_id: str) -> None:
        """Send again, as if nothing had failed."""
        with writing(self._engine) as tx:
            endpoints.enable(tx, endpoint_id)

    def remove(self, endpoint_id: str) -> None:
        """Forget an endpoint; what is still to be sent to it will not be."""
        with writing(self._engine) as tx:
            endpoints.remove(tx, endpoint_id)

    def deliveries(self, which: Range, limit: int, state: State | None = None) -> list[DeliveryView]:
        """Deliveries, newest first."""
        with reading(self._engine) as tx:
            return delivery_views.find(tx, which, limit, state)

    def delivery(self, delivery_id: str) -> tuple[DeliveryView, bytes] | None:
        """One delivery, and its body."""
        with reading(self._engine) as tx:
            return delivery_views.get(tx, delivery_id)

    def preview(self, which: Range, *, delivered: bool) -> Preview:
        """What `replay` would send again."""
        with reading(self._engine) as tx:
            return redelivery.preview(tx, which, delivered=delivered)

    def replay(self, which: Range, *, delivered: bool) -> int:
        """Send these again, a bounded number; how many. Call it until it finds none."""
        with writing(self._engine) as tx:
            return redelivery.replay(tx, which, delivered=delivered)
