"""Many jobs carried to their ends."""

from collections.abc import Collection, Sequence

import pytest
from tests.workers.cli.conftest import dead, job_id, result

from headrace_schemas.errors import Unavailable
from headrace_workers.cli.feed import RESEND_SECONDS, Feed
from headrace_workers.cli.jobfile import Entry
from headrace_workers.cli.receipt import Receipt


class World:
    """A ledger that knows what it is told, a broker that can lose, and a clock that stands until it is moved."""

    def __init__(self, *, loses: Collection[str] = ()) -> None:
        self.known: set[str] = set()
        self.ends: dict[str, Receipt] = {}
        self.refusals: dict[str, Receipt] = {}
        self.sent: list[str] = []
        self.loses = set(loses)
        self.time = 0.0
        self.away = False

    def feed(self, count: int, window: int = 10) -> Feed:
        """A feed of so many entries."""
        entries = [Entry(line=n, offset=0, job_id=job_id(n)) for n in range(1, count + 1)]
        return Feed(entries, self, self.publish, started_ms=0, monotonic=lambda: self.time, window=window)

    def publish(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self.sent.append(entry.job_id)
            if entry.job_id not in self.loses and entry.job_id not in self.refusals:
                self.known.add(entry.job_id)

    def end(self, *numbers: int) -> None:
        """These jobs are answered."""
        self.ends |= {job_id(n): result(n) for n in numbers}

    def accepted(self, job_ids: Collection[str]) -> set[str]:
        if self.away:
            raise Unavailable("the ledger is away")
        return self.known & set(job_ids)

    def ended(self, job_ids: Collection[str]) -> list[Receipt]:
        return [self.ends[i] for i in job_ids if i in self.ends]

    def refused(self, job_ids: Collection[str], since_ms: int) -> list[Receipt]:
        return [self.refusals[i] for i in job_ids if i in self.refusals]


def test_every_entry_comes_back_once_with_its_line():
    """As they end, in whatever order."""
    world = World()
    feed = world.feed(3)
    assert feed.turn() == []
    world.end(3)
    assert [receipt.line for receipt in feed.turn()] == [3]
    world.end(1, 2)
    assert sorted(receipt.line or 0 for receipt in feed.turn()) == [1, 2]
    assert feed.done
    assert world.sent == [job_id(1), job_id(2), job_id(3)]


def test_no_more_than_the_window_is_on_its_way():
    """A hundred thousand jobs do not all lie in the broker."""
    world = World()
    feed = world.feed(5, window=2)
    feed.turn()
    feed.turn()
    assert len(world.sent) == 2
    world.end(1)
    feed.turn()
    feed.turn()
    assert len(world.sent) == 3
    assert not feed.done


def test_what_an_earlier_run_has_sent_is_not_sent_again():
    """After a kill: the ledger has it, perhaps with its end."""
    world = World()
    world.known = {job_id(1), job_id(2)}
    world.end(1)
    feed = world.feed(3)
    assert [receipt.line for receipt in feed.turn()] == [1]
    assert world.sent == [job_id(3)]


def test_what_the_ledger_does_not_know_is_sent_again_later_and_later():
    """A broker in memory has died with it."""
    world = World(loses=[job_id(2)])
    feed = world.feed(2)
    feed.turn()
    world.time = RESEND_SECONDS - 1
    feed.turn()
    assert world.sent.count(job_id(2)) == 1
    world.time = RESEND_SECONDS
    feed.turn()
    assert (world.sent.count(job_id(1)), world.sent.count(job_id(2)), feed.resent) == (1, 2, 1)
    world.time = RESEND_SECONDS * 2.5
    feed.turn()
    assert world.sent.count(job_id(2)) == 2
    world.loses.clear()
    world.time = RESEND_SECONDS * 3
    feed.turn()
    world.end(1, 2)
    feed.turn()
    assert feed.done


def test_a_refused_job_ends_with_its_dead_letter():
    """It never becomes a job, and nobody waits for it."""
    world = World()
    world.refusals[job_id(1)] = dead(1)
    feed = world.feed(1)
    assert [(r.line, r.status) for r in feed.turn()] == [(1, "dead")]
    assert feed.done


def test_a_ledger_that_is_away_loses_nothing():
    """The turn fails, and the next one goes on."""
    world = World()
    feed = world.feed(2)
    world.away = True
    with pytest.raises(Unavailable):
        feed.turn()
    assert not feed.done
    world.away = False
    feed.turn()
    world.end(1, 2)
    assert len(feed.turn()) == 2
    assert feed.done


def test_no_entries_are_done_at_once():
    """An empty file needs one turn."""
    feed = World().feed(0)
    assert feed.turn() == []
    assert feed.done
