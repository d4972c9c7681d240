"""What a process does in its last seconds, when one of its runs hangs. The ledger is real; the end is noted down."""

import threading

import pytest
from sqlalchemy import select
from tests.services.eventually import eventually
from tests.workers.ledger_jobs import claim_one, take_in
from tests.workers.runtime.bridge.records import generation
from tests.workers.runtime.worker.running import Notifier

from headrace_schemas.errors import Unavailable
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.progress import STUCK_EXIT, Progress
from headrace_workers.core.tables import CLAIMS, STEPS
from headrace_workers.runtime.wire.hints import Hint
from headrace_workers.runtime.worker import runs
from headrace_workers.runtime.worker.renew import Renewer
from headrace_workers.runtime.worker.runs import Runs


class Process:
    """A worker with two claims: one hangs, and one does not."""

    def __init__(self, ledger, monkeypatch):
        take_in(ledger, [generation(), generation(prompt="another")])
        self.ends, self.left, self.ledger, self.progress, self.bell = [], [], ledger, Progress(), Notifier()
        self.hangs, self.moves = (claim_one(ledger, limit=1) for _ in range(2))
        self.runs = Runs(self.progress, Pipeline(), 600.0)
        self.renewer = Renewer(ledger, 60_000, self.progress.loop("renew"), self.runs, self.bell, end=self.end)
        monkeypatch.setattr(self.renewer, "_rest", lambda _seconds: self.renewer._stop.wait(0.01))

    def run(self, then):
        """Let it hang, and do this when it has ended."""
        started = self.ledger.start(self.hangs.id, worker="w", lease_ms=60_000)
        self.ledger.start(self.moves.id, worker="w", lease_ms=60_000)

        def hangs(_started):
            self.renewer.start()
            self.progress.lived += 100_000
            eventually(lambda: self.ends)
            then()
            return []

        with self.renewer.renewing(self.moves.id), self.renewer.renewing(self.hangs.id):
            self.runs.do(started, hangs)

    def end(self, code):
        """What would be its last act: note down which claims are left."""
        self.left = [row.id for row in self.ledger.read(select(CLAIMS.c.id))]
        self.ends.append(code)


@pytest.fixture
def process(ledger, monkeypatch):
    """One that runs, and has as long for its last words as a busy machine needs."""
    monkeypatch.setattr(runs, "LAST_SECONDS", 120.0)
    process = Process(ledger, monkeypatch)
    yield process
    process.renewer.stop()
    for thread in threading.enumerate():
        if thread.name == "parting":
            thread.join()


def test_what_hangs_is_left_to_its_lease_and_the_rest_is_given_back(process):
    def then():
        assert process.left == [process.hangs.id]
        with process.renewer.renewing(99) as mine:
            assert not mine
        assert process.renewer.held() == sorted([process.hangs.id, process.moves.id])
        eventually(lambda: not process.renewer._thread.is_alive())

    process.run(then)
    assert process.ends == [STUCK_EXIT]
    assert process.bell.sent == [Hint.WORK]  # what was given back can go elsewhere
    states = process.ledger.read(select(STEPS.c.state, STEPS.c.attempts, STEPS.c.crashes).order_by(STEPS.c.state))
    assert [tuple(row) for row in states] == [("leased", 1, 0), ("ready", 0, 0)]


def test_it_says_what_hangs_where_and_for_how_long(process, caplog):
    process.run(lambda: None)
    (record,) = [record for record in caplog.records if getattr(record, "action", "") == "hung"]
    assert record.fields == {
        "claim": process.hangs.id, "stage": "generate", "queue": "model.echo", "tokens": record.fields["tokens"],
        "steps": 1, "seconds": 100_000, "stack": record.fields["stack"],
    }  # fmt: skip
    assert record.fields["tokens"] > 0
    assert "the stage generate hangs: it has run for 100000 s, and may for " in record.getMessage()
    assert "test_hung.py" in record.fields["stack"]


def test_a_ledger_that_is_away_keeps_nobody_alive(process, caplog, monkeypatch):
    def away(*_args):
        raise Unavailable("away")

    monkeypatch.setattr(process.ledger, "give_back", away)
    process.run(lambda: None)
    assert process.ends == [STUCK_EXIT]
    assert "could not give work back: away" in caplog.text


def test_a_ledger_that_does_not_answer_keeps_nobody_alive(process, monkeypatch):
    """Nor does anything else that the thread may hold that hangs."""
    monkeypatch.setattr(runs, "LAST_SECONDS", 0.1)
    answer = threading.Event()
    monkeypatch.setattr(process.ledger, "release", lambda *_args: answer.wait())
    process.run(lambda: None)
    assert process.ends == [STUCK_EXIT]
    answer.set()
