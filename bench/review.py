"""Reviews: people who decide through one gateway, and what a random audit takes from the plumbing, in turns."""

import json
import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from statistics import median
from typing import Any, NamedTuple
from uuid import uuid4

from sqlalchemy import func, insert, select

from bench.asking import connection
from bench.deployment import TWO_WORKERS, deployment
from bench.ends import Ends, Say, Stalled
from bench.flow import ECHO, echo_jobs, in_turn, make_home, run
from bench.report import Report, Row, percentile, report, row
from bench.services import Services, services
from headrace_schemas import Answer, GenerationJob, JudgeVerdict, Result, Score, Usage
from headrace_schemas.codec import encode_value
from headrace_schemas.event_types import type_of
from headrace_workers.core.ledger.accounting import accounted_until
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.scopes import all_scopes
from headrace_workers.core.sql.database import reading, writing
from headrace_workers.core.tables import JOBS
from headrace_workers.features.access.commands import new_key
from headrace_workers.features.access.store.keys import ApiKeys
from headrace_workers.features.reviews.hooks import current_rules
from headrace_workers.features.reviews.tables import REVIEW_ITEMS
from headrace_workers.runtime.embedded.free_ports import free_ports

NAME = "review"
PEOPLE = 50
HURRIED = 10  # programs that decide at once: more of them wait for longer than a gateway lets a request wait
ITEMS = 100_000
_TENANT = "default"
_AUDIT = '[[rules]]\nname = "audit"\nshare = 0.05\n'
_SIDES = {"with an audit of 5 %": _AUDIT, "without": ""}
_WARM_UP = 10  # items of one person
_PAUSE = 10.0  # seconds for which a person reads an item
_AT_ONCE = 2_000  # rows of a statement
_SETTLED_SECONDS = 60.0


def bench(say: Say, *, quick: bool = False, embedded: bool = False) -> Report:
    """100,000 items, 10 programs and 50 people (500 items and 5 people when quick); then five turns of 2,000 echo jobs
    with and without an audit (one of 100 when quick).
    """
    with services(embedded=embedded) as there:
        rows = _people(there, *((500, 5, 2) if quick else (ITEMS, PEOPLE, 10)), say)
        rows += _audit(there, *((100, 1) if quick else (2_000, 5)), say)
        return report(NAME, there.stack, rows)


class _Work(NamedTuple):
    """What a person did: how long each answer to `next` took (ms), and how many items they decided."""

    next_ms: list[float]
    decided: int


def _people(there: Services, items: int, people: int, each: int, say: Say) -> list[Row]:
    home = make_home(there.folder, ECHO)
    (port,) = free_ports(1)
    with (
        deployment(there, home, [], {}, gateway=port, HEADRACE_RATE="1000000") as live,
        closing(Ledger.at(live.ledger)) as ledger,
    ):
        say(f"{items:,} items are written")
        _write_items(ledger, items)
        keys = [_key_of(ledger, f"person {number}") for number in range(people + 1)]
        _work(port, keys[-1], _WARM_UP, 0.0)
        alone = _work(port, keys.pop(), each, 0.0)
        in_a_hurry = min(HURRIED, people)
        say(f"{in_a_hurry} programs decide {each} times each, one answer after the other")
        begun = time.monotonic()
        with ThreadPoolExecutor(in_a_hurry) as pool:
            hurried = list(pool.map(lambda key: _work(port, key, each, 0.0), keys[:in_a_hurry]))
        rate = sum(work.decided for work in hurried) / (time.monotonic() - begun)
        say(f"{people} people who read for {_PAUSE:g} s decide {each} times each")
        with ThreadPoolExecutor(people) as pool:
            reading_ = list(pool.map(lambda key: _work(port, key, each, _PAUSE), keys))
        decided = _decided(ledger)
    if decided != (expected := _WARM_UP + (1 + in_a_hurry + people) * each):
        raise Stalled(f"{decided:,} items are decided, and people decided {expected:,}")
    in_hurry, paused = ([ms for work in works for ms in work.next_ms] for works in (hurried, reading_))
    among = f"{people} people"
    return [
        row(f"{items:,} items: decisions of {in_a_hurry} programs through one gateway", rate, "decisions/s"),
        row(f"the next item of one person alone, p95 of {each}", percentile(alone.next_ms, 95), "ms"),
        row(f"the next item of {in_a_hurry} programs, p95", percentile(in_hurry, 95), "ms"),
        row(f"the next item of {among} who read for {_PAUSE:g} s, p50", percentile(paused, 50), "ms"),
        row(f"the next item of {among} who read for {_PAUSE:g} s, p95", percentile(paused, 95), "ms", at_most=50),
    ]


def _work(port: int, key: str, times: int, pause: float) -> _Work:
    """Take the next item so many times, and label each."""
    took = []
    with connection(port) as made:
        for _ in range(times):
            time.sleep(pause * random.uniform(0.0, 2.0))  # people are not in step
            begun = time.perf_counter()
            item = _post(made, key, "/v1/reviews/next", {})["item"]
            took.append(1000 * (time.perf_counter() - begun))
            said = {"labels": [{"criterion": "good", "value": 1}], "lease": item["lease"]}
            _post(made, key, f"/v1/reviews/items/{item['id']}/decision", said)
    return _Work(took, times)


def _post(made: HTTPConnection, key: str, path: str, body: object) -> dict[str, Any]:
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    made.request("POST", path, json.dumps(body), headers)
    with made.getresponse() as response:
        told: dict[str, Any] = json.loads(response.read())
    if response.status != 200:
        raise Stalled(f"{path} answered {response.status}: {told}")
    return told


