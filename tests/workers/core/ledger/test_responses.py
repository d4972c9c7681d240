import pytest
from sqlalchemy import update
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture

from headrace_workers.core.sql.database import writing
from headrace_workers.features.generation.store.responses import Responses
from headrace_workers.features.generation.tables import RESPONSES

AGE = 60_000


@pytest.fixture
def responses(ledger):
    return ledger.of(Responses)


def test_what_was_asked_first_is_kept(ledger, responses):
    before = ledger.now()
    kept = responses.keep("a", "j", b"{}")
    assert kept.body == b"{}"
    assert before <= kept.asked_at <= ledger.now()
    assert responses.keep("a", "j", b"[]") == kept
    assert responses.find("a", "j") == kept


def test_another_tenant_s_are_not_there(responses):
    kept = responses.keep("a", "j", b"{}")
    assert responses.keep("b", "j", b"{}") is None
    assert responses.find("b", "j") is None
    assert responses.drop("b", "j") is False
    assert responses.find("a", "j") == kept


def test_what_is_dropped_is_gone(responses):
    responses.keep("a", "j", b"{}")
    assert responses.drop("a", "j") is True
    assert responses.find("a", "j") is None
    assert responses.drop("a", "j") is False


def test_it_is_forgotten_after_its_job(ledger, responses, job):
    known = job()
    ledger.ingest([known])
    responses.keep("a", known.id, b"{}")
    responses.keep("a", "old", b"{}")
    with writing(ledger.engine) as tx:
        tx.execute(update(RESPONSES).values(asked_at=RESPONSES.c.asked_at - 2 * AGE))
    responses.keep("a", "new", b"{}")
    assert ledger.prune(AGE) is False
    assert [name for name in (known.id, "old", "new") if responses.find("a", name)] == [known.id, "new"]
