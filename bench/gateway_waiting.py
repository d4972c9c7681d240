"""Requests that wait at the gateway: what they hold of its memory, and how soon after a job's end they are answered.

Jobs are ended by the bench itself, in transactions of its own, so that it knows when each was committed.
"""

import http.client
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import psutil
from sqlalchemy import select, update

from bench.asking import Answer, Asking, ask, asking, connection, request
from bench.deployment import Deployment
from bench.ends import Say, Stalled
from bench.flow import ECHO
from bench.report import Row, percentile, row
from bench.services import Services
from headrace_schemas import Answer as Said
from headrace_schemas import JudgeVerdict, ModerationVerdict, Result, Usage
from headrace_workers.core.identity import end_id
from headrace_workers.core.ledger.job_ends import finish, lock_active
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.outbox import Outgoing, outgoing
from headrace_workers.core.redis import RedisNames, redis_client
from headrace_workers.core.sql.database import among, clock, writing
from headrace_workers.core.tables import JOBS, STEPS
from headrace_workers.runtime.wire.hints import Hint, Notifier

_MANY = 1_000
_BETWEEN = 0.05  # seconds from one end to the next, when they come one by one
_SECONDS = 60.0
_MIB = 2**20
_TEXT = "The ferry leaves at nine, if the wind does not turn before. " * 4


Found = TypeVar("Found")


class _Hall:
    """A gateway at which jobs are waited for, and what ends them."""

    def __init__(self, there: Services, live: Deployment, port: int, key: str) -> None:
        self.port = port
        self._key = key
        self._gateway = psutil.Process(live.pids["gateway"])
        self._ledger = Ledger.at(live.ledger)
        self._bell = Notifier(redis_client(there.redis), RedisNames(live.kafka.prefix).hints)

    def close(self) -> None:
        """Let go of the ledger."""
        self._ledger.close()

    def jobs(self, count: int) -> list[str]:
        """So many new jobs that the ledger has taken in."""
        job = {"model": ECHO, "prompt": "Is the ferry late today?", "sampling": {"max_tokens": 16}, "lane": "batch"}
        before = self._open()
        ask(self.port, [[request("POST", "/v1/jobs", self._key, [job] * count)]], 202)
        return sorted(_eventually(lambda: found if len(found := self._open() - before) == count else None, "taken in"))

    def resident(self) -> float:
        """The gateway's memory in MiB."""
        return float(self._gateway.memory_info().rss / _MIB)

    def asks(self, job_id: str, wait: int = 0) -> str:
        """A request about a job."""
        return request("GET", f"/v1/jobs/{job_id}" + (f"?wait={wait}" if wait else ""), self._key)

    @contextmanager
    def waiting(self, *connections: Sequence[str]) -> Iterator[Asking]:
        """Each connection waits for its jobs, one after the other."""
        with asking(self.port, [[self.asks(job, 60) for job in jobs] for jobs in connections]) as client:
            client.go()
            _eventually(lambda: self._waiting() == len(connections), "waited for")
            yield client

    def end(self, job_ids: Sequence[str]) -> float:
        """End these jobs; when they were committed, by the machine's clock."""
        with writing(self._ledger.engine) as tx:
            alive, now = lock_active(tx, job_ids), clock(tx)
            finish(tx, "done", [(job_id, _result(job_id, now)) for job_id in job_ids], now, alive)
            done = update(STEPS).where(among(tx, STEPS.c.job_id, list(job_ids)))
            tx.execute(done.values(state="done", claim_id=None, ended_at=now))
        at = time.time()
        self._bell.notify(*Hint)
        return at

    def told(self, job_id: str) -> bytes:
        """What is told of a job."""
        with connection(self.port) as made:
            made.request("GET", f"/v1/jobs/{job_id}", headers={"authorization": f"Bearer {self._key}"})
            return made.getresponse().read()

    def _open(self) -> set[str]:
        return {row.id for row in self._ledger.read(select(JOBS.c.id).where(JOBS.c.state == "active"))}

    def _waiting(self) -> int:
        with connection(self.port) as made:
            made.request("GET", "/metrics", headers={"authorization": f"Bearer {self._key}"})
            told = made.getresponse().read().decode()
        match = re.search(r"^headrace_gateway_waiting (\S+)", told, re.MULTILINE)
        return int(float(match[1])) if match else -1


