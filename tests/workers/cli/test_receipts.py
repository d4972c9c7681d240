import json

import pytest
from tests.workers.cli.conftest import cancelled, dead, result

from headrace_schemas import Answer, Decisions, Embedding, JudgeVerdict, ModerationVerdict, Score, Usage
from headrace_schemas.decision import ChoiceAnswer, LevelProbability, PredicateAnswer, RefusedAnswer, ScoreAnswer
from headrace_schemas.errors import InvalidRecord
from headrace_schemas.grounding import Citation, Grounding
from headrace_schemas.recall import Recall
from headrace_workers.cli.output import console, printable, say, table
from headrace_workers.cli.receipts import (
    COLUMNS,
    LINE_START,
    Receipt,
    checks,
    decided,
    one_line,
    passages,
    row,
    row_in_full,
    shorten,
    table_of,
)
from headrace_workers.cli.submit import print_receipt


@pytest.mark.parametrize("receipt", [result(1, 7), dead(2, 8), dead(None), cancelled(3, 9)])
def test_a_line_reads_back_as_the_same(receipt: Receipt):
    assert Receipt.from_json(receipt.to_json()) == receipt


def test_a_line_is_the_event_with_two_keys_more():
    fields = json.loads(result(1, 7).to_json())
    assert (fields["line"], fields["type"], fields["status"]) == (7, "headrace.result.v1", "completed")
    assert result(1, 7).to_json().startswith(LINE_START)


@pytest.mark.parametrize(
    "text", [b"{}", b"[]", b"7", b"{", b'{"type": 3}', b'{"type":"headrace.output.v1"}', b'{"type":"x","line":"1"}']
)
def test_what_is_no_receipt_is_refused(text: bytes):
    with pytest.raises(InvalidRecord):
        Receipt.from_json(text)


def test_a_blocked_result_is_an_answer_and_a_death_is_none():
    """Exit codes hang on this."""
    assert result(1, status="blocked", text=None).answered
    assert not dead(1).answered
    assert not cancelled(1).answered


def test_a_result_fills_every_column():
    assert row(result(1, 4)).cells == (
        "4", "An answer.", "", "stop", "redact email", "f1: 0.50\nrubric: (no model)", "3", "1,234",
    )  # fmt: skip
    assert len(row(result(1)).cells) == len(COLUMNS)


def test_what_a_criterion_says_does_not_look_like_a_failure():
    """Yes or no where it can say nothing else, a figure where it measures, and in words why there is neither."""
    scores = (
        Score(criterion="contains", value=0.0),
        Score(criterion="exact_match", not_judged="no_reference", reason="the job has no reference"),
        Score(criterion="f1", value=0.0),
        Score(criterion="rubric", value=1.0),
    )
    shown = row(result(1, judge=JudgeVerdict(scores=scores))).criteria
    assert shown == "contains: no\nexact_match: (no reference)\nf1: 0.00\nrubric: 1.00"


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ((), ""),
        ((("contains", 1.0), ("length", 1.0)), "passed"),
        ((("contains", 1.0), ("length", 0.0), ("regex", 0.0)), "failed length, regex"),
        ((("contains", 1.0), ("f1", 0.5)), "passed, f1 0.50"),
        ((("rubric", 1.0),), "rubric 1.00"),
        ((("contains", 0.0), ("rubric", None)), "failed contains, rubric (no model)"),
    ],
)
def test_checks_are_told_in_short(scores, said):
    made = [
        Score(criterion=name, value=value)
        if value is not None
        else Score(criterion=name, not_judged="no_model", reason="no judge")
        for name, value in scores
    ]
    assert checks(tuple(made)) == said


def test_a_withheld_answer_says_so():
    blocked = result(1, status="blocked", text=None, moderation=ModerationVerdict(action="block"))
    assert (row(blocked).answer, row(blocked).moderation) == ("(withheld)", "block")


def test_a_death_tells_its_reason():
    assert row(dead(1)).answer == "permanent at generate: too long"
    assert row(dead(None)).job == "unknown"
    assert row(cancelled(1)).cells[1:4] == ("no need", "", "cancelled")


def test_texts_are_cut_on_one_line():
    assert shorten("a\n\n b  c", 10) == "a b c"
    assert shorten("abcdefghij", 5) == "abcd…"
    assert len(shorten("word " * 100_000, 60)) <= 60


def test_a_line_cuts_an_answer_and_never_the_reason_why_there_is_none():
    reason = f"the model is away: {'it did not answer, ' * 20}start it with `headrace worker`"
    assert one_line(dead(1, reason=reason)).endswith("start it with `headrace worker`")
    assert one_line(result(1, text="an answer " * 20)).endswith("…")


def test_texts_cannot_steer_the_terminal(capsys):
    console(data=True).print(table(None, ("answer",), [("[red]x[/red] \x1b[2J",)]))
    assert "[red]x[/red] \N{REPLACEMENT CHARACTER}[2J" in capsys.readouterr().out
    assert printable("a\x1bb\nc\x9b") == "a\N{REPLACEMENT CHARACTER}b\nc\N{REPLACEMENT CHARACTER}"


def grounded(text="The mill [1].", ending="stop", recall=None, **grounding):
    said = Grounding.model_validate({"knowledge": "mill", "floor": 0.3} | grounding)
    usage = Usage(prompt_tokens=7, completion_tokens=3)
    return result(
        1, answer=Answer(
            text=text, finish_reason=ending, model="tiny", quantization="int8", usage=usage, recall=recall,
            grounding=said,
        )
    )  # fmt: skip


