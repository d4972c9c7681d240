"""The console over a ledger that remembers a million ended jobs, and five: how long its pages take, how large they are,
and what ten open consoles take from the plumbing.
"""

import gzip
import hashlib
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from itertools import pairwise
from statistics import median
from typing import Any, NamedTuple
from urllib.parse import urlencode, urljoin
from uuid import UUID

from sqlalchemy import Connection, text

from bench.asking import connection
from bench.deployment import TWO_WORKERS, Deployment, deployment
from bench.ends import Ends, Say, Stalled
from bench.flow import ECHO, echo_jobs, in_turn, make_home, run
from bench.report import Report, Row, percentile, report, row, skipped
from bench.services import services
from headrace_schemas import (
    Answer,
    Category,
    DeadLetter,
    GenerationJob,
    JobCancelled,
    JudgeVerdict,
    Result,
    Score,
    Usage,
)
from headrace_schemas.codec import encode_value
from headrace_schemas.event_types import type_of
from headrace_workers.core.ledger.accounting import LAG_MS
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.sql.database import unhurried, writing
from headrace_workers.features.console.now import LIFETIME
from headrace_workers.features.console.visitors import CONSOLE
from headrace_workers.runtime.embedded.free_ports import free_ports

NAME = "console"
JOBS = 1_000_000
MORE = 5_000_000
CONSOLES = 10
_FEW = "few"  # a tenant with one job among 200,000
_SIDES = (f"beside {CONSOLES} open consoles", "without")
_AT_ONCE = 50_000  # rows of a statement
_BUSY = 20_000  # jobs that ended in the last two minutes; the others ended in the days before
_DAYS = 6  # fewer than the ledger remembers jobs
_UNFINISHED = 10_000
_ITEMS = 10_000  # in the review queue
_QUESTION = "Is the ferry to the island late today, and if so, until when? " * 4
_ANSWER = "Yes. It leaves ten minutes late, because of the tide, and arrives at noon. " * 6
_ID = "00000000-0000-4000-8000-000000000000"  # of the job in the templates


def bench(say: Say, *, quick: bool = False, embedded: bool = False) -> Report:
    """Pages over 1 million ended jobs, five turns of 2,000 echo jobs beside ten open consoles and without, and pages
    over 5 million (40,000, one turn of 100, and 80,000 when quick).
    """
    jobs, more, count, turns, times = (40_000, 80_000, 100, 1, 3) if quick else (JOBS, MORE, 2_000, 5, 40)
    with services(embedded=embedded) as there:
        if there.postgres is None:
            return report(NAME, there.stack, [skipped("the console over a million jobs", "there is no PostgreSQL")])
        home = make_home(there.folder, ECHO)
        (port,) = free_ports(1)
        origin = f"http://127.0.0.1:{port}"
        env = {"HEADRACE_RATE": "1000000", "HEADRACE_PUBLIC_URL": origin}
        with (
            deployment(there, home, [ECHO], TWO_WORKERS, gateway=port, **env) as live,
            closing(Ledger.at(live.ledger)) as ledger,
        ):
            _fill(ledger, 0, jobs, say)
            cookies = {tenant: _sign_in(port, origin, live.door_key(tenant)) for tenant in ("default", _FEW)}
            say(f"pages over {jobs:,} ended jobs")
            first, sizes = _pages(port, cookies, times)
            rows = _plumbing(live, port, cookies["default"], count, turns, say)
            _fill(ledger, jobs, more, say)
            say(f"pages over {more:,} ended jobs")
            second, _ = _pages(port, cookies, times)
        rows = [*_rows(jobs, more, first, second), row("the largest page with its files, compressed",
                max(sizes.values()) / 1000, "kB", at_most=150), *rows]  # fmt: skip
        return report(NAME, there.stack, rows)


def _rows(jobs: int, more: int, first: Mapping[str, float], second: Mapping[str, float]) -> list[Row]:
    return [
        *(row(f"{jobs:,} ended jobs: {name}, p95", ms, "ms", at_most=300) for name, ms in first.items()),
        *(row(f"{more:,} to {jobs:,} ended jobs: {name}, p95", second[name] / ms, "ratio", at_most=1.5)
          for name, ms in first.items()),
        row(f"{more:,} ended jobs: the slowest page, p95", max(second.values()), "ms"),
    ]  # fmt: skip


class _Look(NamedTuple):
    """A page, and the tenant of who asks for it. `pause` is the time between two of them in seconds."""

    path: str
    visitor: str = "default"
    pause: float = 0.0


