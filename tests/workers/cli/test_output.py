from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console
from tests.workers.cli.conftest import dead, job_id, result

from headrace_schemas import Answer, JudgeVerdict, Score, Usage
from headrace_workers.cli.output import Line, Rows, share
from headrace_workers.features.batches.commands.run_report import draw_receipts

SCORES = tuple(Score(criterion=name, value=0.0) for name in ("length", "contains", "exact_match"))

USAGE = Usage(prompt_tokens=7, completion_tokens=3)
ANSWERED = Answer(text="word " * 50, finish_reason="stop", model="tiny", quantization="int8", usage=USAGE)


def drawn(renderable: object, width: int) -> list[str]:
    out = StringIO()
    Console(file=out, width=width, highlight=False, soft_wrap=True).print(renderable)
    return out.getvalue().splitlines()


def test_room_is_shared_by_what_is_wanted():
    """All of it when there is enough; else the least, and a part of the rest; nothing without room for the least."""
    assert share([5, 40], [5, 10], 60) == [5, 40]
    assert share([5, 40, 20], [5, 10, 10], 35) == [5, 17, 12]
    assert share([5, 40], [5, 10], 14) is None


@pytest.mark.parametrize("width", [100, 80])
def test_the_receipts_of_a_run_fit_a_terminal(width: int):
    receipts = [result(n, n, text="word " * 50, judge=JudgeVerdict(scores=SCORES)) for n in range(1, 5)]
    lines = drawn(draw_receipts(receipts, 4), width)
    assert max(map(len, lines)) <= width
    assert len(lines) <= 3 + 4 * 3
    assert lines[0].split() == ["line", "answer", "moderation", "checks"]
    assert sum("exact_match" in line for line in lines) == 4


def test_a_run_whose_checks_hold_has_a_line_for_each_answer():
    cut = Answer(text="word " * 50, finish_reason="length", model="tiny", quantization="int8", usage=USAGE)
    holds = JudgeVerdict(scores=(Score(criterion="contains", value=1.0), Score(criterion="length", value=1.0)))
    lines = drawn(draw_receipts([result(1, 1, judge=holds), result(2, 2, answer=cut, judge=holds)], 2), 80)
    assert len(lines) == 5
    assert lines[0].split() == ["line", "answer", "note", "moderation", "checks"]
    assert lines[2].split() == ["1", "An", "answer.", "redact", "email", "passed"]
    assert "… cut at max_tokens redact email passed" in " ".join(lines[3].split())


def test_why_there_is_no_answer_is_whole():
    reason = "output.pattern: " + " ".join(f"reason{n}" for n in range(40))
    letter = dead(1)
    letter = replace(letter, event=letter.event.model_copy(update={"reason": reason}))
    lines = drawn(draw_receipts([letter, result(2, 2, answer=ANSWERED)], 2), 80)
    assert max(map(len, lines)) <= 80
    assert sum("word" in line for line in lines) == 1
    assert f"permanent at generate: {reason}" in " ".join(" ".join(lines[2:]).replace(" dead ", " ").split())


def test_a_table_says_how_many_rows_it_leaves_out():
    assert drawn(draw_receipts([result(1, 1)], 2_000), 80)[0].strip() == "the first 1 of 2,000"


@pytest.mark.parametrize("width", [20, 40])
def test_where_columns_do_not_fit_each_row_is_a_record(width: int):
    lines = drawn(draw_receipts([result(1, 1), dead(2, 2)], 2), width)
    assert max(map(len, lines)) <= width
    assert "answer: An answer." in lines
    assert lines.count("note: dead") == 1
    assert sum(line.startswith("moderation:") for line in lines) == 1


def test_what_must_be_whole_is_whole():
    rows = Rows(None, ("job", "reason"), [[job_id(1), "why " * 40]], whole=("job",))
    assert job_id(1) in "\n".join(drawn(rows, 60))


@pytest.mark.parametrize("width", [100, 80, 40, 20])
@pytest.mark.parametrize(
    "copied",
    [job_id(1), "http://127.0.0.1:8420/v1", "/home/ann/mill/.headrace/log/generate.log", "model.smollm2-135m-instruct"],
)
def test_ids_addresses_and_paths_are_never_broken(width: int, copied: str):
    prose = f"it is of no use any more because of {copied}, which nobody has read since"
    rows = Rows(f"what became of {copied}", ("what", "kind", "why"), [[copied, "started", prose]] * 2)
    assert "\n".join(drawn(rows, width)).count(copied) == 5
    assert copied in "\n".join(drawn(Line(prose), width))


def test_prose_is_broken_between_words():
    lines = drawn(Line("the mill turns slowly by the river", "why: "), 20)
    assert lines == ["why: the mill turns", "slowly by the river"]
    lines = drawn(Rows(None, ("a", "why"), [["1", "the mill turns slowly"]]), 16)
    assert [line.split()[-1] for line in lines[2:4]] == ["mill", "slowly"]


def test_columns_without_anything_give_way_first():
    rows = Rows(None, ("job", "state", "reason"), [[job_id(1), "done", ""]])
    assert drawn(rows, 46)[0].split() == ["job", "state"]
    assert drawn(rows, 80)[0].split() == ["job", "state", "reason"]


def test_cells_are_no_markup():
    rows = Rows("[b]t", ("a",), [["[red]x[/red]"]])
    assert "[red]x[/red]" in "".join(drawn(rows, 40))
    assert "[red]x[/red]" in "".join(drawn(rows, 5)).replace("\n", "")


def test_wide_characters_count_as_two():
    lines = drawn(Rows(None, ("a", "b"), [["川" * 4, "x"], ["y", "z"]]), 40)
    assert [line.rstrip()[-1] for line in lines[2:4]] == ["x", "z"]
