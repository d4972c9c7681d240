"""Dispatch: one score for each criterion, in order, with a value or a reason."""

import json
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from tests.schemas.documents import CRITERIA, texts
from tests.workers.features.judging.judge_model import JudgeModel, Probabilities, Prompt, uniform

from headrace_schemas import (
    Bleu,
    ChrF,
    Contains,
    ExactMatch,
    FuzzyMatch,
    Gleu,
    HeadraceError,
    JsonSchema,
    JsonValid,
    Language,
    Length,
    NotJudged,
    Pairwise,
    Regex,
    Rouge,
    Rubric,
    Score,
    TokenF1,
)  # fmt: skip
from headrace_schemas.criteria import Criterion
from headrace_schemas.errors import PromptTooLong, Unavailable
from headrace_schemas.limits import MAX_SHORT_TEXT
from headrace_workers.features.judging.reference import bleu, chrf
from headrace_workers.features.judging.scores import Subject
from headrace_workers.features.judging.scoring import score_all

KIND, GOOD = Rubric(question="Is it kind?"), Rubric(question="How good?", scale="1-5")
SAFE = Rubric(question="Is it safe?")


def scores_of(subject: Subject, judge: JudgeModel | None = None) -> tuple[Score, ...]:
    (scored,) = score_all([subject], judge)
    assert scored.trouble is None
    return scored.scores


_CRITERION = TypeAdapter(Criterion)


@pytest.mark.integration
@settings(deadline=None)
@given(
    output=st.none() | texts,
    wanted=st.lists(st.sampled_from([_CRITERION.validate_python(criterion) for criterion in CRITERIA]), max_size=6).map(
        tuple
    ),
    reference=st.none() | texts,
    question=texts,
    figures=st.lists(st.floats(), min_size=5, max_size=5),
    with_judge=st.booleans(),
)
def test_every_criterion_has_one_score(
    output: str | None, wanted: tuple, reference: str | None, question: str, figures: list[float], with_judge: bool
) -> None:
    judge = JudgeModel(lambda prompt, choices: tuple(figures[: len(choices)])) if with_judge else None
    scores = scores_of(Subject(output, wanted, question=question, reference=reference), judge)
    assert [s.criterion for s in scores] == [c.criterion for c in wanted]
    for score in scores:
        assert score.reason if score.value is None else 0.0 <= score.value <= 1.0
        json.loads(score.model_dump_json())


def test_a_rubric_reports_who_judged_and_the_mass() -> None:
    (score,) = scores_of(Subject("text", (KIND,)), JudgeModel(lambda p, c: (0.3, 0.1, 0.1, 0.0)))
    assert (score.model, score.note) == ("judge", None)
    assert score.value == pytest.approx(0.8)
    assert score.mass == pytest.approx(0.5)


def test_one_call_a_scale_for_the_whole_group() -> None:
    def by_text(prompt: Prompt, choices: tuple[str, ...]) -> tuple[float, ...]:
        place = int(prompt[-1].content.split("<output>\n")[1][0])
        return tuple(0.9 if i == place else 0.0 for i in range(len(choices)))

    judge = JudgeModel(by_text)
    subjects = [Subject(str(i), (GOOD, Contains(text=str(i)), KIND)) for i in range(4)]
    found = score_all(subjects, judge)
    assert sorted(len(prompts) for prompts, _ in judge.calls) == [4, 4]
    values = [[score.value for score in scored.scores] for scored in found]
    assert values == [[0.0, 1.0, 1.0], [0.25, 1.0, 1.0], [0.5, 1.0, 0.0], [0.75, 1.0, 0.0]]


def test_a_shortened_text_is_noted() -> None:
    """When the judge could not see the whole, the score says so beside its value."""
    (score,) = scores_of(Subject("long " * 5000, (KIND,)), JudgeModel(uniform, context_length=1024))
    assert score.value is not None
    assert "shortened" in (score.note or "")


def test_lasting_trouble_is_a_reason_and_passing_trouble_is_worth_another_try() -> None:
    def trouble(prompt: Prompt, choices: tuple[str, ...]) -> tuple[float, ...] | HeadraceError:
        text = prompt[-1].content
        if "long" in text:
            return PromptTooLong("the prompt does not fit")
        return Unavailable("not now") if "later" in text else uniform(prompt, choices)

    long, later, fine = score_all([Subject(t, (KIND,)) for t in ("long", "later", "fine")], JudgeModel(trouble))
    assert (long.trouble, long.scores[0].reason) == (None, "the prompt does not fit")
    assert isinstance(later.trouble, Unavailable)
    assert (later.scores[0].value, later.scores[0].reason) == (None, "given up: not now")
    assert (fine.trouble, fine.scores[0].value) == (None, 0.5)


def test_what_needs_no_model_is_scored_beside_passing_trouble() -> None:
    model = JudgeModel(lambda prompt, choices: Unavailable("x" * 3_000))
    (scored,) = score_all([Subject("text", (Contains(text="tex"), KIND, GOOD))], model)
    assert scored.scores[0].value == 1.0
    assert [score.value for score in scored.scores[1:]] == [None, None]
    assert [len(score.reason or "") for score in scored.scores[1:]] == [MAX_SHORT_TEXT] * 2