def citation(number, cited, **more):
    known = {"number": number, "document": "mill.md", "start": 0, "stop": 9, "chunk": "k", "relevance": 0.5}
    return Citation.model_validate(known | {"cited": cited} | more)


FOUND = (citation(1, cited=True, section="Wheel"), citation(2, cited=False, suspicious=("overrides",)))


@pytest.mark.parametrize(
    ("receipt", "source"),
    [
        (grounded(citations=FOUND), "cites 1 of 2"),
        (grounded(citations=FOUND, unknown=(7,)), "cites 1 of 2, 1 made up"),
        (grounded(citations=FOUND, recall=Recall(tier="semantic", similarity=0.9)), "semantic, cites 1 of 2"),
        (grounded(citations=FOUND, recall=Recall()), "cites 1 of 2"),
        (grounded(reason="nothing was found"), ""),
        (result(1), ""),
    ],
)
def test_where_an_answer_comes_from(receipt, source):
    assert row(receipt).source == source
    columns, cells = table_of([row(result(2)), row(receipt)])
    assert ("source" in columns) == bool(source)
    assert {len(cell) for cell in cells} == {len(columns)}


def test_an_abstention_says_so():
    assert row(grounded("", "abstained", reason="nothing was found")).answer == "(nothing relevant in mill)"


def test_passages_are_told_with_where_they_are_from():
    assert passages(grounded(citations=FOUND, unknown=(7,)).event.answer) == [
        "[1] mill.md: Wheel (relevance 0.50)",
        "[2] mill.md (relevance 0.50, not cited, looks as if it gave orders)",
        "cited, and no passage: [7]",
    ]
    split = citation(1, cited=True, document="mill\n.md", section="The\r\nwheel")
    assert passages(grounded(citations=(split,)).event.answer) == ["[1] mill .md: The wheel (relevance 0.50)"]
    assert passages(grounded(reason="nothing was found").event.answer) == ["no passages of mill: nothing was found"]
    assert passages(result(1).event.answer) == []


DECIDED = Decisions(
    model="m",
    quantization="int8",
    usage=Usage(prompt_tokens=5, completion_tokens=3),
    answers=(
        PredicateAnswer(type="predicate", name="urgent", probability=0.93),
        ChoiceAnswer(type="choice", name="spam", choice=False, confidence=0.8, probabilities=()),
        ChoiceAnswer(type="choice", choice="billing", confidence=0.6, probabilities=()),
        ScoreAnswer(
            type="score",
            name="anger",
            score=0.4,
            confidence=0.6,
            probabilities=(
                LevelProbability(label="calm", probability=0.6, value=0),
                LevelProbability(label="mad", probability=0.4, value=1),
            ),
        ),
        RefusedAnswer(type="refusal"),
    ),
)


def test_each_question_has_its_answer_on_a_line():
    assert decided(DECIDED) == [
        "urgent: yes (yes 0.93)",
        "spam: false (0.80)",
        "3: billing (0.60)",
        "anger: 0.40 (most likely calm, 0.60)",
        "5: (not answered)",
    ]
    shown = row(result(1, kind="decision", decisions=DECIDED, judge=JudgeVerdict(), answer=None, moderation=None), 70)
    assert (shown.answer, shown.ended, shown.tokens) == (
        "urgent: yes (yes 0.93); spam: false (0.80); 3: billing (0.60); anger:…", "decision", "",
    )  # fmt: skip


def test_in_full_a_receipt_has_a_line_for_each_question():
    shown = row_in_full(result(1, kind="decision", decisions=DECIDED, judge=JudgeVerdict(), answer=None))
    assert shown.answer.splitlines() == decided(DECIDED)
    assert row_in_full(result(1, text="a\nb")) == row(result(1, text="a\nb"))


def test_a_vector_and_a_verdict_are_named():
    """Neither is shown as an answer would be."""
    usage = Usage(prompt_tokens=5, completion_tokens=0)
    made = Embedding(model="m", embedder="m/int8/ab", dimensions=2, vector="AACAPwAAAL8=", usage=usage)
    shown = row(result(1, kind="embedding", embedding=made, judge=JudgeVerdict(), answer=None, moderation=None))
    assert (shown.answer, shown.ended, shown.tokens) == ("(a vector of 2 dimensions)", "embedding", "")
    shown = row(result(1, kind="moderation", judge=JudgeVerdict(), answer=None))
    assert (shown.answer, shown.ended, shown.moderation) == ("(redact email)", "moderation", "redact email")


def test_an_answer_without_its_format_is_told_by_its_failure_and_place():
    letter = dead(1).event.model_copy(update={"failure": "unparsable", "place": "/tall"})
    assert row(Receipt(letter)).answer == "unparsable at generate: too long (/tall)"
    assert row(dead(1)).answer == "permanent at generate: too long"


def test_an_answer_that_goes_into_a_file_steers_no_terminal_later(capsys):
    """`cat` of it would. Tabs and lines stay, and JSON is as it was published."""
    receipt = result(1, text="a\tb\r\n\x1b]0;title\x07\x9b\u200d")
    print_receipt(receipt, as_json=False, text=True)
    say("\x1b[2J")
    said = capsys.readouterr()
    assert (
        said.out == "a\tb\n\N{REPLACEMENT CHARACTER}]0;title\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}\u200d\n"
    )
    assert "\x1b" not in said.err
