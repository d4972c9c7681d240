"""The door, for the records of one look: what `accept` says, and that what a job names exists in the ledger."""

import json
from collections.abc import Callable

from headrace_schemas.errors import InvalidRecord
from headrace_workers.core.ledger.ingest import NewJob
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.records import Record
from headrace_workers.core.ledger.refusals import refusal
from headrace_workers.features.knowledge.named import no_such_base
from headrace_workers.features.knowledge.store.bases import KnowledgeBases
from headrace_workers.features.webhooks.callbacks import Named, Unknown, no_such_endpoint
from headrace_workers.features.webhooks.store.webhooks import Webhooks
from headrace_workers.runtime.bridge.accept import Accepted, Rules, accept


def door(rules: Rules, endpoints: Unknown, bases: Unknown) -> Callable[[Record], Accepted]:
    """Decide about each record. Ask for each endpoint and each knowledge base once. Unavailable where the ledger does
    not answer.
    """
    is_endpoint, is_base = _once(endpoints), _once(bases)

    def admit(record: Record) -> Accepted:
        found = accept(record, rules)
        if not isinstance(found, NewJob):
            return found
        endpoint = _endpoint(found)
        if endpoint is not None and not is_endpoint((found.tenant, endpoint)):
            return _refused(found, no_such_endpoint((found.tenant, endpoint)))
        if found.knowledge is not None and not is_base((found.tenant, found.knowledge)):
            return _refused(found, InvalidRecord(no_such_base((found.tenant, found.knowledge))))
        return found

    return admit


def door_of(rules: Rules, ledger: Ledger) -> Callable[[Record], Accepted]:
    """The door for what this ledger knows."""
    return door(rules, ledger.of(Webhooks).unknown, ledger.of(KnowledgeBases).unknown)


def _once(unknown: Unknown) -> Callable[[Named], bool]:
    """Whether one exists: the ledger is asked for each once."""
    seen: dict[Named, bool] = {}

    def exists(named: Named) -> bool:
        if named not in seen:
            seen[named] = not unknown([named])
        return seen[named]

    return exists


def _refused(job: NewJob, error: InvalidRecord) -> Accepted:
    return refusal(
        job.record,
        error.category,
        str(error),
        refers_to=job.id,
        tenant=job.tenant,
        traceparent=job.traceparent,
        sound=True,  # what it names may exist later
    )


def _endpoint(job: NewJob) -> str | None:
    return None if job.callback is None else json.loads(job.callback).get("endpoint")