@pytest.mark.parametrize(("error", "passing"), [(RuntimeError("my secret"), True), (PromptTooLong("no"), False)])
def test_a_model_that_raises(error: Exception, passing: bool) -> None:
    """Over a group the error comes through, so that the group is halved; alone it is this subject's trouble."""

    def fail(prompt: Prompt, choices: tuple[str, ...]) -> tuple[float, ...]:
        raise error

    with pytest.raises(type(error)):
        score_all([Subject("a", (KIND,)), Subject("b", (KIND,))], JudgeModel(fail))
    (scored,) = score_all([Subject("text", (Contains(text="tex"), KIND))], JudgeModel(fail))
    assert (scored.trouble is not None) is passing
    assert scored.scores[0].value == 1.0
    assert scored.scores[1].value is None
    assert type(error).__name__ in (scored.scores[1].reason or "") if passing else scored.scores[1].reason == "no"
    assert "secret" not in (scored.scores[1].reason or "")


def test_of_several_troubles_the_first_is_told() -> None:
    def trouble(prompt: Prompt, choices: tuple[str, ...]) -> Unavailable:
        return Unavailable("of five" if len(choices) == 5 else "of two")

    first, second = GOOD, KIND
    (scored,) = score_all([Subject("text", (first, second))], JudgeModel(trouble))
    assert [score.reason for score in scored.scores] == ["given up: of five", "given up: of two"]
    assert str(scored.trouble) == "of five"


def test_a_model_that_is_away_is_asked_once_for_a_group() -> None:
    calls = []

    def away(prompt: Prompt, choices: tuple[str, ...]) -> tuple[float, ...]:
        calls.append(prompt)
        raise Unavailable("away")

    found = score_all([Subject(text, (Contains(text="a"), KIND)) for text in "ab"], JudgeModel(away))
    assert len(calls) == 1
    assert all(isinstance(scored.trouble, Unavailable) for scored in found)
    assert [[score.value for score in scored.scores] for scored in found] == [[1.0, None], [0.0, None]]


def test_a_check_that_raises_is_passing_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> float:
        raise RuntimeError("a fault")

    monkeypatch.setattr("headrace_workers.features.judging.checks.regex", fail)
    (scored,) = score_all([Subject("text", (Contains(text="tex"), Regex(pattern="t")))], None)
    assert isinstance(scored.trouble, Unavailable)
    assert [score.value for score in scored.scores] == [1.0, None]


def test_reasons_are_in_whole_words() -> None:
    judge = JudgeModel(uniform)
    foreign = Rubric(question="?", model="other")
    (none,) = scores_of(Subject("text", (KIND,)))
    assert none.reason == "no model judges here: name one in the criterion, or set HEADRACE_JUDGE_MODEL"
    (other,) = scores_of(Subject("text", (foreign,)), judge)
    assert other.reason == "the criterion asks for the model other, and judge judges here"
    (blocked,) = scores_of(Subject(None, (KIND,)), judge)
    assert blocked.reason == "the output was blocked by moderation"
    (alone,) = scores_of(Subject("text", (ExactMatch(),)))
    assert alone.reason == "the job gave no reference to compare with"
    assert [score.model for score in (none, other, blocked, alone)] == [None] * 4
    assert judge.calls == []


def test_who_was_asked_stands_beside_a_reason() -> None:
    (vague,) = scores_of(Subject("text", (KIND,)), JudgeModel(lambda p, c: (0.0,) * len(c)))
    assert (vague.model, vague.value, vague.mass, vague.note) == ("judge", None, None, None)
    (long,) = scores_of(Subject("text", (KIND,)), JudgeModel(lambda p, c: PromptTooLong("it does not fit")))
    assert (long.model, long.value, long.reason) == ("judge", None, "it does not fit")


@pytest.mark.parametrize("said", ["'1' and '2' begin with the same token", "x" * 600])
def test_a_model_that_cannot_judge_on_a_scale_says_so(said: str) -> None:
    def refuse(prompt: Prompt, choices: tuple[str, ...]) -> tuple[float, ...]:
        if len(choices) == 5:
            raise ValueError(said)
        return uniform(prompt, choices)

    first, second = scores_of(Subject("text", (GOOD, KIND)), JudgeModel(refuse))
    assert first.reason == f"the model judge cannot judge on this scale: {said}"[:500]
    assert second.value == 0.5


def test_an_unknown_error_is_told_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    def fail(prompt: Prompt, choices: tuple[str, ...]) -> tuple[float, ...] | HeadraceError:
        if len(choices) == 5:
            raise RuntimeError("my secret")
        return Unavailable("later")

    (scored,) = score_all([Subject("text", (KIND, GOOD))], JudgeModel(fail))
    assert [score.reason for score in scored.scores] == [
        "given up: later", "given up: judging failed with RuntimeError; see the worker's log",
    ]  # fmt: skip
    assert str(scored.trouble) == "later"
    assert [record.exc_info is not None for record in caplog.records] == [True]