def many_wait(
    there: Services, live: Deployment, port: int, plain: int, key: str, sizes: tuple[int, int], say: Say
) -> list[Row]:
    """1,000 that wait, beside one that does: jobs that end one by one, and all in one transaction. At the port `plain`
    as many wait at an application that has nothing else to do than to answer them.
    """
    turns, singles = sizes
    hall = _Hall(there, live, port, key)
    try:
        say(f"one waits, for {singles} jobs, one after the other")
        one = _one_by_one(hall, hall.jobs(singles), [])
        held = hall.resident()
        together, least, woken, resident = [], [], [], held
        say(f"{_MANY:,} wait: {singles} more jobs end one by one")
        others = hall.jobs(_MANY)
        among_many = _one_by_one(hall, hall.jobs(singles), others)
        for turn in range(turns):
            say(
                f"{_MANY:,} wait, and all their jobs end at once ({turn + 1} of {turns}); then the same without waiting"
            )
            jobs = hall.jobs(_MANY)
            with hall.waiting(*([job] for job in jobs)) as client:
                resident = max(resident, hall.resident())
                at = hall.end(jobs)
                together += [1000 * (answer.at - at) for (answer,) in client.answers(200)]
            answers = [answer for (answer,) in ask(port, [[hall.asks(job)] for job in jobs], 200)]
            begun = min(answer.sent for answer in answers)
            least += [1000 * (answer.at - begun) for answer in answers]
            woken += _woken(plain, [hall.asks(job, 60) for job in jobs], hall.told(jobs[0]))
    finally:
        hall.close()
    return _rows(one, among_many, together, least, woken, (held, resident))


def _woken(plain: int, requests: Sequence[str], body: bytes) -> list[float]:
    """Milliseconds until the plain application has answered each of these requests, which waited for one event."""
    with asking(plain, [[text] for text in requests]) as client, connection(plain) as made:
        client.go()
        _eventually(lambda: _asked(made, "GET", "/waiting") == len(requests), "waited for")
        at = _asked(made, "POST", "/wake", body)
        return [1000 * (answer.at - at) for (answer,) in client.answers(200)]


def _asked(made: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None) -> float:
    made.request(method, path, body)
    return float(made.getresponse().read())


def _one_by_one(hall: _Hall, jobs: Sequence[str], others: Sequence[str]) -> list[float]:
    """Milliseconds from the end of each of these jobs to its answer, while as many as there are others wait, too."""
    with hall.waiting(jobs, *([job] for job in others)) as client:
        ended = []
        for job in jobs:
            time.sleep(_BETWEEN)
            ended.append(hall.end([job]))
        if others:
            hall.end(others)
        answers: list[Answer] = client.answers(200)[0]
    return [1000 * (answer.at - at) for answer, at in zip(answers, ended, strict=True)]


def _rows(
    one: list[float],
    among_many: list[float],
    together: list[float],
    least: list[float],
    woken: list[float],
    resident: tuple[float, float],
) -> list[Row]:
    held, full = resident
    one_99, among_99, together_99, woken_99 = (percentile(group, 99) for group in (one, among_many, together, woken))
    return [
        row("one waits: from the job's end to its answer, p50", percentile(one, 50), "ms"),
        row("one waits: from the job's end to its answer, p99", one_99, "ms"),
        row(f"{_MANY:,} wait, jobs end one by one: to the answer, p50", percentile(among_many, 50), "ms"),
        row(f"{_MANY:,} wait, jobs end one by one: to the answer, p99", among_99, "ms"),
        row("the same to one that waits, p99", among_99 / one_99, "ratio", at_most=3.0),
        row(f"{_MANY:,} wait, all jobs end in one commit: to the answer, p50", percentile(together, 50), "ms"),
        row(f"{_MANY:,} wait, all jobs end in one commit: to the answer, p99", together_99, "ms"),
        row("the same to one that waits, p99", together_99 / one_99, "ratio", at_most=3.0),
        row(f"an application that only answers: {_MANY:,} wait for one event, to the answer, p99", woken_99, "ms"),
        row("the same to one that waits at the gateway, p99", woken_99 / one_99, "ratio"),
        row("the gateway's answers in one commit to the application's, p99", together_99 / woken_99, "ratio"),
        row(f"{_MANY:,} jobs that have ended, asked for at once: to the answer, p99", percentile(least, 99), "ms"),
        row("waiting, to asking at once for what has ended, p99", together_99 / percentile(least, 99), "ratio"),
        row("gateway's resident memory before", held, "MiB"),
        row(f"gateway's resident memory while {_MANY:,} wait", full, "MiB"),
    ]


def _eventually(look: Callable[[], Found | None], what: str) -> Found:
    until = time.monotonic() + _SECONDS
    while not (found := look()):
        if time.monotonic() > until:
            raise Stalled(f"not all jobs were {what} in {_SECONDS:g} s")
        time.sleep(0.1)
    return found


def _result(job_id: str, at_ms: int) -> Outgoing:
    result = Result.model_validate(
        {
            "job_id": job_id, "tenant": "default", "status": "completed", "kind": "generation",
            "answer": Said(text=_TEXT, finish_reason="stop", model=ECHO, quantization="none",
                           usage=Usage(prompt_tokens=7, completion_tokens=40)),
            "moderation": ModerationVerdict(action="allow"), "judge": JudgeVerdict(),
            "accepted_at": "2026-11-26T00:00:00Z",
        }
    )  # fmt: skip
    event_id = end_id(job_id, "headrace.result.v1")
    return outgoing(result, event_id=event_id, job_id=job_id, traceparent=None, correlationid=None, at_ms=at_ms)
