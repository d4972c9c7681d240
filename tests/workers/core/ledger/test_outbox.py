from sqlalchemy import select, update

from headrace_schemas import Topic
from headrace_workers.core.ledger.outbox import Outgoing, put
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import JOBS, OUTBOX


def say(ledger, *pairs):
    """Put (key, value) pairs into the outbox; their numbers."""
    with writing(ledger.engine) as tx:
        put(tx, [Outgoing(Topic.OUTPUTS, key, {"ce_type": "t"}, value) for key, value in pairs])
        return list(tx.execute(select(OUTBOX.c.id).order_by(OUTBOX.c.id)).scalars())[-len(pairs) :]


def seen(ledger, *limits):
    """The values that the relay would be given."""
    return [row.record.value for row in ledger.outbox(*limits)]


def test_what_is_read_is_bounded_in_number_and_bytes(ledger):
    say(ledger, ("a", b"1" * 50), ("b", b"2" * 50), ("c", b"3" * 50))
    assert seen(ledger, 2) == [b"1" * 50, b"2" * 50]
    assert seen(ledger, 10, 51) == [b"1" * 50, b"2" * 50]
    assert seen(ledger, 10, 50) == seen(ledger, 10, 1) == [b"1" * 50]
    assert seen(ledger, 0) == []


def test_reading_may_begin_anywhere_and_leave_values_out(ledger):
    numbers = say(ledger, ("a", b"1" * 50), ("b", b"2" * 50))
    with writing(ledger.engine) as tx:
        put(tx, [Outgoing(Topic.RESULTS, "c", {}, b"3" * 50)])
    assert [row.record.value[:1] for row in ledger.outbox(9, after=numbers[0])] == [b"2", b"3"]
    rows = ledger.outbox(9, 50, unread=[Topic.OUTPUTS])
    assert [(row.record.topic, row.record.key, row.record.value) for row in rows] == [
        (Topic.OUTPUTS, "a", b""), (Topic.OUTPUTS, "b", b""), (Topic.RESULTS, "c", b"3" * 50)
    ]  # fmt: skip
    assert ledger.outbox(9, after=numbers[1] + 1) == []


def test_what_follows_under_the_key_waits_behind_what_was_set_aside(ledger):
    numbers = say(ledger, ("a", b"0"), ("a", b"1"), (None, b"2"), ("a", b"3"), ("b", b"4"), (None, b"5"))
    ledger.set_aside({numbers[1]: "too large", numbers[2]: "odd"})
    assert seen(ledger, 9) == [b"0", b"4", b"5"]
    say(ledger, ("a", b"6"))
    assert seen(ledger, 9) == [b"0", b"4", b"5"]
    assert [(row.id, row.key, row.reason, row.size, row.behind) for row in ledger.aside()] == [
        (numbers[1], "a", "too large", 1, 2), (numbers[2], None, "odd", 1, 0)
    ]  # fmt: skip
    assert [row.id for row in ledger.aside(key="a")] == [numbers[1]]
    assert ledger.retry_outbox([numbers[1], numbers[0], 10**6]) == 1
    assert seen(ledger, 9) == [b"0", b"1", b"3", b"4", b"5", b"6"]
    assert ledger.retry_outbox() == 1
    assert seen(ledger, 9) == [b"0", b"1", b"2", b"3", b"4", b"5", b"6"]


def test_only_what_was_published_is_forgotten(ledger):
    numbers = say(ledger, ("a", b"0"), ("a", b"1"), ("b", b"2"))
    ledger.published([numbers[0], numbers[2], 10**6])
    assert [row.id for row in ledger.outbox(9)] == [numbers[1]]
    ledger.published([])
    assert [row.id for row in ledger.outbox(9)] == [numbers[1]]


def test_a_reason_is_kept_as_text_of_bounded_length(ledger):
    [number] = say(ledger, ("a", b"x"))
    ledger.set_aside({number: "a\x00b" + "x" * 3_000})
    [row] = ledger.aside()
    assert (row.reason[:3], len(row.reason)) == ("abx", 2_000)
    assert (row.topic, row.event_type) == ("outputs", "t")
    assert abs(row.set_aside_at - ledger.now()) < 60_000


def test_what_was_set_aside_is_told_oldest_first_and_so_much_of_it(ledger):
    numbers = say(ledger, *[("a", b"x")] * 4, ("b", b"y"))
    ledger.set_aside(dict.fromkeys((numbers[4], numbers[2], numbers[0]), "odd"))
    assert [(row.id, row.behind) for row in ledger.aside()] == [(numbers[0], 2), (numbers[2], 1), (numbers[4], 0)]
    assert [row.id for row in ledger.aside(2)] == [numbers[0], numbers[2]]
    assert ledger.retry_outbox([numbers[0]]) == 1
    assert [row.id for row in ledger.outbox(1)] == [numbers[0]]  # in its old place, wherever the table keeps it now
    assert ledger.read(select(OUTBOX.c.set_aside_reason).where(OUTBOX.c.id == numbers[0])) == [(None,)]


def test_a_job_with_an_event_set_aside_is_not_forgotten(ledger, job):
    ledger.ingest([job(job_id="a"), job(job_id="b")])
    with writing(ledger.engine) as tx:
        tx.execute(update(JOBS).values(state="done", ended_at=1))
    [number] = say(ledger, ("a", b"x"))
    ledger.set_aside({number: "too large"})
    ledger.prune(0)
    assert [row.id for row in ledger.read(select(JOBS.c.id))] == ["a"]
    ledger.retry_outbox()
    ledger.prune(0)
    assert ledger.read(select(JOBS.c.id)) == []
