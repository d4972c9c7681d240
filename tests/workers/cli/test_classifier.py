import json
from pathlib import Path
from typing import Any

import pytest
from tests.workers.features.classifiers.labelled import WORDS, texts, write
from tests.workers.features.classifiers.test_chain import asking
from tests.workers.features.classifiers.test_chain import run as run_claim
from tests.workers.features.decisions.test_stage import Decider
from tests.workers.ledger_jobs import sqlite_ledger, take_in

from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.features.decisions.deciding import Decided, QuestionScores
from headrace_workers.models.registry import model_dir, read_card
from headrace_workers.testing import make_hash_embedder
from headrace_workers.wiring.command_line import run

pytestmark = pytest.mark.integration  # each trains several heads


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    monkeypatch.setenv("HEADRACE_EMBEDDER", "hash")
    make_hash_embedder(tmp_path)
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert run(["classifier", *arguments, "--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_a_classifier_is_trained_from_standard_input(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container, which sees no file of its host."""
    with write(home / "labels.jsonl", texts(600)).open() as file:
        monkeypatch.setattr("sys.stdin", file)
        made = told(capsys, "train", "kinds", "--data", "-", "--question", "kind", "--agreement", "0.9")
    assert (made["rows"], read_card(model_dir(home, "kinds")).engine) == (600, "classifier")


def test_a_classifier_is_trained_evaluated_listed_and_deleted(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = str(write(home / "labels.jsonl", texts(600)))
    made = told(
        capsys, "train", "kinds", "--data", data, "--question", "kind", "--agreement", "0.9", "--licence", "CC0-1.0",
        "--tenant", "acme",
    )  # fmt: skip
    assert made["agreement_bound"] >= 0.9
    assert (made["question"], made["labels"], made["rows"], made["held_out"]) == ("kind", sorted(WORDS), 600, 120)
    card = read_card(model_dir(home, "kinds"))
    assert (card.engine, card.licence, card.tenant) == ("classifier", "CC0-1.0", "acme")
    test = [*texts(300, seed=1), *[(f"zebra quartz {number}", None) for number in range(100)]]
    found = told(capsys, "evaluate", "kinds", "--data", str(write(home / "test.jsonl", test)), "--cost", "0.40")
    assert found["rows"] == 400
    assert 0.6 < found["share"] < 0.8  # most of the texts that it knows, and few of the others
    assert 0.98 < found["agreement_interval"][0] < found["agreement"] <= found["agreement_interval"][1]
    assert found["cost_after"] == pytest.approx(0.40 * (1 - found["share"]))
    assert 100 <= found["foreign"] < 150  # the others, and few of the texts that it knows
    shares = [threshold["share"] for threshold in found["thresholds"]]
    assert shares == sorted(shares, reverse=True)
    assert run(["classifier", "evaluate", "kinds", "--data", str(home / "test.jsonl")]) == 0
    shown = capsys.readouterr()
    assert "(its own)" in shown.out
    assert f"{found['foreign']} of 400 texts" in " ".join(shown.err.split())
    assert told(capsys, "list", "--tenant", "acme")["classifier"] == "kinds"
    assert run(["classifier", "list", "--tenant", "globex"]) == 0
    assert "no classifiers here" in capsys.readouterr().err
    assert run(["classifier", "delete", "kinds", "--tenant", "globex"]) != 0
    assert "no classifier is called 'kinds'; here are: none" in capsys.readouterr().err
    assert run(["classifier", "delete", "kinds", "--tenant", "acme"]) == 0
    assert not model_dir(home, "kinds").exists()


def test_data_that_is_too_small_writes_no_classifier(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = str(write(home / "labels.jsonl", texts(100)))
    arguments = ["classifier", "train", "kinds", "--data", data, "--question", "kind", "--agreement", "0.97"]
    assert run(arguments) != 0
    assert "395 labels are missing" in " ".join(capsys.readouterr().err.split())
    assert not model_dir(home, "kinds").exists()
    assert run([*arguments, "--from-decisions"]) != 0
    assert "either --data FILE or --from-decisions" in capsys.readouterr().err


def test_a_classifier_learns_from_the_decisions_of_a_larger_model(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with sqlite_ledger(home) as ledger:
        monkeypatch.setenv("HEADRACE_LEDGER", str(ledger.engine.url))
        _decide(ledger, texts(120))
        arguments = ["--from-decisions", "--tenant", "acme", "--question", "kind", "--agreement", "0.8"]
        made = told(capsys, "train", "kinds", *arguments)
        assert (made["rows"], made["instructions"]) == (120, "What is it about?")
        assert run(["classifier", "train", "kinds", *arguments[:-3], "urgency"]) != 0
        assert "no decision of acme with a question named 'urgency'" in " ".join(capsys.readouterr().err.split())


def _decide(ledger: Ledger, rows: list[tuple[str, Any]]) -> None:
    for text, label in rows:
        take_in(ledger, [asking(text, model="other", tenant="acme")])
        masses = tuple(0.8 if label == word else 0.1 for word in WORDS)
        run_claim(ledger, Decider(Decided((QuestionScores(masses, mass=0.9),), 40, 3), alias="other"))
