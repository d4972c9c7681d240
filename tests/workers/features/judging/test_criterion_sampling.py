"""A share of what is judged: the same jobs whoever draws, and the probability beside each score."""

import uuid

import pytest
from tests.workers.features.judging.judge_model import JudgeModel, Probabilities, Prompt, uniform

from headrace_schemas import Contains, Length, NotJudged, Rubric, Score
from headrace_schemas.criteria import Uncertain
from headrace_workers.features.judging.scores import Subject, drawn
from headrace_workers.features.judging.scoring import score_all

IDS = [str(uuid.UUID(int=number)) for number in range(2_000)]
IN = next(name for name in IDS if drawn(name, 0.1))
OUT = next(name for name in IDS if not drawn(name, 0.9))


def scores_of(job_id: str, *criteria: object, judge: JudgeModel | None = None, text: str = "a b") -> tuple[Score, ...]:
    (scored,) = score_all([Subject(text, criteria, job_id=job_id)], judge)
    return scored.scores


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
def test_a_share_of_jobs_is_drawn_and_a_larger_share_holds_it(share: float) -> None:
    mine = {text for text in IDS if drawn(text, share)}
    assert len(mine) == pytest.approx(share * len(IDS), abs=4 * (len(IDS) * share * (1 - share)) ** 0.5)
    assert mine <= {text for text in IDS if drawn(text, min(1.0, share * 2))}
    assert mine == {text for text in IDS if drawn(text, share)}
    assert all(drawn(text, 1.0) for text in IDS)


def test_what_is_not_drawn_is_not_judged_and_says_so() -> None:
    judge = JudgeModel(uniform)
    wanted = (Rubric(question="Kind?", share=0.1), Contains(text="a", share=0.1, name="has_a"), Contains(text="a"))
    rubric, named, always = scores_of(OUT, *wanted, judge=judge)
    assert judge.calls == []
    for score in (rubric, named):
        assert (score.value, score.not_judged, score.probability) == (None, NotJudged.NOT_SAMPLED, 0.1)
    assert named.name == "has_a"
    assert (always.value, always.probability) == (1.0, None)
    rubric, named, always = scores_of(IN, *wanted, judge=judge)
    assert [score.value for score in (rubric, named, always)] == [0.5, 1.0, 1.0]
    assert [score.probability for score in (rubric, named, always)] == [0.1, 0.1, None]


def test_what_another_criterion_is_unsure_about_is_always_judged() -> None:
    def answer(prompt: Prompt, choices: tuple[str, ...]) -> Probabilities:
        if "Costly?" in prompt[-1].content:
            return (0.9, 0.0, 0.0, 0.0)
        sure = "sure" in prompt[-1].content.split("<output>")[1]
        return (1.0, 0.0, 0.0, 0.0) if sure else (0.5, 0.0, 0.5, 0.0)

    cheap = Rubric(question="Cheap?", name="cheap")
    costly = Rubric(question="Costly?", uncertain=Uncertain(criterion="cheap", low=0.3, high=0.7), share=0.1)
    for job_id, text, value, probability in (
        (OUT, "doubt", 1.0, 1.0), (OUT, "sure", None, 0.1), (IN, "sure", 1.0, 0.1), (IN, "doubt", 1.0, 1.0),
    ):  # fmt: skip
        judge = JudgeModel(answer)
        first, _ = scores_of(job_id, costly, cheap, judge=judge, text=text)
        value_and_chance = (None if first.value is None else round(first.value, 6), first.probability)
        assert value_and_chance == (value, probability)
        assert len(judge.calls) == (1 if value is None else 2)


def test_what_could_not_be_judged_is_a_doubt() -> None:
    silent, edge = Rubric(question="Cheap?", name="silent"), Length(max_words=2)
    wanted = (
        silent, edge,
        Contains(text="a", uncertain=Uncertain(criterion="silent"), share=1e-6),
        Contains(text="a", uncertain=Uncertain(criterion="length", low=1.0, high=1.0), share=1e-6),
        Contains(text="a", uncertain=Uncertain(criterion="length"), share=1e-6),
    )  # fmt: skip
    scores = scores_of(OUT, *wanted)
    assert [score.probability for score in scores[2:]] == [1.0, 1.0, 1e-6]
    assert scores[4].not_judged is NotJudged.NOT_SAMPLED
