from collections.abc import Collection
from dataclasses import replace

import pytest
from tests.workers.runtime.bridge.records import NOW, RULES, Embedder, cancel, generation, record

from headrace_schemas import Category
from headrace_schemas.errors import Unavailable
from headrace_workers.core.admission import AdmissionCheck
from headrace_workers.core.ledger.cancellation import Cancellation
from headrace_workers.core.ledger.dead_letters import Burial
from headrace_workers.core.ledger.ingest import NewJob
from headrace_workers.features.knowledge.admission import KnowledgeCheck
from headrace_workers.features.webhooks.admission import CallbackCheck
from headrace_workers.features.webhooks.targets import Reach
from headrace_workers.runtime.bridge.record_admission import RecordAdmission

THERE, GONE = f"we_{'1' * 24}", f"we_{'2' * 24}"


class Asked(list[list[tuple[str, str]]]):
    """What a look asked for, a list each time. Of all that, `there` exists."""

    def __init__(self, there: tuple[str, str]) -> None:
        super().__init__()
        self.there = there

    def __call__(self, named: Collection[tuple[str, str]]) -> list[tuple[str, str]]:
        self.append(list(named))
        return [row for row in named if row != self.there]


def of_bases(unknown) -> RecordAdmission:
    """Admission where this tells which knowledge bases do not exist."""
    return RecordAdmission(replace(RULES, checks=[KnowledgeCheck(Embedder(), unknown)]), NOW)


def of_endpoints(unknown) -> RecordAdmission:
    """Admission where this tells which endpoints are not registered."""
    return RecordAdmission(replace(RULES, checks=[CallbackCheck(Reach(), unknown)]), NOW)


def test_a_job_names_a_knowledge_base_of_its_tenant_or_is_refused():
    asked = Asked(("default", "mill"))
    admission = of_bases(asked)
    assert isinstance(admission.admit(record(generation())), NewJob)
    assert asked == []
    named = generation(knowledge="dogs", idempotency_key="k")
    for _ in range(2):
        assert isinstance(admission.admit(record(generation(knowledge="mill"))), NewJob)
        refused = admission.admit(record(named))
        assert isinstance(refused, Burial)
        assert (refused.category, refused.refers_to, refused.sound) == (Category.INVALID, named.job_id(""), True)
        assert refused.reason.startswith(
            "default has no knowledge base 'dogs', nor a vector store of this id: `headrace"
        )
    assert asked == [[("default", "mill")], [("default", "dogs")]]
    assert isinstance(admission.admit(record(generation(knowledge="mill", tenant="other"))), Burial)


def test_a_callback_names_an_endpoint_of_its_tenant_or_is_refused():
    asked = Asked(("default", THERE))
    admission = of_endpoints(asked)
    named = generation(callback={"endpoint": GONE}, idempotency_key="k")
    assert isinstance(admission.admit(record(generation())), NewJob)
    assert isinstance(admission.admit(record(generation(callback={"url": "https://shop.example/"}))), NewJob)
    assert asked == []
    for _ in range(2):
        assert isinstance(admission.admit(record(generation(callback={"endpoint": THERE}))), NewJob)
        refused = admission.admit(record(named))
        assert isinstance(refused, Burial)
        assert (refused.category, refused.refers_to, refused.sound) == (Category.INVALID, named.job_id(""), True)
        assert refused.reason.startswith(
            f"callback.endpoint: the tenant default has registered no webhook endpoint {GONE}"
        )
    assert asked == [[("default", THERE)], [("default", GONE)]]  # each once
    assert isinstance(admission.admit(record(generation(callback={"endpoint": THERE}, tenant="other"))), Burial)


def test_a_look_asks_once_for_all_that_its_records_name():
    asked = Asked(("default", "mill"))
    names = ["mill", "dogs", None, "cats", "mill"]
    records = [record(generation(knowledge=name)) for name in names]
    found = of_bases(asked).admit_all(
        [*records, record(value=b""), record(cancel("6f1d8a52-5d0c-5c39-9a53-0d1f6f6c7f11"))]
    )
    assert [type(item) for item in found] == [NewJob, Burial, NewJob, Burial, NewJob, Burial, Cancellation]
    assert asked == [[("default", "cats"), ("default", "dogs"), ("default", "mill")]]


def test_a_ledger_that_does_not_answer_refuses_nobody():
    def unknown(_named):
        raise Unavailable("away")

    with pytest.raises(Unavailable):
        of_endpoints(unknown).admit(record(generation(callback={"endpoint": THERE})))
    with pytest.raises(Unavailable):
        of_bases(unknown).admit(record(generation(knowledge="mill")))


def test_a_record_is_read_again_where_a_check_cannot_tell():
    class Busy(AdmissionCheck):
        def examine(self, _job):
            raise Unavailable("the machine is too busy to compile the format")

    admission = RecordAdmission(replace(RULES, checks=[Busy()]), NOW)
    with pytest.raises(Unavailable):
        admission.admit(record(generation()))
    first, *others = admission.admit_all([record(value=b"bad"), record(generation()), record(value=b"bad")])
    assert first is not None
    assert others == [None, None]
