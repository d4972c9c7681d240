import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from tests.services.tables import give_back, postgres_tables, sqlite_tables

from headrace_schemas import Topic
from headrace_workers.core.ledger.claims import Claim, Wanted
from headrace_workers.core.ledger.dead_letters import Record
from headrace_workers.core.ledger.ingest import NewJob
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.steps import NewStep
from headrace_workers.core.tables import NEVER

_numbers = itertools.count()


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database with a ledger's tables, which stay as they are: a test that alters them makes its own."""
    yield from tables_of(request, tmp_path)


def tables_of(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield sqlite_tables(tmp_path / "ledger.db")
        return
    server, name = request.getfixturevalue("postgres"), f"ledger_{next(_numbers)}_{uuid4().hex[:6]}"
    yield postgres_tables(server, name)
    give_back(server, name)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.db'}"
    return request.getfixturevalue("postgres").create_database(f"empty_{next(_numbers)}_{uuid4().hex[:6]}")


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    ledger = Ledger.at(ledger_url)
    yield ledger
    ledger.close()


@pytest.fixture
def job() -> Callable[..., NewJob]:
    def make(
        *, tenant: str = "a", lane: int = 1, rank: int = 4, deadline: int = NEVER, tokens: int = 10, group: str = "g",
        queue: str = "q", job_id: str | None = None, prefix: int | None = None,
    ) -> NewJob:  # fmt: skip
        name = job_id or str(uuid4())
        step = NewStep(
            job_id=name, stage="generate", queue=queue, group_key=group, lane=lane, rank=rank, deadline=deadline,
            turn=0, tokens=tokens, event_type="headrace.job.generation.v1", prefix=prefix,
        )  # fmt: skip
        payload = b'{"model":"m","prompt":"p"}'
        record = Record(Topic.GENERATION, 0, next(_numbers), (), payload)
        return NewJob(name, tenant, "generation", payload, record, (step,))

    return make


@pytest.fixture
def claim(ledger: Ledger) -> Callable[..., Claim | None]:
    def take(
        *, lane: int = 1, limit: int = 32, window: int = 0, linger: int = 0, lease_ms: int = 60_000, bridge: str = "b"
    ) -> Claim | None:
        wanted = Wanted("q", lane, 1, limit, window, linger)
        return next(iter(ledger.claim([wanted], lease_ms=lease_ms, sender=bridge).claims), None)

    return take