def _looks() -> Mapping[str, _Look]:
    """Return the pages by name."""
    old = int(time.time() * 1000) - 3 * 86_400_000

    def jobs(visitor: str = "default", **fields: object) -> _Look:
        return _Look(f"jobs/?{urlencode(fields)}", visitor)

    return {
        "Now": _Look("now/", pause=2 * LIFETIME),  # so that many of them read the ledger
        "Now, for one of many viewers": _Look("now/part"),
        "Jobs": jobs(),
        **{f"Jobs, {state}": jobs(state=state) for state in ("unfinished", "ended", "done", "dead", "cancelled")},
        "Jobs, ended three days ago": jobs(state="ended", after=f"{old}-~"),
        "Jobs of a model": jobs(state="ended", model="echo"),
        "Jobs of a model that is rare": jobs(state="ended", model="rare"),
        "Jobs of an application": jobs(state="ended", application="triage"),
        "Jobs of an application's version": jobs(state="ended", application="triage@2"),
        "Jobs of an application that is rare": jobs(state="ended", application="seldom"),
        "Jobs of a tenant": jobs(state="ended", tenant="tenant-7"),
        "Jobs of a tenant that has few": jobs(_FEW),
        "Job by its correlation id": _Look("jobs/?name=order-777"),
        "Job that is done": _Look(f"jobs/{_job_id(700)}/"),
        "Job that is dead": _Look(f"jobs/{_job_id(701)}/"),
        "Playground": _Look("playground/"),
        "Set aside, held steps": _Look("aside/"),
        "Set aside, dead letters": _Look("aside/?kind=dead"),
        "Set aside, dead letters of which none fits": _Look("aside/?kind=dead&category=transient"),
        "Set aside, dead letters of a tenant that has few": _Look("aside/?kind=dead", _FEW),
        "Review": _Look("review/"),
        "Review, an empty queue": _Look("review/", _FEW),
    }


def _pages(port: int, cookies: Mapping[str, str], times: int) -> tuple[dict[str, float], dict[str, int]]:
    """Return the p95 (ms) of each page, and its size in bytes with all its files, compressed."""
    took: dict[str, float] = {}
    sizes: dict[str, int] = {}
    with connection(port) as made:
        for name, (path, visitor, pause) in _looks().items():
            found = []
            for turn in range(times + 1):
                time.sleep(pause)
                begun = time.perf_counter()
                page = _get(made, path, cookies[visitor])
                found += [1000 * (time.perf_counter() - begun)] if turn else []  # the first warms up
            took[name] = percentile(found, 95)
            files = set(re.findall(r'(?:src|href)="[^"]*(static/[^"]*)"', page.decode()))
            parts = [page, *(_get(made, file, "") for file in files)]
            sizes[name] = sum(len(gzip.compress(part)) for part in parts)
    return took, sizes


def _get(made: HTTPConnection, path: str, cookie: str) -> bytes:
    made.request("GET", urljoin(f"{CONSOLE}/", path), headers={"cookie": cookie})
    with made.getresponse() as response:
        body = response.read()
    if response.status == 303:  # to the job of a name
        return _get(made, urljoin(f"{CONSOLE}/jobs/", response.headers["location"]), cookie)
    if response.status != 200:
        raise Stalled(f"{path} answered {response.status}: {body[:2_000].decode('utf-8', 'replace')}")
    return body


def _sign_in(port: int, origin: str, key: str) -> str:
    with connection(port) as made:
        headers = {"origin": origin, "content-type": "application/x-www-form-urlencoded"}
        made.request("POST", f"{CONSOLE}/sign-in", urlencode({"name": "Ada", "key": key}), headers)
        with made.getresponse() as response:
            response.read()
        if response.status != 303:
            raise Stalled(f"nobody can sign in: {response.status}")
        return response.headers["set-cookie"].partition(";")[0]


