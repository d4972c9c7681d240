from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_schemas import Decisions, ModerationVerdict, Result, Usage
from headrace_schemas.decision import ChoiceAnswer
from headrace_schemas.moderation import Action, Finding
from headrace_workers.core.ledger.job_status import JobRow, Standing, StepRow
from headrace_workers.features.console.receipt import SCALE, Mark, Piece, facts, moderated, pieces, text_of, waterfall


def finding(category: str, start: int, end: int, action: Action = "redact") -> Finding:
    return Finding(category=category, detector="x", score=1.0, start=start, end=end, action=action)


def test_findings_are_marked_where_they_stand_in_the_redacted_text():
    #       0123456789012345678901234567890
    told = "ann@a.io met bob@headrace.io x y"
    shown = "[EMAIL] met [EMAIL] x y"
    findings = (finding("email", 0, 8), finding("email", 13, 28), finding("insult", 29, 30, "allow"))
    assert told[29:30] == "x"
    marks = moderated(shown, ModerationVerdict(action="redact", findings=findings))
    assert [(shown[mark.start : mark.end], mark.kind) for mark in marks] == [
        ("[EMAIL]", "hidden"), ("[EMAIL]", "hidden"), ("x", "found"),
    ]  # fmt: skip


def test_nothing_is_marked_in_a_text_that_is_another():
    verdict = ModerationVerdict(action="redact", findings=(finding("email", 0, 8),))
    assert moderated("A person wrote this instead.", verdict) == []


MARKS = st.builds(Mark, st.integers(0, 40), st.integers(0, 60), st.sampled_from(["hidden", "doubt"]), st.just("why"))


@given(st.text("ab[1]2", max_size=40), st.lists(MARKS, max_size=8))
def test_the_pieces_of_a_text_are_the_text(text: str, marks: list[Mark]):
    made = pieces(text, marks, frozenset({1}))
    assert "".join(piece.text for piece in made) == text
    assert all(piece.text == "[1]" for piece in made if piece.passage is not None)
    assert sum(piece.passage == 1 for piece in made) <= text.count("[1]")


def test_a_citation_inside_a_marked_sentence_is_still_a_link():
    made = pieces("So it is [1]. No.", [Mark(0, 13, "doubt", "why")], frozenset({1}))
    assert [(piece.text, piece.kind, piece.passage) for piece in made] == [
        ("So it is ", "doubt", None), ("[1]", "doubt", 1), (".", "doubt", None), (" No.", "", None),
    ]  # fmt: skip


@pytest.mark.parametrize("ended", [None, 1_400])
def test_bars_lie_inside_the_waterfall(ended: int | None):
    row = JobRow("j", "default", "generation", "active", 1_000, ended, None, None)
    steps = (
        StepRow("j", "generate", 0, "done", 1, 1_000, 1_100, 1_300, None),
        StepRow("j", "moderate", 0, "done", 1, 1_300, 1_290, 1_400, None),  # it began with the group before
        StepRow("j", "judge", 0, "ready", 0, 1_400, None, None, None),
    )
    bars, total = waterfall(Standing("default", row, steps), now=1_500)
    assert total == (400 if ended else 500)
    assert [bar.ran for bar in bars] == [200, 110, None]
    assert bars[0].at == 0
    assert bars[0].waiting == round(100 / total * SCALE)
    assert all(0 <= bar.at < SCALE and bar.at + bar.waiting <= SCALE for bar in bars)
    assert waterfall(Standing("default", accepted_at=1_000), now=1_500) == ((), 500)


def test_answers_to_questions_are_shown_as_text_and_never_as_marks():
    answers = (ChoiceAnswer(type="choice", name="<b>", choice="[1]", confidence=0.5, probabilities=()),)
    made = Decisions(
        model="m",
        quantization="int8",
        usage=Usage(prompt_tokens=5, completion_tokens=3),
        provider="far",
        answers=answers,
        because="m answered in place of small (abstained: it is not sure: 0.60)",
    )
    event = Result(
        job_id="6f1d8a52-5d0c-5c39-9a53-0d1f6f6c7f11", tenant="a", status="completed", kind="decision", decisions=made,
        accepted_at=datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    assert text_of(event) == [Piece("<b>: [1] (0.50)")]
    assert facts(event)[:5] == [
        ("model", "m at far"), ("weights", "int8"), ("tokens", "5 read, 3 written"), ("cache", "not asked"),
        ("another model answered", "m answered in place of small (abstained: it is not sure: 0.60)"),
    ]  # fmt: skip
