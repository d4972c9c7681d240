from tests.workers.cli.conftest import dead, result

from headrace_workers.features.batches.commands import run_report
from headrace_workers.features.batches.commands.run_report import Tally


def test_the_first_answer_is_shown_as_soon_as_it_is_there(capsys):
    """Once, with its line, without what could steer a terminal; a death or a withheld text is no answer."""
    tally = Tally()
    with run_report.shown(4) as show:
        show(tally, [dead(1, 1), result(2, 2, status="blocked", text=None)])
        assert "first answer" not in capsys.readouterr().err
        show(tally, [result(3, 3, text="A river\x1b[2J."), result(4, 4)])
        told = capsys.readouterr().err
        assert "(line 3): A river\N{REPLACEMENT CHARACTER}[2J." in told
        show(tally, [result(4, 4)])
        assert "first answer" not in capsys.readouterr().err


def test_on_a_terminal_it_stands_above_the_bar(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    with run_report.shown(2) as show:
        show(Tally(), [result(1, 1)])
    shown = capsys.readouterr().err
    assert "(line 1): An answer." in shown
    assert shown.index("An answer.") < shown.rindex("answering")
