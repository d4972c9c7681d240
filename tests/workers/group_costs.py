"""Counts of the work for a group of 64 echo jobs, from record to receipt, by role: in one process, with SQLite and
stand-ins for Kafka and Redis. Times depend on the machine and its load; these counts do not.

    python -m tests.workers.group_costs             # print them, with the calls of libraries
    python -m tests.workers.group_costs --accept    # and write them to group_costs.json, without the calls of libraries

test_group_costs.py starts this module as a program, since the caches of a used process would hide work.
"""

import base64
import gc
import json
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any, ClassVar

FILE = Path(__file__).with_suffix(".json")
GROUP = "a group of 64 echo jobs"  # and what the file has under this name
LIBRARIES = "library calls"
JOBS = 64
_WARM_UPS = 2
_OURS = ("headrace_schemas", "headrace_producers", "headrace_workers")
# Calls before Python 3.12 only.
_INLINED = frozenset({"<listcomp>", "<setcomp>", "<dictcomp>"})
# Threads that work for a group. The others do periodic work.
_COUNTED = ("MainThread", "moderation", "follow")
_PARTITIONS = 4


class Counts(threading.local):
    """A counter of each thread. `every` has those of all threads."""

    every: ClassVar[list[Counter[str]]] = []
    on: ClassVar[bool] = False

    def __init__(self) -> None:
        self.mine: Counter[str] = Counter()
        if threading.current_thread().name.startswith(_COUNTED):
            self.every.append(self.mine)

    def add(self, what: str, number: int = 1) -> None:
        """Add to a count, if counting is on."""
        if Counts.on:
            self.mine[what] += number

    def call(self, frame: FrameType, event: str, _: object) -> None:
        """Count a call of Python code. This is the profile function of each thread."""
        if event == "call" and Counts.on and frame.f_code.co_name not in _INLINED:
            name = frame.f_globals.get("__name__") or ""
            self.mine["Python calls" if name.startswith(_OURS) else LIBRARIES] += 1

    def of(self, work: Callable[[], object]) -> dict[str, int]:
        for counter in self.every:
            counter.clear()
        gc.collect()
        gc.disable()
        Counts.on = True
        try:
            work()
        finally:
            Counts.on = False
            gc.enable()
        return dict(sum(self.every, Counter()))


COUNTS = Counts()


class _Redis:
    lists: defaultdict[str, deque[bytes]] = defaultdict(deque)

    def llen(self, key: str) -> int:
        COUNTS.add("Redis commands")
        return len(self.lists[key])

    def lpush(self, key: str, value: bytes) -> None:
        COUNTS.add("Redis commands")
        COUNTS.add("bytes written", len(value))
        self.lists[key].appendleft(value)

    def publish(self, _channel: str, text: str) -> None:
        COUNTS.add("Redis commands")
        COUNTS.add("bytes written", len(text))

    def pipeline(self, *, transaction: bool) -> Any:
        found: list[int] = []
        return SimpleNamespace(llen=lambda key: found.append(self.llen(key)), execute=lambda: found)


class _Producer:
    """A Kafka producer that confirms each record at once."""

    _metadata = SimpleNamespace(partitions_for_topic=lambda _name: set(range(_PARTITIONS)))

    def __init__(self, **_: object) -> None:
        self.flush = self.close = lambda *_, **__: None

    def send(self, _topic: str, *, key: bytes, value: bytes, headers: list[tuple[str, bytes]], **_: object) -> Any:
        COUNTS.add("Kafka records")
        COUNTS.add("bytes written", len(key) + len(value) + sum(len(name) + len(text) for name, text in headers))
        return SimpleNamespace(is_done=True, get=lambda **_: None)


def _count_statements() -> None:
    from sqlalchemy import Engine, event

    @event.listens_for(Engine, "before_cursor_execute")
    def _statement(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: object) -> None:
        COUNTS.add("round trips")
        COUNTS.add("statements", not statement.startswith("BEGIN"))
        if statement.lstrip()[:6] in ("INSERT", "UPDATE", "DELETE"):
            COUNTS.add("bytes written", _size(parameters))

    @event.listens_for(Engine, "commit")
    def _commit(_connection: Any) -> None:
        COUNTS.add("round trips")
        COUNTS.add("commits")


def _size(value: Any) -> int:
    if isinstance(value, str | bytes | memoryview):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_size, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(_size, value))
    return 0 if value is None else 8


