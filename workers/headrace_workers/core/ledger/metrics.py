"""Metrics of the ledger: a bridge looks every few seconds and writes them down once, and all gateways show them.

So a scrape costs the ledger nothing, and the last metrics stay while it is away. The row holds also what the next look
goes on from, such as counters of jobs that may have been deleted since.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from prometheus_client import Metric
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from sqlalchemy import Connection, select

from headrace_workers.core.feature import installed
from headrace_workers.core.ledger import counts, positions
from headrace_workers.core.ledger.end_counters import added, all_end_counters
from headrace_workers.core.ledger.worker_counts import ScaledQueue, Workers, scaled_queues
from headrace_workers.core.sql.database import clock, insert, now_ms
from headrace_workers.core.sql.store import LedgerStore, reads, volatile
from headrace_workers.core.tables import METRICS, NEVER

_WHAT: Final = "ledger"
_SETTLED_MS: Final = 5_000  # a job that ended so long ago is committed, whatever its transaction did besides
_LEARNT_FROM: Final = 500  # jobs of one look, from which the rates of workers are learnt
_LANES: Final = ("interactive", "batch")
_PLACE: Final = ("queue", "lane")

State = dict[str, Any]  # JSON that the next look goes on from


class Seen(NamedTuple):
    """The metrics of one look, and what the next look goes on from."""

    metrics: list[Metric]
    state: State


class Snapshot(NamedTuple):
    """Metrics that were written down, what the next look goes on from, and their age in ms."""

    metrics: list[Metric]
    state: State
    age_ms: int


def look(connection: Connection, state: State, workers: Workers | None = None) -> Seen:
    """Return the metrics of the ledger now, and the state that follows from that of the look before ({}: none).

    `workers` has for each queue its living workers, each as the number of claims that it runs side by side; None if
    they are not known: those of before count.
    """
    now = clock(connection)
    until = now - _SETTLED_MS
    work, busy = counts.ready_work(connection), counts.busy_workers(connection)
    # After the database's clock was set back, this look counts nothing and the next one counts from now. Jobs that end
    # in the repeated time are counted twice; otherwise none would be counted until the clock had caught up.
    after = state.get("until", until)
    done = counts.work_done_between(connection, after, until, _LEARNT_FROM)
    queues = scaled_queues(state.get("queues", {}), now / 1000, work, busy, done, workers)
    sums = added(connection, state.get("sums", {}), after, until)
    metrics = [
        *_ready(work, now, queues),
        *_delayed(connection, queues),
        *_workers(queues),
        _held(connection),
        *(counter(family.name, family.meaning, family.labels, sums[family.name]) for family in all_end_counters()),
        *_outbox(connection, now),
        gauge("headrace_dead_letters", "Dead letters that nobody has replayed.", (),
              [[counts.unreplayed_dead_letters(connection)]]),
        gauge("headrace_consumer_lag", "Records of a partition that no bridge has taken in yet.",
              ("topic", "partition"), [[topic, str(partition), lag]
                                       for (topic, partition), lag in sorted(positions.lags(connection).items())]),
    ]  # fmt: skip
    sources = (source for feature in installed() for source in feature.metrics())
    metrics.extend(metric for source in sources for metric in source(connection))
    return Seen(metrics, {"until": until, "sums": sums, "queues": queues})


def _ready(work: Sequence[counts.ReadyWork], now: int, queues: Iterable[str]) -> Iterable[Metric]:
    ready, oldest, due = _none_in(queues), dict[tuple[str, int], int](), dict[str, int]()
    for row in work:
        place = row.queue, row.lane
        ready[place] += row.steps
        oldest[place] = min(oldest.get(place, row.ready_at), row.ready_at)
        due[row.queue] = min(due.get(row.queue, NEVER), row.due)
    yield _by_place("headrace_jobs_ready", "Jobs that wait in a queue for a worker.", ready)
    yield _by_place(
        "headrace_jobs_oldest_ready_seconds",
        "Time for which the oldest job in a queue has been ready.",
        {place: max(0, now - oldest.get(place, now)) / 1000 for place in ready},
    )
    yield gauge(
        "headrace_deadline_slack_seconds",
        "Time until the next ready job of a queue is due, or its batch ends; below 0 it is late.",
        ("queue",),
        [[queue, (at - now) / 1000] for queue, at in sorted(due.items()) if at < NEVER],
    )


def _delayed(connection: Connection, queues: Iterable[str]) -> Iterable[Metric]:
    delayed = counts.delayed_steps(connection)
    meanings = {
        "leased": "Jobs that workers have in hand.",
        "waiting": "Jobs that wait for their next attempt.",
        "parked": "Jobs that wait for the answer of an equal job that runs.",
    }
    for name, meaning in meanings.items():
        yield _by_place(f"headrace_jobs_{name}", meaning, {**_none_in(queues), **delayed[name]})


def _none_in(queues: Iterable[str]) -> Counter[tuple[str, int]]:
    """Return 0 for both lanes of each queue: a series that ends looks like one that was lost."""
    return Counter({(queue, lane): 0 for queue in queues for lane in range(len(_LANES))})


def _workers(queues: Mapping[str, ScaledQueue]) -> Iterable[Metric]:
    yield gauge(
        "headrace_workers",
        "Workers that live, by what they do now.",
        ("queue", "state"),
        [[name, state, number] for name, queue in sorted(queues.items())
         for state, number in (("busy", min(queue.busy, queue.workers)), ("idle", max(0, queue.workers - queue.busy)))],
    )  # fmt: skip
    yield gauge(
        "headrace_workers_wanted",
        "Workers that a queue needs to end what is ready in time.",
        ("queue",),
        [[name, queue.wanted] for name, queue in sorted(queues.items())],
    )


def _held(connection: Connection) -> Metric:
    return gauge(
        "headrace_jobs_held",
        "Jobs that are held now, for a person or until a service works again.",
        ("stage", "waits_for"),
        [[held.stage, "person" if held.needs_person else "service", held.held]
         for held in counts.held_steps(connection)],
    )  # fmt: skip


def _outbox(connection: Connection, now: int) -> Iterable[Metric]:
    yield gauge("headrace_outbox_rows", "Events that wait to be published.", (), [[counts.outbox_size(connection)]])
    yield gauge(
        "headrace_outbox_set_aside_rows", "Events that Kafka refused.", (), [[counts.set_aside_records(connection)]]
    )
    at = _time_of(json.loads(counts.oldest_in_outbox(connection) or "{}"))
    age = 0.0 if at is None else max(0.0, now / 1000 - at)
    yield gauge("headrace_outbox_oldest_seconds", "Age of the oldest event that waits to be published.", (), [[age]])


def _time_of(headers: dict[str, str]) -> float | None:
    """Return the time (s since 1970) of an event; None for one that does not say it."""
    try:
        return datetime.fromisoformat(headers["ce_time"]).timestamp()
    except (KeyError, ValueError):
        return None


Rows = Iterable[Sequence[Any]]  # each has the values of the labels, and then the sample's


def gauge(name: str, meaning: str, labels: Sequence[str], rows: Rows) -> GaugeMetricFamily:
    """Return a gauge with these rows."""
    family = GaugeMetricFamily(name, meaning, labels=labels)
    for *values, number in rows:
        family.add_metric(values, number)
    return family


def counter(name: str, meaning: str, labels: Sequence[str], rows: Rows) -> CounterMetricFamily:
    """Return a counter with these rows; `name` is without `_total`."""
    family = CounterMetricFamily(name, meaning, labels=labels)
    for *values, number in rows:
        family.add_metric(values, number)
    return family


def _by_place(name: str, meaning: str, values: dict[tuple[str, int], Any]) -> Metric:
    return gauge(
        name, meaning, _PLACE, [[queue, _LANES[lane], value] for (queue, lane), value in sorted(values.items())]
    )


def put(connection: Connection, seen: Seen) -> None:
    """Write down what was seen, in place of what was before."""
    families = [
        [metric.name, metric.type, metric.documentation, [[one.name, one.labels, one.value] for one in metric.samples]]
        for metric in seen.metrics
    ]
    value = json.dumps({"metrics": families, "state": seen.state}, separators=(",", ":"))
    statement = insert(connection, METRICS).values(what=_WHAT, at=now_ms(), value=value)
    changed = {"at": statement.excluded["at"], "value": statement.excluded["value"]}
    connection.execute(statement.on_conflict_do_update(index_elements=["what"], set_=changed))


def last(connection: Connection) -> Snapshot | None:
    """Return what was written down last; None if nothing was."""
    query = select(METRICS.c.value, (now_ms() - METRICS.c.at).label("age_ms")).where(METRICS.c.what == _WHAT)
    if (row := connection.execute(query).one_or_none()) is None:
        return None
    value = json.loads(row.value)
    metrics = []
    for name, kind, meaning, samples in value["metrics"]:
        metric = Metric(name, meaning, kind)
        for of_sample, labels, number in samples:
            metric.add_sample(of_sample, labels, number)
        metrics.append(metric)
    return Snapshot(metrics, value["state"], max(0, row.age_ms))


class LedgerMetrics(LedgerStore):
    """The metrics of one ledger. Thread-safe. Methods raise Unavailable if the database does not answer."""

    look = reads(look)
    put = volatile(put)
    last = reads(last)
