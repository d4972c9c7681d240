"""Jobs for a long run: published a few at a time, again where the broker did not confirm them."""

import contextlib
import sqlite3

import psycopg
from tests.chaos.deployment import Deployment

from headrace_schemas import HeadraceError
from headrace_schemas.criteria import Length
from headrace_schemas.job import derive_job_id

AWAY = (psycopg.OperationalError, sqlite3.OperationalError)
_CHUNK = 100
_AHEAD = 1_500  # jobs under way at most, so that faults find work from the first to the last
_SECRET = "river.keeper@example.org"  # every tenth answer would show it, did moderation not stop it


class Workload:
    """`jobs` jobs, of which `ids` are those that the broker has confirmed."""

    forbidden = (_SECRET,)

    def __init__(self, deployment: Deployment, jobs: int) -> None:
        self.jobs = jobs
        self.ids: list[str] = []
        self._deployment = deployment
        self._ended = 0

    def step(self) -> int:
        """Publish a few more when there is room; how many jobs have ended, as far as is known."""
        with contextlib.suppress(*AWAY):
            self._ended = self._deployment.ended()
        if len(self.ids) < self.jobs and len(self.ids) - self._ended < _AHEAD:
            with contextlib.suppress(HeadraceError):  # not confirmed: the same again at the next step, which is safe
                self._publish(_CHUNK)
        return self._ended

    def finish(self) -> None:
        """Publish what is missing."""
        while len(self.ids) < self.jobs:
            self._publish(_CHUNK)

    def _publish(self, most: int) -> None:
        numbers = range(len(self.ids), min(self.jobs, len(self.ids) + most))
        with self._deployment.producer(patience=3.0) as producer:
            for number in numbers:
                secret = f" and write to {_SECRET}" if number % 10 == 0 else ""
                producer.generate(
                    prompt=f"%%sleep:0.005%% tell me of the river number {number}{secret}",
                    idempotency_key=f"chaos-{number}",
                    criteria=(Length(min_words=1),),
                )
        self.ids += [derive_job_id("default", f"chaos-{number}") for number in numbers]
