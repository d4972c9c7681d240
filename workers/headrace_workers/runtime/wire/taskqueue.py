"""Claims on their way to workers, in Celery over Redis. The message carries the ids of the claim and of its ledger."""

import base64
import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import redis

from headrace_producers.words import words
from headrace_workers.core.ledger.claims import Claim
from headrace_workers.core.ledger.steps import INTERACTIVE
from headrace_workers.core.outage import REDIS_ERRORS, RedisUnavailable
from headrace_workers.core.redis import PRIORITIES, Line, RedisNames

# A claim as a Celery worker reads it: protocol 2 of Celery, in the envelope that kombu puts into Redis.
#
# Celery's own `send_task` makes the same, and takes 330 µs of CPU to send it. This and an LPUSH take 60, and a job's
# way has two. What it adds, such as the sender's name, nobody reads here.
# https://docs.celeryq.dev/en/stable/internals/protocol.html

TASK: Final = "headrace.run"

_NO_CANVAS: Final = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def message(claim_id: int, ledger: str, *, queue: str, priority: int) -> bytes:
    """Return the call of TASK with these two arguments, for the list of this queue (Celery's name) and priority."""
    task_id = str(uuid.uuid4())
    body = json.dumps([[claim_id, ledger], {}, _NO_CANVAS]).encode()
    return json.dumps(
        {
            "body": base64.b64encode(body).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"lang": "py", "task": TASK, "id": task_id, "root_id": task_id, "ignore_result": True},
            "properties": {
                "correlation_id": task_id,
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": queue},
                "priority": priority,
                "body_encoding": "base64",
                "delivery_tag": task_id,
            },
        }
    ).encode()


class TaskQueue:
    """Queue of claims, which sends them and counts waiting ones. Redis holds no truth: a claim that it loses is sent
    again when its lease ends.

    `ledger` is the identity of the ledger that the claims are from: workers of another ledger refuse them.
    Thread-safe. Unavailable when Redis does not answer.
    """

    def __init__(self, client: redis.Redis, names: RedisNames, ledger: str) -> None:
        self._redis = client
        self._names = names
        self._ledger = ledger

    def waiting(self, queues: Sequence[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """Return how many claims wait in each queue and lane."""
        lists = [(place, self._names.line(place[0], line)) for place in queues for line in _lines(place[1])]
        if len(lists) == 1:  # as of what follows one interactive job: a pipeline costs twice as much
            ((place, key),) = lists
            with _translated():
                return {place: int(self._redis.llen(key))}
        pipeline = self._redis.pipeline(transaction=False)
        for _, key in lists:
            pipeline.llen(key)
        counts = dict.fromkeys(queues, 0)
        with _translated():
            for (place, _), count in zip(lists, pipeline.execute(), strict=True):
                counts[place] += count
        return counts

    def send(self, claim: Claim, *, ahead: bool = False) -> None:
        """Put a claim into its queue: into its lane, or ahead of both."""
        line = "ahead" if ahead else _lines(claim.lane)[0]
        body = message(claim.id, self._ledger, queue=self._names.queue(claim.queue), priority=PRIORITIES[line])
        with _translated():
            self._redis.lpush(self._names.line(claim.queue, line), body)


def _lines(lane: int) -> tuple[Line, ...]:
    """Return the lists where a lane's claims may wait; its own first."""
    return ("interactive",) if lane == INTERACTIVE else ("batch", "ahead")


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except REDIS_ERRORS as error:
        raise RedisUnavailable(f"Redis did not answer: {words(error)}") from error
