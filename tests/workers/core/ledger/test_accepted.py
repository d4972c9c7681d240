import itertools
from collections.abc import Callable
from uuid import uuid4

from sqlalchemy import select, update
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture

from headrace_schemas import Category, Topic
from headrace_workers.core.ledger.accepted import AdmissionRequest, Probe, Reserved
from headrace_workers.core.ledger.cancellation import Cancellation
from headrace_workers.core.ledger.dead_letters import Record, refusal
from headrace_workers.core.ledger.ingest import NewJob
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import ACCEPTED

_OFFSETS = itertools.count(1)


def wish(job_id: str, says: str = "a", tenant: str = "a") -> AdmissionRequest:
    return AdmissionRequest(
        job_id, tenant, b'{"model":"m","prompt":"p"}' if says == "a" else b'{"model":"m","prompt":"q"}', says
    )


def refuse(ledger: Ledger, job_id: str) -> None:
    record = Record(Topic.GENERATION, 0, next(_OFFSETS), (), b"{}", 1, job_id.encode())
    ledger.ingest([], [refusal(record, Category.INVALID, "no", refers_to=job_id, tenant="a")])


def forget(ledger: Ledger, older_than_ms: int = 10**9, minutes: int = 1) -> None:
    with writing(ledger.engine) as tx:
        tx.execute(update(ACCEPTED).values(at=ACCEPTED.c.at - minutes * 60_000 - 1_000))
    ledger.prune(older_than_ms)


def test_an_id_is_reserved_for_what_came_first(ledger: Ledger):
    job_id = str(uuid4())
    assert ledger.reserve([wish(job_id)]) == [Reserved.SEND]
    assert ledger.standings([job_id]) == {}  # nobody has it yet
    assert ledger.reserve([wish(job_id), wish(job_id, "b"), wish(job_id)]) == [
        Reserved.SEND, Reserved.OTHER, Reserved.SEND,
    ]  # fmt: skip
    assert ledger.reserve([wish(job_id, "b")]) == [Reserved.OTHER]
    ledger.confirm_admission([wish(job_id)])
    assert ledger.reserve([wish(job_id), wish(job_id, "b")]) == [Reserved.KNOWN, Reserved.OTHER]
    assert ledger.reserve([wish(job_id, "b")]) == [Reserved.OTHER]
    assert ledger.standings([job_id])[job_id].tenant == "a"


def test_what_the_ledger_has_decides(ledger: Ledger, job: Callable[..., NewJob]):
    new = job()
    ledger.ingest([new])
    assert ledger.reserve([wish(new.id), wish(new.id, "b")]) == [Reserved.KNOWN, Reserved.OTHER]


def test_a_probe_deletes_no_accepted_job(ledger: Ledger, job: Callable[..., NewJob]):
    """It runs a DELETE to see whether the table can be written."""
    new, waits = job(), str(uuid4())
    ledger.reserve([wish(new.id), wish(waits)])
    ledger.ingest([new])
    refuse(ledger, waits)
    probe = Probe(ledger.engine)
    probe.write()
    probe.close()
    assert {row.job_id for row in ledger.read(select(ACCEPTED.c.job_id))} == {new.id, waits}


def test_a_job_that_was_refused_has_a_new_chance(ledger: Ledger):
    job_id = str(uuid4())
    ledger.reserve([wish(job_id)])
    ledger.confirm_admission([wish(job_id)])
    refuse(ledger, job_id)
    assert ledger.standings([job_id])[job_id].refused is not None
    assert ledger.look_for([], [job_id]).refused[job_id].reason == "no"
    with writing(ledger.engine) as tx:
        tx.execute(update(ACCEPTED).values(at=ACCEPTED.c.at - 10))
    assert ledger.reserve([wish(job_id, "b")]) == [Reserved.SEND]
    with writing(ledger.engine) as tx:
        tx.execute(update(ACCEPTED).values(at=ACCEPTED.c.at + 10))
    assert ledger.standings([job_id]) == {}
    ledger.confirm_admission([wish(job_id, "b")])
    assert ledger.standings([job_id])[job_id].refused is None
    assert ledger.look_for([], [job_id]).refused == {}
    ledger.withdraw_admission([job_id])
    assert ledger.reserve([wish(job_id)]) == [Reserved.SEND]  # its first sender counts no more


