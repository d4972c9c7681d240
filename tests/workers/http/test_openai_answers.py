"""Waiting for an answer: how long, for whom, and what becomes of the job."""

import threading
from contextlib import contextmanager
from uuid import uuid4

import openai
import pytest
from sqlalchemy import select
from tests.services.eventually import eventually
from tests.workers.changed_settings import changed
from tests.workers.http.openai_client import openai_of
from tests.workers.http.served import Gateway, answer, hang_up_while_waiting, served

from headrace_workers.core.tables import ACCEPTED, JOBS
from headrace_workers.runtime.settings import GatewaySettings

RIVERS = {"model": "echo", "messages": [{"role": "user", "content": "Name three rivers."}]}


@pytest.fixture
def impatient(settings):
    """A gateway that waits for nobody, beside which nothing takes jobs in."""
    with served(changed(settings, GatewaySettings(max_answer_wait=0.05))) as gateway:
        yield gateway


def sent(gateway: Gateway) -> list[str]:
    return [row.job_id for row in gateway.services.ledger.read(select(ACCEPTED.c.job_id))]


def test_at_the_time_limit_the_job_s_id_is_told(impatient: Gateway):
    """The job goes on, and the client makes no second one of it, though it tries 504 again by itself."""
    with openai_of(impatient) as client, pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(**RIVERS)
    (job_id,) = sent(impatient)
    assert (caught.value.status_code, caught.value.code) == (504, "timeout")
    assert caught.value.body["headrace"] == {"job_id": job_id}
    assert caught.value.response.headers["x-should-retry"] == "false"


def test_under_a_key_another_try_waits_for_the_same_job(impatient: Gateway):
    with openai_of(impatient, max_retries=1) as client, pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(**RIVERS, extra_headers={"Idempotency-Key": str(uuid4())})
    assert "x-should-retry" not in caught.value.response.headers
    assert caught.value.request.headers["x-stainless-retry-count"] == "1"
    assert len(sent(impatient)) == 1


def test_a_client_that_hangs_up_cancels_its_job(alone: Gateway, bridge):
    """Nobody would see the answer. Not so under a key: it can be asked for again."""
    ledger = alone.services.ledger
    with bridge():
        hang_up_while_waiting(alone, "/v1/chat/completions", [RIVERS])
        eventually(lambda: [row.state for row in ledger.read(select(JOBS.c.state))] == ["cancelled"])
        key = {"Idempotency-Key": "order-17"}
        hang_up_while_waiting(alone, "/v1/chat/completions", [RIVERS], "Idempotency-Key: order-17\r\n")
        (job_id,) = eventually(
            lambda: [row.id for row in ledger.read(select(JOBS.c.id).where(JOBS.c.state == "active"))]
        )
        answer(ledger, job_id, "The Rhine.")
        again = openai_of(alone).chat.completions.create(**RIVERS, extra_headers=key)
        assert (again.id, again.choices[0].message.content) == (f"chatcmpl-{job_id}", "The Rhine.")


def test_a_job_that_is_cancelled_meanwhile_is_told(alone: Gateway, bridge):
    ledger = alone.services.ledger

    def cancel(job_id: str) -> None:
        with alone.client() as native:
            native.delete(f"/v1/jobs/{job_id}").raise_for_status()

    with (
        openai_of(alone) as client,
        bridge(),
        beside(ledger, cancel),
        pytest.raises(openai.ConflictError) as caught,
    ):
        client.chat.completions.create(**RIVERS)
    assert (caught.value.code, caught.value.response.headers["x-should-retry"]) == ("cancelled", "false")


@contextmanager
def beside(ledger, act):
    """Beside what runs in the block: `act` upon the first job that comes."""

    def wait_and_act() -> None:
        act(eventually(lambda: [row.id for row in ledger.read(select(JOBS.c.id))])[0])

    thread = threading.Thread(target=wait_and_act)
    thread.start()
    yield
    thread.join()