def _write_items(ledger: Ledger, count: int) -> None:
    """Write jobs that were answered, and an item about each."""
    now, asked = ledger.now(), encode_value(GenerationJob(model=ECHO, prompt="Is the ferry late today?"))
    for first in range(0, count, _AT_ONCE):
        ids = [str(uuid4()) for _ in range(min(_AT_ONCE, count - first))]
        with writing(ledger.engine) as tx:
            tx.execute(insert(JOBS), [_job(job_id, asked, now) for job_id in ids])
            tx.execute(insert(REVIEW_ITEMS), [_item(job_id, now) for job_id in ids])
    with writing(ledger.engine) as tx:
        tx.exec_driver_sql("ANALYZE")  # as the database does by itself, soon


def _job(job_id: str, asked: bytes, now: int) -> dict[str, Any]:
    answer = Answer(
        text="Yes, by ten minutes.", finish_reason="stop", model=ECHO, quantization="int8",
        usage=Usage(prompt_tokens=5, completion_tokens=5),
    )  # fmt: skip
    end = Result(
        job_id=job_id, tenant=_TENANT, status="completed", kind="generation", answer=answer,
        judge=JudgeVerdict(scores=(Score(criterion="rubric", name="good", value=0.5),)),
        accepted_at="2026-01-01T00:00:00Z",
    )  # fmt: skip
    return {
        "id": job_id, "tenant": _TENANT, "kind": "generation", "state": "done", "payload": asked, "accepted_at": now,
        "ended_at": now, "terminal": encode_value(end), "terminal_type": type_of(end),
    }  # fmt: skip


def _item(job_id: str, now: int) -> dict[str, Any]:
    return {
        "id": str(uuid4()), "tenant": _TENANT, "job_id": job_id, "rule": "audit", "ordinal": 0, "replays": 0,
        "rank": 2**61 | random.getrandbits(61), "probability": 0.05, "wanted": 1, "state": "open", "made_at": now,
    }  # fmt: skip


def _key_of(ledger: Ledger, who: str) -> str:
    token, kept = new_key(_TENANT, who, tuple(sorted(all_scopes())))
    ledger.of(ApiKeys).add(kept)
    return token.text


def _decided(ledger: Ledger) -> int:
    query = select(func.count()).select_from(REVIEW_ITEMS).where(REVIEW_ITEMS.c.state == "done")
    with reading(ledger.engine) as tx:
        return int(tx.execute(query).scalar_one())


def _audit(there: Services, count: int, turns: int, say: Say) -> list[Row]:
    """Jobs through two deployments of their own. Both account for jobs a second after their end, so that most of the
    draws are made while the jobs run.
    """
    home, jobs = make_home(there.folder, ECHO), list(echo_jobs(count))
    file = there.folder / "audit.toml"
    file.write_text(_AUDIT, encoding="utf-8")
    nothing = there.folder / "nothing.toml"
    nothing.write_text("", encoding="utf-8")
    rates: dict[str, list[float]] = {name: [] for name in _SIDES}
    with ExitStack() as stack:
        live = {
            name: stack.enter_context(
                deployment(
                    there, home, [ECHO], TWO_WORKERS, module="bench.prompt_accounting",
                    HEADRACE_REVIEWS=str(file if rules else nothing),
                )
            )
            for name, rules in _SIDES.items()
        }  # fmt: skip
        ends = {name: stack.enter_context(Ends(of.kafka)) for name, of in live.items()}
        producers = {name: stack.enter_context(of.producer()) for name, of in live.items()}
        ledgers = {name: stack.enter_context(closing(Ledger.at(of.ledger))) for name, of in live.items()}
        for name, rules in _SIDES.items():
            _wait(lambda name=name, rules=rules: bool(_rules_of(ledgers[name])) == bool(rules))
            run(producers[name], ends[name], jobs[:500], say)
            _settle(ledgers[name])
        for turn in range(turns):
            for name in in_turn(_SIDES, turn):
                say(f"turn {turn + 1} of {turns}: {count:,} echo jobs {name}")
                rates[name].append(run(producers[name], ends[name], jobs, say).rate)
                _settle(ledgers[name])
        drawn = {name: _items(ledger) for name, ledger in ledgers.items()}
    with_audit, without = (rates[name] for name in _SIDES)
    ratios = [one / other for one, other in zip(with_audit, without, strict=True)]
    return [
        *(row(f"{count:,} echo jobs {name}, median of {turns}", median(found), "jobs/s")
          for name, found in rates.items()),
        *(row(f"items that were drawn {name}", number) for name, number in drawn.items()),
        row("with an audit of 5 % to without, median of the turns", median(ratios), "ratio", at_least=0.97),
    ]  # fmt: skip


def _rules_of(ledger: Ledger) -> object:
    with reading(ledger.engine) as tx:
        return current_rules(tx).rules


def _items(ledger: Ledger) -> int:
    with reading(ledger.engine) as tx:
        return int(tx.execute(select(func.count()).select_from(REVIEW_ITEMS)).scalar_one())


def _settle(ledger: Ledger) -> None:
    """Wait until all jobs that have ended are accounted for: the other side has the machine to itself."""
    now = ledger.now()

    def accounted() -> bool:
        with reading(ledger.engine) as tx:
            return accounted_until(tx) >= now

    _wait(accounted)


def _wait(ready: Any) -> None:
    until = time.monotonic() + _SETTLED_SECONDS
    while not ready():
        if time.monotonic() > until:
            raise Stalled(f"the bridge has not come to it in {_SETTLED_SECONDS:g} s")
        time.sleep(0.1)
