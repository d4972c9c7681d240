from io import StringIO

from rich.console import Console
from tests.workers.cli.conftest import cancelled, dead, result, stage

from headrace_schemas import Answer, Embedding, Finding, JudgeVerdict, ModerationVerdict, Score, Usage
from headrace_schemas.grounding import Citation, Grounding
from headrace_schemas.recall import Recall
from headrace_workers.cli.output import console
from headrace_workers.cli.receipts import Receipt
from headrace_workers.features.batches.commands.run_report import Tally, draw_summary, rate, summary_dict


def test_counts_and_tokens_add_up():
    tally = Tally([result(1), result(2, status="blocked", text=None), dead(3), dead(4), cancelled(5)])
    assert tally.statuses == {"completed": 1, "blocked": 1, "dead": 2, "cancelled": 1}
    assert (tally.jobs, tally.unanswered) == (5, 3)
    assert (tally.prompt_tokens, tally.completion_tokens) == (14, 6)
    assert tally.causes == {"permanent at generate": 2}


def test_answers_without_their_format_are_counted_by_failure():
    letter = dead(1).event.model_copy(update={"failure": "truncated"})
    assert Tally([Receipt(letter), dead(2)]).causes == {"truncated at generate": 1, "permanent at generate": 1}


def test_a_groups_time_counts_once():
    tally = Tally(result(n, stages=(stage("generate", ran_ms=100.0, group=4),)) for n in range(4))
    assert [(s.stage, s.ran, s.busy_ms) for s in tally.stages] == [("generate", [100.0] * 4, 100.0)]


def test_stages_stand_in_the_order_of_the_pipeline():
    tally = Tally([result(1, stages=(stage("judge", attempt=2),)), result(2)])
    assert [(s.stage, s.retried) for s in tally.stages] == [("generate", 0), ("moderate", 0), ("judge", 1)]


def test_nothing_is_a_summary_too(capsys):
    assert rate(5, 0.0) == 0.0
    console(data=True).print(draw_summary(Tally(), Tally(), 0.0))
    assert capsys.readouterr().out == "0 jobs.\n"


def said(tally: Tally, this_run: Tally | None = None) -> list[str]:
    """The sentences of a summary, on a line each."""
    out = StringIO()
    Console(file=out, width=400, soft_wrap=True).print(draw_summary(tally, this_run or tally, 2.0))
    return [line for line in out.getvalue().splitlines() if line.endswith(".")]


def verdict(*values: float) -> JudgeVerdict:
    names = ("contains", "length")
    return JudgeVerdict(
        scores=tuple(Score(criterion=name, value=value) for name, value in zip(names, values, strict=False))
    )


ALLOWED = ModerationVerdict(action="allow")
INSULT = Finding(category="insult", detector="d", score=1.0, start=0, end=3, action="block")


def test_a_summary_is_three_sentences():
    blocked = ModerationVerdict(action="block", findings=(INSULT, INSULT))
    tally = Tally(
        [
            result(1, judge=verdict(1.0, 1.0)),
            result(2, judge=verdict(1.0, 0.0), moderation=ALLOWED),
            result(3, judge=verdict(0.0, 0.0)),
            result(4, status="blocked", text=None, judge=JudgeVerdict(), moderation=blocked),
            dead(5),
        ]
    )
    assert said(tally) == [
        "5 jobs: 3 completed, 1 blocked by moderation, 1 dead (permanent at generate: 1).",
        "It took 2.0 s, start aside: 2.5 jobs/s, 28 tokens read and 12 written, 6 tokens/s.",
        "Moderation redacted 2 (email), withheld 1 (insult); 2 of 3 checked answers failed a check (length 2, "
        "contains 1).",
    ]


def test_the_speed_of_a_run_that_went_on_is_that_of_its_own_jobs():
    both, second = Tally([result(1), result(2)]), Tally([result(2)])
    assert said(both, second)[1].startswith("It took 2.0 s for 1 job of this run, start aside: 0.5 jobs/s,")
    assert not any("It took" in text for text in said(both, Tally()))


def test_a_summary_says_what_answers_rest_on():
    passage = Citation(number=1, document="mill.md", start=0, stop=9, chunk="k", relevance=0.5, cited=True)
    grounded = Grounding(knowledge="mill", floor=0.3, citations=(passage,))
    usage = Usage(prompt_tokens=7, completion_tokens=3)
    answer = Answer(
        text="[1]", finish_reason="stop", model="tiny", quantization="int8", usage=usage, grounding=grounded
    )
    again = answer.model_copy(update={"recall": Recall(tier="exact", saved_tokens=10)})
    assert said(Tally([result(1, answer=answer), result(2, answer=again)]))[0] == (
        "2 jobs: 2 completed; 2 cite their passages; 1 came from the cache (1 exact) and saved 10 tokens."
    )


def test_speed_is_that_of_this_run():
    found = summary_dict(Tally([result(1), result(2)]), Tally([result(2)]), 2.0, 1.0)
    assert (found["jobs"], found["this_run"]["jobs"], found["this_run"]["tokens_per_second"]) == (2, 1, 1.5)


def test_tokens_of_a_vector_were_read():
    usage = Usage(prompt_tokens=5, completion_tokens=0)
    made = Embedding(model="m", embedder="m/int8/ab", dimensions=2, vector="AACAPwAAAL8=", usage=usage)
    tally = Tally([result(1), result(2, kind="embedding", embedding=made, answer=None)])
    assert (tally.prompt_tokens, tally.completion_tokens) == (12, 3)
