import pytest
from sqlalchemy import select, update

from headrace_workers.core.ledger.positions import (
    Advance,
    Fingerprint,
    LogPartition,
    Position,
    PositionsMoved,
    Reread,
    lags,
)
from headrace_workers.core.sql.database import reading, writing
from headrace_workers.core.tables import JOBS, READERS

PLACE = LogPartition("t", 0, "log1")


def read(ledger, *jobs, place=PLACE, after=0, to=5, fingerprints=()):
    """Take these jobs in, with the position that follows the one at `after`."""
    ledger.ingest(jobs, following={place: Advance(after, Position(to, fingerprints))})


def test_positions_are_written_with_the_jobs(ledger, job):
    other, anew = LogPartition("t", 1, "log1"), LogPartition("t", 0, "log2")
    ledger.ingest([job()], following={PLACE: Advance(0, Position(5)), other: Advance(0, Position(1))})
    assert ledger.positions() == {PLACE: 5, other: 1}
    read(ledger, after=5, to=7)
    assert ledger.positions()[PLACE] == 7
    read(ledger, place=anew, after=0, to=2)
    assert ledger.positions() == {anew: 2, other: 1}


def test_of_several_positions_all_are_written_or_none(ledger, job):
    places = [LogPartition("t", number, "log1") for number in range(3)]
    ledger.ingest([], following={place: Advance(0, Position(5)) for place in places})
    ledger.ingest([job()], following={place: Advance(5, Position(7)) for place in places})
    read(ledger, place=places[1], after=7, to=8)
    with pytest.raises(PositionsMoved, match="t-1 than offset 7"):
        ledger.ingest([job()], following={place: Advance(7, Position(9)) for place in places})
    assert ledger.positions() == dict(zip(places, (7, 8, 7), strict=True))


@pytest.mark.parametrize(("stored", "expected"), [(None, 3), (4, 3), (2, 3), (4, 0)])
def test_a_position_that_is_not_the_expected_one_undoes_all_that_was_read(ledger, job, stored, expected):
    other = LogPartition("s", 0, "log1")
    if stored is not None:
        read(ledger, to=stored)
    with pytest.raises(PositionsMoved, match=f"another position of t-0 than offset {expected}"):
        ledger.ingest([job()], following={PLACE: Advance(expected, Position(9)), other: Advance(0, Position(1))})
    assert ledger.positions() == ({} if stored is None else {PLACE: stored})
    assert ledger.read(select(JOBS.c.id)) == []


def test_a_position_of_another_log_is_none(ledger):
    read(ledger, place=LogPartition("t", 0, "log2"), to=4)
    with pytest.raises(PositionsMoved):
        read(ledger, after=4, to=6)


def test_marks_stand_with_their_position(ledger):
    fingerprints = (Fingerprint(1, -1, 1_700_000_000_000, "ab"), Fingerprint(4, 2, 1_700_000_000_001, "cd"))
    read(ledger, fingerprints=fingerprints)
    assert ledger.full_positions() == {PLACE: Position(5, fingerprints)}


def test_a_log_that_did_not_match_is_told_and_what_is_read_again_is_known(ledger):
    fingerprints = (Fingerprint(1, -1, 10, "ab"),)
    read(ledger, to=7)
    back = Position(2, fingerprints, Reread(7, 30))
    with pytest.raises(PositionsMoved):
        ledger.go_back(PLACE, 6, back)
    assert ledger.overview().incidents == ()
    ledger.go_back(PLACE, 7, back)
    assert ledger.full_positions() == {PLACE: back}
    (trouble,) = ledger.overview().incidents
    assert trouble.subject == "t-0"
    assert "read up to offset 7, and matches up to 2" in trouble.reason
    read(ledger, after=2, to=9)
    assert ledger.full_positions()[PLACE].reread == Reread(7, 30)
    anew = LogPartition("t", 0, "log2")
    read(ledger, place=anew, to=1)
    assert ledger.full_positions() == {anew: Position(1)}
    assert ledger.overview().incidents == ()


def test_the_lag_of_a_log_says_nothing_of_the_log_that_follows_it(ledger):
    anew = LogPartition("t", 0, "log2")
    for place, read_to in ((PLACE, 5), (anew, 1)):
        read(ledger, place=place, to=read_to)
        ledger.share("bridge", [place], 60_000)
        with reading(ledger.engine) as tx:
            assert lags(tx) == {}
        ledger.note_ends({PLACE: 9, anew: 4})
        with reading(ledger.engine) as tx:
            assert lags(tx) == {("t", 0): {5: 4, 1: 3}[read_to]}
    places = [LogPartition("u", number, "log1") for number in range(2)]
    ledger.ingest([], following={place: Advance(0, Position(5)) for place in places})
    ledger.share("bridge", places, 60_000)
    ledger.note_ends(dict.fromkeys(places, 8))
    ledger.ingest([], following={place: Advance(5, Position(6)) for place in places})
    with reading(ledger.engine) as tx:
        assert [lags(tx)["u", number] for number in range(2)] == [2, 2]


@pytest.mark.parametrize("stops", [True, False])
def test_the_lag_of_a_partition_that_nobody_reads_is_not_known(ledger, stops):
    read(ledger)
    ledger.share("bridge", [PLACE], 60_000)
    ledger.note_ends({PLACE: 9})
    if stops:
        ledger.leave("bridge")
    else:
        with writing(ledger.engine) as tx:
            tx.execute(update(READERS).values(lease_until=1))
    with reading(ledger.engine) as tx:
        assert lags(tx) == {}
