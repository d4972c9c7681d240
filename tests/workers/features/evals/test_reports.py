import json
from pathlib import Path

from tests.workers.features.evals.runs import answered, dead, made, receipts_of

from headrace_workers.features.evals.analysis import Gate, analyse, judge_gate
from headrace_workers.features.evals.outcomes import Receipts, read_outcomes
from headrace_workers.features.evals.plan import Plan
from headrace_workers.features.evals.report import markdown, report_lines, summary
from headrace_workers.features.evals.report_page import MOST_ITEMS, report_page

HOSTILE = "<script>alert(1)</script> | [x](http://y) `z`"


def reported(plan: Plan, receipts: Receipts) -> tuple[dict[str, object], str, str]:
    outcomes = read_outcomes(plan, receipts)
    analysis = analyse(plan, outcomes)
    gate = judge_gate(Gate.parse("B >= A", plan.run), plan, outcomes)
    document = json.loads(b"".join(report_lines(summary(plan, analysis, gate), plan, receipts)))
    return document, markdown(plan, analysis, gate), report_page(plan, analysis, gate, receipts)


def test_every_item_is_in_the_json_and_the_first_are_on_the_page(tmp_path: Path) -> None:
    plan = made(tmp_path, [{"q": f"question-{number}."} for number in range(MOST_ITEMS + 1)])

    def receipt(item: int, repeat: int, variant: int) -> bytes:
        line = plan.line_of(item, repeat, variant)
        return dead(line) if item == variant == 1 else answered(line, (1.0, "not today"), f"answer {line}")

    document, text, page = reported(plan, receipts_of(plan, receipt))
    answers = document["answers"]
    assert isinstance(answers, list)
    assert len(answers) == MOST_ITEMS + 1
    assert answers[2]["row"] == {"q": "question-2."}
    (given,) = answers[2]["variants"]["B"]
    assert (given["text"], given["scores"]["right"]["value"]) == ("answer 6", 1.0)
    assert given["scores"]["json_valid"]["reason"] == "not today"
    assert answers[1]["variants"]["B"][0]["reason"] == "permanent at generate: too long"
    assert document["gate"]["passed"] is False  # type: ignore[index]
    assert "question-199." in page
    assert "question-200." not in page
    assert "The first 200 of 201" in page
    assert "| right | A | 1.000 |" in text
    assert "permanent at generate: too long" in text


def test_what_a_row_or_a_model_wrote_is_text_in_all_of_them(tmp_path: Path) -> None:
    plan = made(tmp_path, [{"q": HOSTILE}], f"name = '{HOSTILE}'")
    document, text, page = reported(
        plan, receipts_of(plan, lambda i, r, v: answered(plan.line_of(i, r, v), (1.0, HOSTILE), HOSTILE))
    )
    assert document["answers"][0]["row"]["q"] == HOSTILE  # type: ignore[index]
    assert "<script" not in page.lower()
    for found in (line for line in text.splitlines() if "alert" in line):
        assert "\\<script" in found
        assert "\\[x]" in found
        assert "\\|" in found


def test_a_report_before_the_first_answer_says_what_is_not_there(tmp_path: Path) -> None:
    document, text, page = reported(made(tmp_path, [{"q": "a"}]), Receipts(b"", 2))
    assert document["without_end"] == 2
    assert "2 of 2 jobs have not ended yet" in text
    assert "2 of 2 jobs have not ended yet" in page
    assert document["scores"][0]["mean"] is None  # type: ignore[index]
