"""The door for the records of one look."""

import pytest
from tests.workers.bridge.records import RULES, generation, record

from headrace_schemas import Category
from headrace_schemas.errors import Unavailable
from headrace_workers.core.ledger.dead import Burial
from headrace_workers.core.ledger.ingest import NewJob
from headrace_workers.runtime.bridge.admit import door

THERE, GONE = f"we_{'1' * 24}", f"we_{'2' * 24}"


def nothing(_named):
    """Everything exists."""
    return ()


def test_a_job_names_a_knowledge_base_of_its_tenant_or_is_refused():
    """Before it is taken in, with the command that makes the base; each base is asked for once in a look."""
    asked = []

    def unknown(named):
        asked.extend(named)
        return [each for each in named if each != ("default", "mill")]

    admit = door(RULES, nothing, unknown)
    assert isinstance(admit(record(generation())), NewJob)
    assert asked == []
    named = generation(knowledge="dogs", idempotency_key="k")
    for _ in range(2):
        assert isinstance(admit(record(generation(knowledge="mill"))), NewJob)
        refused = admit(record(named))
        assert isinstance(refused, Burial)
        assert (refused.category, refused.refers_to, refused.sound) == (Category.INVALID, named.job_id(""), True)
        assert refused.reason.startswith("default has no knowledge base 'dogs': `headrace knowledge add dogs PATH")
    assert asked == [("default", "mill"), ("default", "dogs")]
    assert isinstance(admit(record(generation(knowledge="mill", tenant="other"))), Burial)


def test_a_callback_names_an_endpoint_of_its_tenant_or_is_refused():
    """With a letter that its sender finds by the job's id, and that may be sent again once it is registered."""
    asked = []

    def unknown(named):
        asked.extend(named)
        return [each for each in named if each != ("default", THERE)]

    admit = door(RULES, unknown, nothing)
    named = generation(callback={"endpoint": GONE}, idempotency_key="k")
    assert isinstance(admit(record(generation())), NewJob)
    assert isinstance(admit(record(generation(callback={"url": "https://shop.example/"}))), NewJob)
    assert asked == []
    for _ in range(2):
        assert isinstance(admit(record(generation(callback={"endpoint": THERE}))), NewJob)
        refused = admit(record(named))
        assert isinstance(refused, Burial)
        assert (refused.category, refused.refers_to, refused.sound) == (Category.INVALID, named.job_id(""), True)
        assert refused.reason.startswith(
            f"callback.endpoint: the tenant default has registered no webhook endpoint {GONE}"
        )
    assert asked == [("default", THERE), ("default", GONE)]  # each once
    other = admit(record(generation(callback={"endpoint": THERE}, tenant="other")))
    assert isinstance(other, Burial)


def test_a_ledger_that_does_not_answer_refuses_nobody():
    """The records are read again."""

    def unknown(_named):
        raise Unavailable("away")

    with pytest.raises(Unavailable):
        door(RULES, unknown, nothing)(record(generation(callback={"endpoint": THERE})))
    with pytest.raises(Unavailable):
        door(RULES, nothing, unknown)(record(generation(knowledge="mill")))
