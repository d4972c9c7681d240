import pytest
from tests.workers.features.judging.judge_model import JudgeModel, Probabilities, Prompt

from headrace_schemas import Contains, NotJudged, Pairwise, Rubric, Score
from headrace_schemas.errors import PromptTooLong, Unavailable
from headrace_workers.features.judging.ask_model import preferred
from headrace_workers.features.judging.scores import Subject
from headrace_workers.features.judging.scoring import score_all

PAIR = Pairwise()


def scores_of(subject: Subject, judge: JudgeModel | None) -> tuple[Score, ...]:
    (scored,) = score_all([subject], judge)
    assert scored.trouble is None
    return scored.scores


def first_of(prompt: Prompt) -> str:
    return prompt[-1].content.split("<A>\n")[1].split("\n</A>")[0]


def prefers(text: str) -> JudgeModel:
    def answer(prompt: Prompt, choices: tuple[str, ...]) -> Probabilities:
        assert choices == ("A", "B")
        return (0.6, 0.2) if first_of(prompt) == text else (0.1, 0.8)

    return JudgeModel(answer)


@pytest.mark.parametrize(
    ("ahead", "behind", "value"),
    [(0.9, 0.1, 1.0), (0.1, 0.9, 0.0), (0.5, 0.5, 0.5), (0.9, 0.9, None), (0.1, 0.1, None), (0.5, 0.1, None)],
)
def test_a_verdict_holds_in_both_orders(ahead: float, behind: float, value: float | None) -> None:
    assert preferred(ahead, behind) == value


def test_the_better_output() -> None:
    judge = prefers("good")
    (better,) = scores_of(Subject("good", (PAIR,), question="q", other="bad"), judge)
    assert (better.value, better.model) == (1.0, "judge")
    assert better.mass == pytest.approx(0.8)
    (worse,) = scores_of(Subject("bad", (PAIR,), question="q", other="good"), judge)
    assert worse.value == 0.0
    ((prompts, _), _) = judge.calls
    assert len(prompts) == 2


def test_a_verdict_that_changes_with_the_order_is_none() -> None:
    (score,) = scores_of(Subject("one", (PAIR,), other="two"), JudgeModel(lambda prompt, choices: (0.7, 0.3)))
    assert (score.value, score.not_judged, score.model) == (None, NotJudged.ORDER, "judge")
    assert score.mass == pytest.approx(1.0)


def test_the_reference_stands_in_for_another_output() -> None:
    judge = prefers("good")
    scores_of(Subject("good", (PAIR,), reference="expected", other="bad"), judge)
    scores_of(Subject("good", (PAIR,), reference="expected"), judge)
    shown = [prompts[0][-1].content for prompts, _ in judge.calls]
    assert ["bad" in text for text in shown] == [True, False]
    assert ["expected" in text for text in shown] == [False, True]


def test_what_needs_no_model() -> None:
    judge = prefers("good")
    (none,) = scores_of(Subject("good", (PAIR,)), judge)
    (same,) = scores_of(Subject("good\n", (PAIR,), other="good"), judge)
    (blocked,) = scores_of(Subject(None, (PAIR,), other="good"), judge)
    assert (none.not_judged, same.value, blocked.not_judged) == (NotJudged.NO_OTHER, 0.5, NotJudged.BLOCKED)
    assert judge.calls == []
    (alone,) = scores_of(Subject("good", (PAIR,), other="bad"), None)
    assert alone.not_judged is NotJudged.NO_MODEL
    (foreign,) = scores_of(Subject("good", (Pairwise(model="other"),), other="bad"), judge)
    assert foreign.not_judged is NotJudged.OTHER_MODEL


def test_guidance_and_question_are_asked() -> None:
    judge = prefers("a")
    asked = Pairwise(question="Which is shorter?", guidance="Count words.")
    scores_of(Subject("a", (asked,), question="Why?", other="</B> b"), judge)
    text = judge.calls[0][0][0][-1].content
    for part in ("Which is shorter?\nCount words.", "Why?", "&lt;/B&gt; b"):
        assert part in text


def test_pairs_and_rubrics_of_a_group_are_asked_at_once() -> None:
    def answer(prompt: Prompt, choices: tuple[str, ...]) -> Probabilities:
        if choices == ("A", "B"):
            return (0.9, 0.0) if "good" in first_of(prompt) else (0.0, 0.9)
        return (0.9, 0.0, 0.0, 0.0) if "good" in prompt[-1].content else (0.0, 0.0, 0.9, 0.0)

    judge = JudgeModel(answer)
    wanted = (Rubric(question="Is it?"), PAIR, Contains(text="good"))
    found = score_all([Subject(text, wanted, other=other) for text, other in (("good", "x"), ("y", "good"))], judge)
    assert [[score.value for score in scored.scores] for scored in found] == [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]
    assert sorted(len(prompts) for prompts, _ in judge.calls) == [2, 4]


def test_trouble_of_one_order_is_that_of_the_pair() -> None:
    lasting = JudgeModel(lambda prompt, _: PromptTooLong("no") if first_of(prompt) == "one" else (0.9, 0.0))
    (score,) = scores_of(Subject("one", (PAIR,), other="two"), lasting)
    assert (score.not_judged, score.reason) == (NotJudged.TOO_LONG, "no")
    passing = JudgeModel(lambda prompt, _: Unavailable("later") if first_of(prompt) == "two" else (0.9, 0.0))
    (scored,) = score_all([Subject("one", (PAIR,), other="two")], passing)
    assert isinstance(scored.trouble, Unavailable)
    assert scored.scores[0].not_judged is NotJudged.FAILED
