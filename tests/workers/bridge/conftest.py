"""A ledger, and brokers with topics of one's own."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.workers.ledger_jobs import sqlite_ledger

from headrace_producers.admin import ensure_topics
from headrace_producers.settings import KafkaSettings
from headrace_workers.ledger.ledger import Ledger

_PREFIXES = itertools.count(1)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """An empty, migrated ledger."""
    with sqlite_ledger(tmp_path) as ledger:
        yield ledger


@pytest.fixture
def fresh_prefix() -> str:
    """A topic prefix that no other test uses."""
    return f"bridge{next(_PREFIXES)}."


@pytest.fixture(params=["embedded_kafka", "apache_kafka"])
def kafka(request: pytest.FixtureRequest, fresh_prefix: str) -> KafkaSettings:
    """Settings for a broker with fresh topics; each test runs on each broker."""
    settings: KafkaSettings = request.getfixturevalue(request.param).settings(fresh_prefix)
    ensure_topics(settings)
    return settings