def _plumbing(live: Deployment, port: int, cookie: str, count: int, turns: int, say: Say) -> list[Row]:
    jobs = list(echo_jobs(count))
    rates: dict[str, list[float]] = {name: [] for name in _SIDES}
    statuses: Counter[int] = Counter()
    with live.producer() as producer, Ends(live.kafka) as ends:
        run(producer, ends, jobs[:500], say)
        for turn in range(turns):
            for name in in_turn(_SIDES, turn):
                say(f"turn {turn + 1} of {turns}: {count:,} echo jobs {name}")
                with ExitStack() as stack:
                    if name == _SIDES[0]:
                        stack.enter_context(_open_consoles(port, cookie, statuses))
                    rates[name].append(run(producer, ends, jobs, say).rate)
    ratios = [one / other for one, other in zip(*(rates[name] for name in _SIDES), strict=True)]
    return [
        *(row(f"{count:,} echo jobs {name}, median of {turns}", median(rate), "jobs/s")
          for name, rate in rates.items()),
        row("of what the consoles asked for was refused", 1 - statuses[200] / max(1, statuses.total()), "share"),
        row(f"{_SIDES[0]} to without, median of the turns", median(ratios), "ratio", at_least=0.97),
    ]  # fmt: skip


@contextmanager
def _open_consoles(port: int, cookie: str, statuses: Counter[int]) -> Iterator[None]:
    """Consoles that ask for a part of their page again and again, as it tells htmx: half of them show *Now*, and the
    others jobs that have not ended.
    """
    over = threading.Event()

    def show(number: int) -> None:
        path = f"jobs/{_job_id(-1 - number)}/part" if number % 2 else "now/part"
        seconds = 0.0
        with connection(port) as made:
            while not over.wait(seconds):
                made.request("GET", f"{CONSOLE}/{path}", headers={"cookie": cookie})
                with made.getresponse() as response:
                    (every,) = re.findall(rb'hx-trigger="every (\d+)s"', response.read())
                seconds = float(every)
                statuses[response.status] += 1  # a page that is refused asks again

    with ThreadPoolExecutor(CONSOLES) as pool:
        consoles = [pool.submit(show, number) for number in range(CONSOLES)]
        try:
            yield
        finally:
            over.set()
        for console in consoles:
            console.result()


# Rows. A job's number says all of it; numbers below 0 are jobs that have not ended.

_JOBS = """
INSERT INTO jobs (id, tenant, kind, state, payload, application, correlationid, accepted_at, ended_at, terminal_type,
                  terminal)
SELECT id, tenant, 'generation', state, :asked, application, 'order-' || n, coalesce(ended_at, :now) - 4000, ended_at,
       CASE state WHEN 'done' THEN :done_type WHEN 'dead' THEN :dead_type WHEN 'cancelled' THEN :cancelled_type END,
       convert_to(replace(CASE state WHEN 'done' THEN :done WHEN 'dead' THEN :dead WHEN 'cancelled' THEN :cancelled END,
                          :id, id), 'UTF8')
FROM (
    SELECT n, md5(n::text)::uuid::text AS id,
           CASE WHEN n % 200000 = 777 THEN :few WHEN n % 2 = 0 THEN 'default' ELSE 'tenant-' || n % 49 END AS tenant,
           CASE WHEN n < 0 THEN 'active' WHEN n % 50 = 1 THEN 'dead' WHEN n % 100 = 2 THEN 'cancelled' ELSE 'done' END
               AS state,
           CASE WHEN n % 100000 = 5 THEN 'seldom@1' WHEN n % 4 = 0 THEN 'triage@' || n % 3 + 1 END AS application,
           CASE WHEN n >= 0 THEN :now - CASE WHEN n < :busy THEN :lag * n / :busy
                                             ELSE :lag + :span * (n - :known) / (:jobs - :known) END END AS ended_at
    FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) AS n
) AS made
"""
_STEPS = """
INSERT INTO steps (job_id, stage, state, queue, group_key, lane, rank, deadline, turn, tokens, attempts, ready_at,
                   started_at, ended_at, event_type)
SELECT jobs.id, stage, CASE WHEN n < 0 THEN 'ready' WHEN jobs.state = 'done' THEN 'done' ELSE jobs.state END,
       CASE WHEN stage <> 'generate' THEN stage WHEN n < 0 THEN 'model.idle' WHEN n % 100000 = 3 THEN 'model.rare'
            ELSE 'model.echo' END,
       stage, 1, 5, 4611686018427387904, n, 100, 1, accepted_at, accepted_at + 1000, ended_at, 'headrace.output.v1'
FROM (SELECT n, md5(n::text)::uuid::text AS id
      FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) AS n) AS made
JOIN jobs ON jobs.id = made.id
CROSS JOIN (VALUES ('generate'), ('moderate'), ('judge')) AS stages (stage)
WHERE stage = 'generate' OR jobs.state = 'done'
"""
_ENDED = """
INSERT INTO console_ended_jobs (job_id, tenant, ended_at)
SELECT id, tenant, ended_at FROM jobs WHERE ended_at <= :now - :lag
ON CONFLICT DO NOTHING
"""
_LETTERS = """
INSERT INTO dead_letters (id, job_id, tenant, category, reason, stage, attempts, topic, headers, value, died_at)
SELECT md5('letter' || id)::uuid::text, id, tenant, 'permanent', 'the provider refused the request: 400', 'generate', 1,
       'jobs.generation', '{}', payload, ended_at
FROM jobs WHERE state = 'dead'
ON CONFLICT DO NOTHING
"""
_REVIEWS = """
INSERT INTO review_items (id, tenant, job_id, rule, ordinal, replays, rank, probability, wanted, state, made_at)
SELECT md5('item' || id)::uuid::text, tenant, id, 'audit', 0, 0, n * 1000000, 0.05, 1, 'open', :now
FROM (SELECT id, tenant, row_number() OVER () AS n FROM jobs
      WHERE tenant = 'default' AND state = 'done' AND ended_at <= :now - :lag LIMIT :items) AS drawn
ON CONFLICT DO NOTHING
"""
_COUNTED = """
INSERT INTO usage_counted (what, until) VALUES ('jobs', :now - :lag)
ON CONFLICT (what) DO UPDATE SET until = excluded.until
"""


