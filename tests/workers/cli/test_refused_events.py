import io
import json

import pytest
from sqlalchemy import select
from tests.workers.cli.conftest import Call
from tests.workers.ledger_jobs import take_in
from tests.workers.runtime.bridge.records import generation

from headrace_schemas import Topic
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.outbox import Outgoing, put
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import OUTBOX


@pytest.fixture
def untold(ledger: Ledger) -> tuple[str, int]:
    """A job of which Kafka refused an event, with another behind that; and the event's number."""
    job = generation(idempotency_key="1")
    take_in(ledger, [job])
    job_id = job.job_id("")
    event = Outgoing(Topic.OUTPUTS, job_id, {"ce_type": "headrace.output.v1"}, b"x" * 70_000)
    with writing(ledger.engine) as tx:
        put(tx, [event, event])
        number = tx.execute(select(OUTBOX.c.id).order_by(OUTBOX.c.id)).scalars().first()
    ledger.set_aside({number: "70,000 bytes are more than the topic headrace.outputs takes"})
    return job_id, number


def test_what_was_set_aside_is_listed_and_retried(call: Call, ledger: Ledger, untold: tuple[str, int]):
    job_id, number = untold
    code, out, _ = call("dead", "list", "--events", "--json")
    [event] = map(json.loads, out.splitlines())
    assert code == 0
    assert event.pop("set_aside_at").endswith("Z")
    assert event == {
        "id": number, "topic": "outputs", "job_id": job_id, "type": "headrace.output.v1", "size": 70_000, "behind": 1,
        "reason": "70,000 bytes are more than the topic headrace.outputs takes",
    }  # fmt: skip
    table = call("dead", "list", "--events")[1]
    assert job_id in table
    assert "70,000" in table
    assert call("dead", "replay", "--events")[0] == call("dead", "replay", "--events", str(number), "--all")[0] == 2
    code, _, said = call("dead", "replay", "--events", str(number + 9))
    assert (code, f"{number + 9}: no event of this id was set aside" in said) == (1, True)
    assert call("dead", "replay", "--events", str(number), "--json")[:2] == (0, '{"retried": 1}\n')
    assert call("dead", "replay", "--events", "--all")[0] == 1
    assert call("dead", "list", "--events")[1:] == ("", "Kafka refused no event\n")


def test_what_nobody_wants_any_more_is_dropped(call: Call, ledger: Ledger, untold: tuple[str, int]):
    _, number = untold
    code, _, said = call("dead", "drop", str(number))
    assert (code, "confirm with --yes" in said) == (2, True)
    assert "headrace.output.v1 of" in said
    assert "readers of the topic will never see this; the ledger keeps the job and its end" in said
    assert "1 later events of it go on" in said
    assert ledger.outbox(9) == []
    code, out, said = call("dead", "drop", str(number), str(number + 1), "--yes", "--json")
    assert (code, out) == (1, '{"dropped": 1}\n')
    assert f"{number + 1}: no event of this id was set aside" in said
    assert [row.id for row in ledger.outbox(9)] == [number + 1]
    assert call("dead", "drop", str(number), "--yes")[0] == 1
    assert call("dead", "drop")[0] == 2


@pytest.mark.parametrize(("answer", "left"), [("n", 1), ("y", 0)])
def test_who_is_asked_may_say_no(call: Call, ledger: Ledger, untold: tuple[str, int], monkeypatch, answer, left):
    monkeypatch.setattr("sys.stdin", Terminal(f"{answer}\n"))
    assert call("dead", "drop", str(untold[1]))[0] == left
    assert len(ledger.aside()) == left


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("verb", ["replay --events", "drop"])
@pytest.mark.parametrize("word", ["-0x1", "²", "9" * 40])
def test_an_id_that_is_none_is_told_in_our_words(call: Call, ledger: Ledger, verb: str, word: str):
    code, _, said = call("dead", *verb.split(), "--", word)
    assert (code, said) == (
        2, f"headrace: {word!r} is not an event's id: give a number that `headrace dead list --events` shows\n"
    )  # fmt: skip


def test_a_jobs_state_tells_it(call: Call, ledger: Ledger, untold: tuple[str, int]):
    job_id, number = untold
    [event] = json.loads(call("status", job_id, "--json")[1])["set_aside"]
    assert (event["id"], event["behind"]) == (number, 1)
    shown = " ".join(call("status", job_id)[1].split())
    assert "its event headrace.output.v1 could not be published: 70,000 bytes are more than the topic" in shown
    assert "1 later events of it wait behind that" in shown
    assert json.loads(call("status", "--json")[1])["set_aside"] == 1
    assert "Kafka refused 1 events, which are set aside: see `headrace dead list --events`" in call("status")[1]


def test_what_a_bridge_cannot_do_is_in_the_status(call: Call, ledger: Ledger):
    """In words, with who says it and since when."""
    ledger.tell("bridge@host:1", "ingest", {"headrace.jobs.generation-2": "cannot be read at offset 7: CORRUPT"})
    [trouble] = json.loads(call("status", "--json")[1])["troubles"]
    assert (trouble["subject"], trouble["holder"]) == ("ingest headrace.jobs.generation-2", "bridge@host:1")
    shown = " ".join(call("status")[1].split())
    assert "ingest headrace.jobs.generation-2: cannot be read at offset 7: CORRUPT (bridge@host:1, since" in shown
