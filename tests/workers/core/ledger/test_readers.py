import threading

import pytest
from sqlalchemy import select, update

from headrace_workers.core.ledger.positions import Advance, LogPartition, Position
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import READERS

LEASE = 30_000
PLACES = [LogPartition(topic, number, "log1") for topic in ("a", "b") for number in range(4)]
ONE_EACH = [LogPartition(topic, 0, "log1") for topic in ("a", "b", "c")]


def silent(ledger, name):
    with writing(ledger.engine) as tx:
        tx.execute(update(READERS).where(READERS.c.name == name).values(lease_until=ledger.now() - 1))


def settled(ledger, names, places=PLACES):
    """What each of these reads when all have asked often enough."""
    for _ in range(3):
        found = {name: ledger.share(name, places, LEASE) for name in names}
    return found


def numbers(shares):
    """How many places of each topic each reader has."""
    return {
        name: [sum(place.topic == topic for place in share) for topic in sorted({p.topic for p in PLACES})]
        for name, share in shares.items()
    }


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("a", [[4, 4]]),
        ("ab", [[2, 2], [2, 2]]),
        ("abc", [[2, 1], [1, 1], [1, 2]]),
        ("cab", [[1, 2], [2, 1], [1, 1]]),
        ("abcde", [[1, 1], [1, 1], [1, 1], [1, 0], [0, 1]]),
    ],
)
def test_every_topic_is_shared_evenly(ledger, names, expected):
    shares = settled(ledger, names)
    assert numbers(shares) == dict(zip(names, expected, strict=True))
    assert sorted(place for share in shares.values() for place in share) == PLACES


def test_topics_of_one_partition_are_spread_too(ledger):
    assert {name: len(share) for name, share in settled(ledger, "abc", ONE_EACH).items()} == {"a": 1, "b": 1, "c": 1}


def test_who_comes_gets_its_share_when_the_others_have_let_go(ledger):
    before = ledger.share("a", PLACES, LEASE)
    assert before == frozenset(PLACES)
    assert ledger.share("b", PLACES, LEASE) == frozenset()
    kept = ledger.share("a", PLACES, LEASE)
    assert kept < before
    assert ledger.share("b", PLACES, LEASE) == before - kept
    assert ledger.share("a", PLACES, LEASE) == kept


@pytest.mark.parametrize("how", ["is silent", "leaves"])
def test_who_is_gone_is_followed_by_those_who_are_there(ledger, how):
    settled(ledger, "ab")
    if how == "leaves":
        ledger.leave("a")
    else:
        assert len(ledger.share("b", PLACES, LEASE)) == 4
        silent(ledger, "a")
    assert ledger.share("b", PLACES, LEASE) == frozenset(PLACES)
    assert ledger.read(select(READERS.c.name)) == [("b",)]
    assert ledger.share("a", PLACES, LEASE) == frozenset()
    assert numbers(settled(ledger, "ab")) == {"a": [2, 2], "b": [2, 2]}


def test_a_lease_is_as_long_as_was_asked_for(ledger):
    for lease in (LEASE, 3 * LEASE):
        ledger.share("a", PLACES, lease)
        ((until,),) = ledger.read(select(READERS.c.lease_until))
        assert until - ledger.now() == pytest.approx(lease, abs=20_000)


def test_how_far_ingest_is_stays_with_the_place(ledger):
    ledger.ingest([], following={PLACES[0]: Advance(0, Position(7))})
    settled(ledger, "ab")
    assert ledger.positions()[PLACES[0]] == 7
    more = [*PLACES, LogPartition("b", 4, "log1")]
    shares = settled(ledger, "ab", more)
    assert sorted(place for share in shares.values() for place in share) == more
    assert ledger.positions()[PLACES[0]] == 7


def test_bridges_that_ask_at_once_read_nothing_twice(ledger):
    names = [f"bridge{number}" for number in range(8)]
    for living in (names, names[4:]):
        found = {}
        barrier = threading.Barrier(len(living))

        def ask(name, barrier=barrier, found=found):
            barrier.wait()
            for _ in range(4):
                found[name] = ledger.share(name, PLACES, LEASE)

        threads = [threading.Thread(target=ask, args=(name,)) for name in living]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        shares = settled(ledger, living)
        assert sorted(place for share in shares.values() for place in share) == PLACES
        for name in names[:4]:
            ledger.leave(name)
