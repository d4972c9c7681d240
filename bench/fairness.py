"""Fairness: ten jobs of a tenant beside very many of another, and small batches behind a large one of their tenant."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import select

from bench.batch import lines as lines_of
from bench.deployment import TWO_WORKERS, Deployment, deployment
from bench.ends import Ends, Say, Stalled
from bench.flow import ECHO, echo_jobs, make_home, run
from bench.report import Report, Row, report, row
from bench.services import services
from headrace_producers import Producer
from headrace_workers.cli.connections import ring_bridges
from headrace_workers.core.job_defaults import Defaults
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.tables import JOBS
from headrace_workers.features.batches.new_batch import BatchOptions, submit
from headrace_workers.features.batches.store.transactions import Batches
from headrace_workers.files.object_store import Store
from headrace_workers.files.service import Files
from headrace_workers.files.store.stored import StoredFiles

NAME = "fairness"
_WARM_UP = 200
_FEW = 10
_SMALL = (3, 5)  # lines of the batches behind the large one
_SECONDS = 1_800.0


def bench(say: Say, *, quick: bool = False, embedded: bool = False, count: int | None = None) -> Report:
    """50,000 echo jobs of one tenant (3,000 when quick) and ten of another, in each lane; then as many lines."""
    count = count or (3_000 if quick else 50_000)
    with services(embedded=embedded) as there:
        home = make_home(there.folder, ECHO)
        with (
            deployment(there, home, [ECHO], TWO_WORKERS) as live,
            live.producer() as producer,
            Ends(live.kafka) as ends,
        ):
            run(producer, ends, list(echo_jobs(_WARM_UP)), say)
            rows = [
                item for lane in ("batch", "interactive") for item in _beside(live, producer, ends, lane, count, say)
            ]
            rows += _behind(live, home, count, say)
        return report(NAME, there.stack, rows)


def _beside(live: Deployment, producer: Producer, ends: Ends, lane: str, count: int, say: Say) -> list[Row]:
    """A crowd in this lane, which also sends a few to the other; then ten of another tenant."""
    crowd, few = f"crowd-{lane}", f"few-{lane}"
    other = "interactive" if lane == "batch" else "batch"
    say(f"{count:,} jobs of one tenant in the lane {lane}, then {_FEW} of another")
    sent = _send(producer, echo_jobs(count), tenant=crowd, lane=lane)
    ledger = Ledger.at(live.ledger)
    try:
        _until(lambda: ledger.active_jobs() >= count // 3, "the crowd has not come in")
        sent += _send(producer, echo_jobs(_FEW), tenant=crowd, lane=other)
        sent += _send(producer, echo_jobs(_FEW), tenant=few, lane=lane)
        ends.wait(sent, say)
        jobs = ledger.read(
            select(JOBS.c.tenant, JOBS.c.accepted_at, JOBS.c.ended_at).where(JOBS.c.tenant.in_([crowd, few]))
        )
    finally:
        ledger.close()
    came = min(job.accepted_at for job in jobs if job.tenant == few)
    last = max(job.ended_at for job in jobs if job.tenant == few)
    behind = [job.ended_at for job in jobs if job.tenant == crowd and job.ended_at > came]
    before = sum(item <= last for item in behind)
    of = f"{_FEW} jobs beside {count:,} of another tenant, lane {lane}"
    return [
        row(f"{of}: from the first taken in to the last ended", (last - came) / 1000, "s"),
        row(f"{of}: the crowd's last ended after", (max(behind) - came) / 1000, "s"),
        row(f"{of}: of the crowd's jobs that were open then, ended before the last of them", before / len(behind),
            "share", at_most=0.1),
    ]  # fmt: skip


def _behind(live: Deployment, home: Path, count: int, say: Say) -> list[Row]:
    """Small batches behind a large one of their tenant."""
    ledger = Ledger.at(live.ledger)
    files = Files(ledger.of(StoredFiles), Store.at(str(home / "files")))
    try:
        say(f"a batch of {count:,} lines, then batches of {' and '.join(map(str, _SMALL))}")
        large = _submit(live, ledger, files, count)
        _until(lambda: ledger.of(Batches).batch(large).completed > 0, "the large batch has not begun")
        small = [_submit(live, ledger, files, lines) for lines in _SMALL]
        ids = [large, *small]
        _until(
            lambda: all(ledger.of(Batches).batch(text).ended_at is not None for text in ids), "a batch has not ended"
        )
        whole, *found = (ledger.of(Batches).batch(text) for text in ids)
    finally:
        ledger.close()
    took = max(pair.ended_at for pair in found) - min(pair.created_at for pair in found)
    left = whole.ended_at - min(pair.created_at for pair in found)
    of = f"batches of {' and '.join(map(str, _SMALL))} lines behind one of {count:,} of their tenant"
    return [
        row(f"{of}: from the submission of the first to the end of both", took / 1000, "s"),
        row(f"{of}: the large one ended after", left / 1000, "s"),
        row(f"{of}: to that", took / left, "ratio", at_most=0.2),
    ]


def _send(producer: Producer, jobs: Iterator[dict[str, Any]], **fields: str) -> list[str]:
    sent = [producer.generate(**{**job, **fields}) for job in jobs]
    producer.flush(120)
    return sent


def _submit(live: Deployment, ledger: Ledger, files: Files, count: int) -> str:
    wishes = BatchOptions(tenant="bench", defaults=Defaults(ECHO, {"tenant": "bench", "lane": "batch"}))
    file = files.add(lines_of(count, ECHO), tenant="bench", purpose="batch", name="bench.jsonl", keep=None, lines=True)
    batch, _ = submit(ledger, file, wishes, key=None)
    ring_bridges(live.env)
    return str(batch.id)


def _until(holds: Callable[[], bool], otherwise: str) -> None:
    until = time.monotonic() + _SECONDS
    while not holds():
        if time.monotonic() > until:
            raise Stalled(f"{otherwise} in {_SECONDS:g} s")
        time.sleep(0.1)