def test_no_reason_holds_what_no_database_takes() -> None:
    (score,) = scores_of(Subject("text", (KIND,)), JudgeModel(lambda p, c: PromptTooLong("a\x00b")))
    assert score.reason == "a\ufffdb"


def test_what_is_compared_and_checked_is_what_the_criterion_says() -> None:
    wanted = (
        ExactMatch(ignore_case=False), ExactMatch(ignore_case=True), TokenF1(), ChrF(), Bleu(), Contains(text="one"),
        Contains(text="ONE", ignore_case=True), Contains(text="ONE", ignore_case=False),
        Regex(pattern="^One"), Regex(pattern="^one"),
        JsonValid(), Length(min_words=2), Length(min_words=3), Length(max_words=1), Length(max_words=2),
        FuzzyMatch(), Gleu(),
    )  # fmt: skip
    scores = scores_of(Subject("One one", wanted, reference="one one"))
    values = [score.value for score in scores]
    assert values[:3] == [0.0, 1.0, 1.0]
    assert values[3] == pytest.approx(chrf("One one", "one one"))
    assert values[4] == pytest.approx(bleu("One one", "one one"))
    assert values[5:] == [1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, pytest.approx(6 / 7), pytest.approx(1 / 3)]
    assert [score.criterion for score in scores] == [criterion.criterion for criterion in wanted]


def test_a_criterion_with_a_name_is_told_with_what_it_is_now() -> None:
    one = Contains(name="polite", text="please")
    same = Contains(name="kind", text="please", ignore_case=True)
    other = Contains(name="polite", text="thanks")
    named, also, changed, unnamed = scores_of(Subject("please", (one, same, other, Contains(text="please"))))
    assert (named.name, also.name, unnamed.name, unnamed.version) == ("polite", "kind", None, None)
    assert named.version == also.version
    assert named.version is not None
    assert changed.version not in (named.version, None)
    assert TokenF1(name="a").version != ExactMatch(name="a").version
    (without,) = scores_of(Subject(None, (one,)))
    assert (without.name, without.version) == ("polite", named.version)


def test_a_criterion_with_its_own_reference_compares_with_that() -> None:
    mine = ExactMatch(reference="mine")
    wanted = (mine, ExactMatch(reference="mine ", trim=False), ExactMatch(differs=True), TokenF1(reference="other"))
    scores = scores_of(Subject(" mine", wanted, reference="theirs"))
    assert [score.value for score in scores] == [1.0, 0.0, 1.0, 0.0]
    assert mine.version == ExactMatch().version
    assert mine.version != ExactMatch(trim=False).version


def test_a_rubric_may_choose_among_labels() -> None:
    labels = Rubric(question="?", labels=("good", "bad", "odd"), passing=("good", "odd"))
    other = Rubric(question="?", labels=("good", "bad", "odd"), passing=("bad",))
    judge = JudgeModel(lambda prompt, choices: (0.2, 0.3, 0.1) if len(choices) == 3 else (0.25,) * len(choices))
    first, second, third = scores_of(Subject("text", (labels, other, KIND)), judge)
    assert (first.value, first.mass) == (pytest.approx(0.5), pytest.approx(0.6))
    assert second.value == pytest.approx(0.5)
    assert third.value == pytest.approx(0.5)
    assert len(judge.calls) == 3


@pytest.mark.slow
def test_the_longest_texts_there_may_be_have_a_score_by_each_criterion() -> None:
    wanted = (
        ExactMatch(), TokenF1(), Gleu(), Rouge(), FuzzyMatch(), Contains(text="b"), JsonValid(),
        Regex(pattern="^(a+)+$"), Regex(pattern="(.*a){20}b"), JsonSchema(json_schema={"pattern": "^(a|a)*$"}),
        Language(language="en"), KIND, Pairwise(),
    )  # fmt: skip
    for output in ("a " * 100_000, "a" * 199_999 + "!"):
        scores = scores_of(Subject(output, wanted, reference="a " * 100_000, question=output), JudgeModel(uniform))
        assert [score.criterion for score in scores] == [criterion.criterion for criterion in wanted]


def test_one_unanswered_rubric_leaves_the_others_of_its_scale_their_scores() -> None:
    """A second call would be paid for, and would be answered the same."""

    def answers(prompt: Prompt, choices: Sequence[str]) -> Probabilities:
        return (0.001,) * len(choices) if "kind" in prompt[-1].content else uniform(prompt, choices)

    model = JudgeModel(answers)
    found = score_all([Subject("a", (KIND, SAFE)), Subject("b", (KIND, SAFE))], model)
    assert [[score.not_judged for score in scored.scores] for scored in found] == [[NotJudged.UNANSWERED, None]] * 2
    assert [scored.trouble for scored in found] == [None, None]
    assert len(model.calls) == 1