def _job_id(number: int) -> str:
    return str(UUID(hashlib.md5(str(number).encode()).hexdigest()))


def _fill(ledger: Ledger, known: int, jobs: int, say: Say) -> None:
    """Write ended jobs until there are so many, with what they leave behind, and at first some that have not ended."""
    values: dict[str, Any] = {
        "now": ledger.now(), "lag": LAG_MS, "busy": _BUSY, "span": _DAYS * 86_400_000, "few": _FEW, "known": known,
        "jobs": jobs,
        "id": _ID, **_templates(),
    }  # fmt: skip
    begun = time.monotonic()
    places = [*range(known, jobs, _AT_ONCE), jobs]
    numbers = [(first, last - 1) for first, last in pairwise(places)]
    for first, last in [*([] if known else [(-_UNFINISHED, -1)]), *numbers]:
        with writing(ledger.engine) as tx, unhurried(tx):
            for statement in (_JOBS, _STEPS):
                _run(tx, statement, {**values, "first": first, "last": last})
        say(f"{max(last + 1, known):,} of {jobs:,} jobs are written, {time.monotonic() - begun:,.0f} s")
    with writing(ledger.engine) as tx, unhurried(tx):
        for statement in (_ENDED, _LETTERS, _REVIEWS, _COUNTED):
            _run(tx, statement, {**values, "items": _ITEMS})
    with ledger.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connected:
        for statement in ("SET statement_timeout = 0", "VACUUM (ANALYZE)", "CHECKPOINT"):  # as the database does soon
            connected.exec_driver_sql(statement)


def _run(tx: Connection, statement: str, values: Mapping[str, Any]) -> None:
    names = set(re.findall(r"(?<!:):(\w+)", statement))
    tx.execute(text(statement), {name: values[name] for name in names})


def _templates() -> dict[str, Any]:
    """Return what was asked for, and the ends of jobs, as texts that name one job."""
    asked = GenerationJob(model=ECHO, prompt=_QUESTION)
    at: Any = "2026-01-01T00:00:00Z"
    answer = Answer(
        text=_ANSWER, finish_reason="stop", model=ECHO, quantization="int8",
        usage=Usage(prompt_tokens=60, completion_tokens=90),
    )  # fmt: skip
    ends: Sequence[tuple[str, Any]] = (
        ("done", Result(
            job_id=_ID, tenant="default", status="completed", kind="generation", answer=answer,
            judge=JudgeVerdict(scores=(Score(criterion="rubric", name="good", value=0.5),)), accepted_at=at,
        )),
        ("dead", DeadLetter(
            job_id=_ID, tenant="default", category=Category.PERMANENT, reason="the provider refused the request: 400",
            stage="generate", attempts=1, accepted_at=at, topic="jobs.generation", size=2, original="{}",
            encoding="utf-8",
        )),
        ("cancelled", JobCancelled(job_id=_ID, tenant="default", kind="generation", accepted_at=at)),
    )  # fmt: skip
    return {"asked": encode_value(asked)} | {
        name: value
        for state, end in ends
        for name, value in ((state, encode_value(end).decode()), (f"{state}_type", type_of(end)))
    }
