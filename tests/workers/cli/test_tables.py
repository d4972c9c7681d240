"""Rows that people read."""

from tests.workers.cli.conftest import cancelled, dead, job_id, result

from headrace_schemas import JudgeVerdict, ModerationVerdict
from headrace_workers.cli.output import console, printable, table
from headrace_workers.cli.tables import COLUMNS, one_line, row, shorten


def test_a_result_fills_every_column():
    """Job, answer, why it ended, moderation with its cause, each score, tokens, time."""
    assert row(result(1, 4)).cells == (
        "4", "An answer.", "stop", "redact email", "f1 0.50, rubric ?", "3", "1,234",
    )  # fmt: skip
    assert len(row(result(1)).cells) == len(COLUMNS)


def test_a_withheld_answer_says_so():
    """A blocked text is not there, and the row does not look empty."""
    blocked = result(1, status="blocked", text=None, moderation=ModerationVerdict(action="block"))
    assert (row(blocked).answer, row(blocked).moderation) == ("(withheld)", "block")


def test_an_evaluation_has_only_its_scores():
    """No answer and no moderation of its own."""
    shown = row(result(1, kind="evaluation", judge=JudgeVerdict(), answer=None, moderation=None))
    assert shown.answer == "(none asked for)"
    assert (shown.ended, shown.tokens, shown.moderation, shown.judge) == ("evaluation", "", "", "")


def test_a_death_tells_its_reason():
    """Where another row has the answer."""
    assert row(dead(1)).answer == "permanent at generate: too long"
    assert row(dead(None)).job == "unknown"
    assert row(cancelled(1)).cells[1:3] == ("no need", "cancelled")


def test_texts_are_cut_on_one_line():
    """Line breaks become spaces; what is left out is marked."""
    assert shorten("a\n\n b  c", 10) == "a b c"
    assert shorten("abcdefghij", 5) == "abcd…"
    assert len(shorten("word " * 100_000, 60)) <= 60


def test_one_line_has_the_whole_id():
    """It can be copied into `headrace status`."""
    assert one_line(result(1)).startswith(f"{job_id(1)}  completed  3 tok  1.2 s  An answer.")


def test_texts_cannot_steer_the_terminal(capsys):
    """Neither markup nor escape sequences in an answer have any effect."""
    console(data=True).print(table(None, ("answer",), [("[red]x[/red] \x1b[2J",)]))
    assert "[red]x[/red] \N{REPLACEMENT CHARACTER}[2J" in capsys.readouterr().out
    assert printable("a\x1bb\nc\x9b") == "a\N{REPLACEMENT CHARACTER}b\nc\N{REPLACEMENT CHARACTER}"