def test_a_look_tells_how_those_stand_that_have_ended_and_are_wanted_whole(ledger: Ledger, job: Callable[..., NewJob]):
    over, other, goes_on = job(), job(), job()
    ledger.ingest([over, other, goes_on])
    ledger.cancel_all([Cancellation(new_job.id, new_job.tenant, "no need") for new_job in (over, other)])
    refused = str(uuid4())
    ledger.confirm_admission([wish(refused)])
    refuse(ledger, refused)
    looked = ledger.look_for([over.id, other.id, goes_on.id], [refused], [over.id, goes_on.id, refused])
    assert looked.standings.keys() == {over.id, refused}
    assert looked.standings[over.id] == ledger.standings([over.id])[over.id]
    assert looked.standings[refused].refused is not None
    assert looked.ended.keys() == {over.id, other.id}


def test_what_was_said_since_a_job_was_begun_is_said_of_it(ledger: Ledger):
    job_id = str(uuid4())
    refuse(ledger, job_id)
    ledger.confirm_admission([AdmissionRequest(job_id, "a", b"{}", "a")], age=10_000)
    assert ledger.standings([job_id])[job_id].refused is not None


def test_rows_go_when_the_ledger_knows_the_job(ledger: Ledger, job: Callable[..., NewJob]):
    taken, refused, waits = job(), str(uuid4()), str(uuid4())
    ledger.confirm_admission([wish(taken.id), wish(refused), wish(waits)])
    ledger.ingest([taken])
    refuse(ledger, refused)
    ledger.prune(10**9)
    assert len(ledger.read(ACCEPTED.select())) == 3  # a minute at least
    forget(ledger)
    assert [row.job_id for row in ledger.read(ACCEPTED.select())] == [waits]
    assert set(ledger.standings([taken.id, refused, waits])) == {taken.id, refused, waits}
    for _ in range(4):
        forget(ledger, minutes=15)
    assert [row.job_id for row in ledger.read(ACCEPTED.select())] == [waits]
    forget(ledger, older_than_ms=1_000)
    assert ledger.read(ACCEPTED.select()) == []


def test_a_job_that_nobody_sent_leaves_its_id_to_other_content(ledger: Ledger):
    job_id = str(uuid4())
    ledger.reserve([wish(job_id)])
    ledger.withdraw_admission([job_id])
    assert ledger.reserve([wish(job_id, "b")]) == [Reserved.SEND]


def test_an_id_is_kept_until_each_of_its_senders_has_sent_nothing(ledger: Ledger):
    """Kafka may have the job of one whose outcome is unknown."""
    job_id = str(uuid4())
    assert ledger.reserve([wish(job_id), wish(job_id)]) == [Reserved.SEND] * 2
    assert ledger.reserve([wish(job_id)]) == [Reserved.SEND]
    ledger.withdraw_admission([job_id, job_id])
    assert ledger.reserve([wish(job_id, "b")]) == [Reserved.OTHER]
    ledger.withdraw_admission([job_id])
    assert ledger.reserve([wish(job_id, "b")]) == [Reserved.SEND]


def test_an_hour_begins_when_a_job_is_sent_again(ledger: Ledger):
    job_id = str(uuid4())
    ledger.reserve([wish(job_id)])
    forget(ledger, minutes=50)
    ledger.reserve([wish(job_id)])
    forget(ledger, minutes=50)
    assert ledger.reserve([wish(job_id, "b")]) == [Reserved.OTHER]


def test_who_was_never_published_is_forgotten_after_an_hour(ledger: Ledger):
    """Its sender died before it could send."""
    ledger.reserve([wish(str(uuid4()))])
    forget(ledger, minutes=58)
    assert len(ledger.read(ACCEPTED.select())) == 1
    forget(ledger, minutes=2)
    assert ledger.read(ACCEPTED.select()) == []
