import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.workers.core.ledger.test_repetitions import letters
from tests.workers.features.applications.test_resolver import TRIAGE
from tests.workers.runtime.bridge.records import NOW, envelope_of, record, replaced, rules_of

from headrace_schemas import Category, GenerationJob
from headrace_schemas.codec import decode_job, encode_given
from headrace_workers.core.ledger.dead_letters import Burial
from headrace_workers.core.ledger.ingest import NewJob
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.features.applications.definition import Definition
from headrace_workers.features.applications.store import Applications
from headrace_workers.features.knowledge.store.documents import KnowledgeBases, NewDocument
from headrace_workers.runtime.bridge.record_admission import RecordAdmission

Admit = Callable[..., Any]


def definition(**changes: Any) -> Definition:
    job = {**TRIAGE["job"], "model": "echo"}
    return Definition.from_json(json.dumps({**TRIAGE, "job": job, **changes}))


@pytest.fixture
def applications(ledger: Ledger) -> Applications:
    """Where version 1 of `triage` is in production."""
    found = ledger.of(Applications)
    number, _ = found.push("default", definition(), "ann")
    found.move("default", "triage", "production", number, "ann")
    return found


@pytest.fixture
def admit(ledger: Ledger, applications: Applications) -> Admit:
    """Admission by a bridge that has just started: it believes nothing."""

    def decide(job: GenerationJob, pinned: str | None = None) -> Any:
        headers = replaced(
            tuple(envelope_of(job).to_headers()), "ce_applicationversion", pinned.encode() if pinned else b""
        )
        headers = headers if pinned else headers[:-1]
        sent = record(job, value=encode_given(job), headers=headers)
        return RecordAdmission(rules_of(ledger), NOW).admit(sent)

    return decide


def triage(ticket: str = "It burns", **fields: Any) -> GenerationJob:
    return GenerationJob(application="triage", variables={"ticket": ticket}, **fields)


def test_the_ledger_keeps_the_rendered_job_and_the_value_as_sent(ledger: Ledger, admit: Admit) -> None:
    new = admit(triage())
    assert isinstance(new, NewJob)
    ledger.ingest([new])
    row = ledger.job(new.id).job
    job = decode_job(row.kind, bytes(row.payload))
    assert isinstance(job, GenerationJob)
    assert [turn.content for turn in job.messages] == ["Sort the ticket.", "It burns"]
    assert json.loads(bytes(row.sent)) == {"application": "triage", "variables": {"ticket": "It burns"}}
    assert row.application == "triage@1"


def test_a_key_that_comes_again_after_the_label_moved_is_the_same_job(
    ledger: Ledger, admit: Admit, applications: Applications
) -> None:
    ledger.ingest([admit(triage(idempotency_key="k"))])
    number, _ = applications.push("default", definition(messages=[{"role": "user", "text": "{{ ticket }}?"}]), "ann")
    applications.move("default", "triage", "production", number, "ann")
    again = admit(triage(idempotency_key="k"))
    assert (again.application, ledger.ingest([again]).new) == ("triage@2", 0)
    assert letters(ledger) == []
    ledger.ingest([admit(triage("It floods", idempotency_key="k"))])
    (letter,) = letters(ledger)
    assert (letter.category, "it differs in variables" in letter.reason) == (Category.CONFLICT, True)


def test_the_version_that_the_gateway_resolved_is_used_though_the_label_moved(
    admit: Admit, applications: Applications
) -> None:
    number, _ = applications.push("default", definition(messages=[{"role": "user", "text": "{{ ticket }}?"}]), "ann")
    applications.move("default", "triage", "production", number, "ann")
    assert admit(triage()).application == "triage@2"
    assert admit(triage(), definition().digest).application == "triage@1"


def test_a_dead_letter_of_a_job_has_the_value_as_sent(ledger: Ledger, admit: Admit) -> None:
    """It can be published again: the rendered job could not."""
    new = admit(triage())
    ledger.ingest([replace(new, steps=(new.steps[0]._replace(deadline=1),))])
    ledger.reap(3)
    (letter,) = letters(ledger)
    assert (letter.category, letter.original) == (Category.EXPIRED, encode_given(triage()).decode())


def test_tenants_have_applications_of_their_own(ledger: Ledger, admit: Admit, applications: Applications) -> None:
    refused = admit(triage(tenant="shop"))
    assert isinstance(refused, Burial)
    assert refused.reason.startswith("there is no application 'triage' with the label 'production'")
    applications.push("shop", definition(), "bob")
    assert (
        admit(GenerationJob(tenant="shop", application="triage@1", variables={"ticket": "t"})).application == "triage@1"
    )


def test_a_refused_record_whose_job_is_known_gets_no_dead_letter(
    ledger: Ledger, admit: Admit, applications: Applications
) -> None:
    ledger.ingest([admit(triage(idempotency_key="k"))])
    number, _ = applications.push(
        "default",
        definition(variables={"ticket": {"type": "integer"}, "urgent": {"type": "boolean", "default": False}}),
        "ann",
    )
    applications.move("default", "triage", "production", number, "ann")
    refused = admit(triage(idempotency_key="k"))
    assert isinstance(refused, Burial)
    ledger.ingest([], [refused])
    assert letters(ledger) == []


def test_a_job_is_refused_by_the_name_of_a_knowledge_base_that_was_deleted_under_the_label(
    ledger: Ledger, admit: Admit, applications: Applications
) -> None:
    bases = ledger.of(KnowledgeBases)
    document = bases.put(
        NewDocument(
            tenant="default", knowledge="manual", name="a.md", sha256="1", format="markdown", size=1, embedder="e",
            chunks=(),
        )
    )  # fmt: skip
    number, _ = applications.push("default", definition(job={"model": "echo", "knowledge": "manual"}), "ann")
    applications.move("default", "triage", "production", number, "ann")
    assert isinstance(admit(triage()), NewJob)
    assert document is not None
    bases.remove([document])
    refused = admit(triage())
    assert isinstance(refused, Burial)
    assert "default has no knowledge base 'manual'" in refused.reason


def test_a_rendered_job_is_measured_as_such(admit: Admit) -> None:
    assert admit(triage("t" * 50)).steps[0].tokens > admit(triage("t")).steps[0].tokens
