import json

import pytest
from sqlalchemy import select, update
from tests.workers.cli.conftest import Call
from tests.workers.ledger_jobs import take_in
from tests.workers.runtime.bridge.records import evaluation

from headrace_schemas import Answer, GenerationJob, Output, Usage
from headrace_schemas.codec import encode_value
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.replay import DeadFilter
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import NEVER, RELEASED, STEPS

AGAIN = (NEVER, 60_000, NEVER)  # one needs no person
REASON = "does it name [a customer]?"


@pytest.fixture
def held(ledger: Ledger) -> list[str]:
    """Three jobs that are held, longest first, and one that is not."""
    jobs = take_in(ledger, [evaluation(input=f"{n}") for n in range(4)])
    with writing(ledger.engine) as tx:
        for n, job in enumerate(jobs[:3]):
            values = {"state": "held", "held_at": 1_000 * (n + 1), "ready_at": AGAIN[n], "reason": REASON}
            tx.execute(update(STEPS).where(STEPS.c.job_id == job).values(**values))
    return jobs


def states(ledger: Ledger) -> dict[str, str]:
    return {row.job_id: row.state for row in ledger.read(select(STEPS.c.job_id, STEPS.c.state))}


def test_what_is_held_is_listed(call: Call, held: list[str]):
    code, out, said = call("review", "held", "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert (code, said) == (0, "")
    assert [row["job_id"] for row in rows] == held[:3]
    assert rows[0] == {
        "job_id": held[0], "tenant": "default", "stage": "judge", "since": "1970-01-01T00:00:01.000Z",
        "needs_person": True, "again_at": None, "reason": REASON,
    }  # fmt: skip
    assert (rows[1]["needs_person"], rows[1]["again_at"]) == (False, "1970-01-01T00:01:00.000Z")
    _, out, said = call("review", "held", "-n", "2")
    assert [job in out for job in held] == [True, True, False, False]
    assert said == "only the 2 that wait longest are shown: --limit shows more\n"
    assert "[a" in out  # no markup
    assert call("review", "held", "--tenant", "shop") == (0, "", "nothing is held\n")
    assert len(call("review", "held", "--tenant", "default", "--json")[1].splitlines()) == 3
    _, out, said = call("review", "held", "-n", "3")
    assert (held[2] in out, said) == (True, "")


def test_what_is_to_be_decided_about_is_shown(call: Call, ledger: Ledger, held: list[str]):
    code, out, said = call("review", "held", held[0], "--json")
    assert (code, said) == (0, "")
    shown = json.loads(out)
    assert (shown["job_id"], shown["reason"], shown["asked"], shown["text"]) == (held[0], REASON, "0", "b")
    (asked,) = take_in(ledger, [GenerationJob(model="echo", prompt="Who [is] it?")])
    usage = Usage(prompt_tokens=1, completion_tokens=1)
    answer = Answer(text="Ann\x1b[2J [B].", finish_reason="stop", model="echo", quantization="none", usage=usage)
    output = encode_value(Output(job_id=asked, tenant="default", answer=answer))
    brought = {"payload": output, "event_type": "headrace.output.v1", "stage": "moderate"}
    with writing(ledger.engine) as tx:
        values = {"state": "held", "held_at": 1_000, "ready_at": NEVER, "reason": REASON, **brought}
        tx.execute(update(STEPS).where(STEPS.c.job_id == asked).values(**values))
    code, out, _ = call("review", "held", asked)
    assert code == 0
    for line in (f"job: {asked} of default, at moderate", "waits for: a person", f"reason: {REASON}",
                 "asked: Who [is] it?", "text: Ann\ufffd[2J [B]."):  # fmt: skip
        assert line in out.splitlines()
    code, out, said = call("review", "held", held[3])
    assert (code, out) == (1, "")
    assert "it is not held" in said


def test_nothing_is_held(call: Call, ledger: Ledger):
    assert call("review", "held") == (0, "", "nothing is held\n")
    assert call("review", "held", "--json")[:2] == (0, "")


def test_one_or_many_are_released(call: Call, ledger: Ledger, held: list[str]):
    assert call("review", "held", held[0], "--release") == (0, "", "1 released\n")
    assert states(ledger)[held[0]] == "ready"
    assert ledger.read(select(STEPS.c.woken_by).where(STEPS.c.job_id == held[0])) == [(RELEASED,)]
    code, out, said = call("review", "held", held[1], held[2], held[1], held[3], "--release", "--json")
    assert (code, out) == (1, '{"released": 2}\n')
    assert said == f"{held[3]}: it is not held; `headrace review held` shows held jobs\n2 released\n"
    assert set(states(ledger).values()) == {"ready"}
    # Of what needs no person, nobody was asked anything.
    assert ledger.read(select(STEPS.c.woken_by).where(STEPS.c.job_id == held[1])) == [(None,)]
    assert call("review", "held", "unheard-of", "--release")[0] == 1
    assert call("review", "held", "--release")[0] == 2


def test_what_is_withheld_is_dead_with_the_reason(call: Call, ledger: Ledger, held: list[str]):
    assert call("review", "held", held[0], "--release", "--withhold", "no")[0] == 2
    assert call("review", "held", held[0], "--withhold", " ")[0] == 2
    assert states(ledger)[held[0]] == "held"
    assert call("review", "held", held[0], held[1], held[0], "--withhold", "it does") == (
        0,
        "",
        "2 withheld\n",
    )
    assert {letter.reason for letter in ledger.dead(DeadFilter())} == {"withheld: it does"}
    assert [states(ledger)[job] for job in held] == ["dead", "dead", "held", "ready"]
    code, out, said = call("review", "held", held[2], held[3], "--withhold", "it does", "--json")
    assert (code, out) == (1, '{"withheld": 1}\n')
    assert f"{held[3]}: it is not held" in said