class Pipeline:
    """A bridge and two workers on one ledger in this process, with the echo as the model."""

    def __init__(self, folder: Path) -> None:
        import kafka
        import redis
        from tests.services.tables import sqlite_tables

        from headrace_producers import KafkaSettings
        from headrace_schemas import Topic
        from headrace_workers.core.ledger.positions import LogPartition, Position
        from headrace_workers.core.progress import Progress
        from headrace_workers.runtime.bridge.bridge import Duty
        from headrace_workers.runtime.settings import Settings
        from headrace_workers.testing import make_echo_model
        from headrace_workers.wiring.build_bridge import build_bridge
        from headrace_workers.wiring.build_worker import build_hands
        from headrace_workers.wiring.parts import pipeline_of

        kafka.KafkaProducer = _Producer
        redis.Redis.from_url = lambda *_, **__: _Redis()
        _count_statements()
        make_echo_model(folder)
        settings = Settings(
            home=folder, kafka=KafkaSettings.at("none:1"), redis="redis://none:1/0",
            ledger=sqlite_tables(folder / "ledger.db"),
        )  # fmt: skip
        progress = Progress()
        pipeline = pipeline_of(settings)
        self._bridge = build_bridge(settings, frozenset({Duty.DISPATCH}), progress, durable=False)
        generate = build_hands(settings, pipeline, frozenset({"generate"}), "echo", progress).runner
        moderate = build_hands(settings, pipeline, frozenset({"moderate", "judge"}), None, progress).runner
        self._workers = {"generate": ("model.echo", generate), "moderate and judge": ("moderate", moderate)}
        self._topic = settings.kafka.topic(Topic.GENERATION)
        partitions = self._bridge._ingest._partitions
        places = [LogPartition(self._topic, number, "id") for number in range(_PARTITIONS)]
        partitions._mine = self._bridge._ledger.share("bridge", frozenset(places), 3_600_000)
        partitions._places = {(place.topic, place.partition): place for place in places}
        partitions._at = {place: Position() for place in places}
        self._jobs = 0

    def steps(self) -> Iterator[tuple[str, Callable[[], object]]]:
        """Yield the work of each role for one more group, with the name of the role. Do each before the next."""
        polled = self._polled()
        yield "ingest", lambda: self._bridge._ingest._take(polled)
        yield "dispatch", self._bridge._dispatch.once
        for role, (queue, runner) in self._workers.items():
            (claim,) = _claims(queue)
            yield role, lambda runner=runner, claim=claim: runner.run(claim)
        yield "relay", self._bridge._relay.once

    def _polled(self) -> dict[Any, list[Any]]:
        """Return the records of a group, as Kafka's consumer returns them."""
        from kafka import TopicPartition

        from headrace_schemas import Envelope, GenerationJob
        from headrace_schemas.codec import encode
        from headrace_schemas.event_types import type_of

        polled: dict[Any, list[Any]] = {}
        for number in range(self._jobs, self._jobs + JOBS):
            job = GenerationJob(
                model="echo", prompt=f"Case {number}. {_PROMPT}", sampling={"max_tokens": 16}, lane="batch",
                idempotency_key=f"job {number:08}",
            )  # fmt: skip
            job_id = job.job_id("")
            envelope = Envelope(
                id=job_id, type=type_of(job), source="/tests", time=datetime.now(UTC), subject=job_id,
                partitionkey=job_id,
            )  # fmt: skip
            headers, value = encode(job, envelope)
            record = SimpleNamespace(
                topic=self._topic, partition=number % _PARTITIONS, offset=number, headers=tuple(headers), value=value,
                timestamp=int(time.time() * 1000), key=job_id.encode(), leader_epoch=0,
            )  # fmt: skip
            polled.setdefault(TopicPartition(record.topic, record.partition), []).append(record)
        self._jobs += JOBS
        return polled


# Short enough that a group has all of them: the first budget of tokens bounds it.
_PROMPT = "Summarise in one sentence: The harbour ferry carried 1,204 passengers in the first week of May."


def _claims(queue: str) -> list[int]:
    found = []
    for key, messages in _Redis.lists.items():
        while messages and queue in key:
            (claim, _), _, _ = json.loads(base64.b64decode(json.loads(messages.pop())["body"]))
            found.append(claim)
    return found


def counted() -> dict[str, dict[str, int]]:
    """Return the counts of each role for a group. The process is of no use afterwards."""
    now = time.monotonic()
    time.monotonic = lambda: now  # periodic work is not done for a group
    threading.setprofile(COUNTS.call)
    sys.setprofile(COUNTS.call)
    with tempfile.TemporaryDirectory() as folder:
        pipeline = Pipeline(Path(folder))
        for _ in range(_WARM_UPS):
            for _, work in pipeline.steps():
                work()
        found = {role: COUNTS.of(work) for role, work in pipeline.steps()}
        sys.setprofile(None)
        return found


def accept(costs: dict[str, dict[str, int]]) -> None:
    """Write these costs to the file. Those of libraries depend on their versions, and are left out."""
    accepted = json.loads(FILE.read_text(encoding="utf-8"))
    accepted[GROUP] = {
        role: {what: number for what, number in sorted(of.items()) if what != LIBRARIES} for role, of in costs.items()
    }
    FILE.write_text(json.dumps(accepted, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    import os

    found = counted()
    print(json.dumps(found, indent=2))
    if "--accept" in sys.argv:
        accept(found)
    sys.stdout.flush()
    os._exit(0)  # the threads of bridge and workers never end
