import pytest
from tests.workers.features.generation.test_stage import Model

from headrace_schemas import Answer, Category, GenerationJob, HeadraceError, Output, Usage
from headrace_schemas.errors import PromptTooLong, Unavailable
from headrace_workers.core.ledger.outcome import Done, ProviderBusy, Retry, Wait
from headrace_workers.core.pipeline.task import Unit
from headrace_workers.features.cache import auditing as audits
from headrace_workers.features.cache.auditing import audit
from headrace_workers.features.cache.store.audit_rows import Audited
from headrace_workers.models.generator import Completion

JOB_ID = "6f1d8a52-5d0c-5c39-9a53-0d1f6f6c7f11"
JOB = GenerationJob(model="small", prompt="Who?")


def unit(number: int, served: str, job: GenerationJob | None = JOB) -> Unit:
    answer = Answer(
        text=served, finish_reason="stop", model="small", quantization="int8",
        usage=Usage(prompt_tokens=0, completion_tokens=0),
    )  # fmt: skip
    output = Output(job_id=JOB_ID, tenant="shop", answer=answer)
    return Unit(f"audit-{number}", JOB_ID, "shop", "scope", output, b"", job=job)


def completion(text: str) -> Completion:
    return Completion(text, "stop", 1, 1)


def test_all_are_answered_in_one_call_and_labelled_one_by_one() -> None:
    model = Model(completion("Ann."), completion("Bob was born in 1990."), completion("a\x00 longer word"))
    found = audit([unit(1, "Ann."), unit(2, "Bob was born in 1991."), unit(3, "Who knows?")], generator=model)
    rows = [outcome.rows[0] for outcome in found if isinstance(outcome, Done)]
    assert [(row.audit_id, row.label, row.fresh) for row in rows if isinstance(row, Audited)] == [
        ("audit-1", "clean", "Ann."), ("audit-2", "wrong", "Bob was born in 1990."),
        ("audit-3", "unknown", "a\ufffd longer word"),
    ]  # fmt: skip
    (asked,) = model.calls
    assert [(request.messages, request.tenant) for request in asked] == [(JOB.conversation, JOB.tenant)] * 3
    assert all(outcome.event is None and not outcome.also for outcome in found if isinstance(outcome, Done))


def test_some_are_answered_twice_and_the_two_answers_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audits, "twice", lambda name: name != "audit-2")
    model = Model(
        completion("Ann."), completion("Bob."), completion("Ann."), completion("It is 3."), completion("It is 4."),
        completion("Ann."), PromptTooLong("too long"),
    )  # fmt: skip
    served = [unit(1, "Ann."), unit(2, "Ann."), unit(3, "It is 3."), unit(4, "Ann.")]
    rows = [outcome.rows[0] for outcome in audit(served, generator=model) if isinstance(outcome, Done)]
    assert [(row.label, row.again, row.own) for row in rows if isinstance(row, Audited)] == [
        ("clean", "Bob.", "unknown"), ("clean", None, None), ("clean", "It is 4.", "wrong"), ("clean", None, None),
    ]  # fmt: skip
    assert len(model.calls) == 1


def test_two_answers_of_which_one_tells_of_no_tokens_are_charged_with_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audits, "twice", lambda _: True)
    (found,) = audit([unit(1, "Ann.")], generator=Model(completion("Ann."), Completion("Ann.", "stop", 0, 0)))
    assert isinstance(found, Done)
    assert found.usage == Usage(prompt_tokens=0, completion_tokens=0)


def test_what_the_model_cannot_answer_is_unknown_at_once_or_at_last() -> None:
    errors: list[HeadraceError] = [PromptTooLong("too long"), Unavailable("away")]
    never, later = audit([unit(1, "a"), unit(2, "b")], generator=Model(*errors))
    assert never == Done(rows=(Audited("audit-1", "unknown", "given up: too long"),))
    assert isinstance(later, Retry)
    assert later.category is Category.TRANSIENT
    assert later.otherwise == Done(rows=(Audited("audit-2", "unknown", "given up: away"),))


def test_an_audit_waits_for_a_busy_model_without_an_attempt() -> None:
    (found,) = audit([unit(1, "a")], generator=Model(ProviderBusy("slow down", after=12.5)))
    assert found == Wait(None, "slow down", at_most=12.5)


def test_a_unit_without_a_job_is_unknown() -> None:
    model = Model()
    (found,) = audit([unit(1, "a", None)], generator=model)
    assert isinstance(found, Done)
    assert found.rows == (Audited("audit-1", "unknown", "it is no audit of a generation job"),)
    assert model.calls == []
