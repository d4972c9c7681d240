"""The door, for the records of one look: what `accept` says, and that endpoints which callbacks name are there."""

import json
from collections.abc import Callable

from headrace_workers.bridge.accept import Accepted, Rules, accept
from headrace_workers.ledger.work.ingest import NewJob
from headrace_workers.ledger.work.records import Record
from headrace_workers.ledger.work.refusals import refusal
from headrace_workers.webhooks.callbacks import Named, Unknown, no_such_endpoint


def door(rules: Rules, unknown: Unknown) -> Callable[[Record], Accepted]:
    """Decides about each record; each endpoint is asked for once. Unavailable where the ledger does not answer."""
    seen: dict[Named, bool] = {}

    def admit(record: Record) -> Accepted:
        found = accept(record, rules)
        if not isinstance(found, NewJob) or (named := _named(found)) is None:
            return found
        if named not in seen:
            seen[named] = not unknown([named])
        if seen[named]:
            return found
        error = no_such_endpoint(named)
        return refusal(
            found.record,
            error.category,
            str(error),
            refers_to=found.id,
            tenant=found.tenant,
            traceparent=found.traceparent,
            sound=True,  # it may be registered later
        )

    return admit


def _named(job: NewJob) -> Named | None:
    endpoint = None if job.callback is None else json.loads(job.callback).get("endpoint")
    return None if endpoint is None else (job.tenant, endpoint)
