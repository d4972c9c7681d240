"""Temperatures: how they are fitted, what is said of them, and which decisions they hold for."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rich.status import Status
from tests.workers.ledger_jobs import sqlite_ledger

from headrace_schemas import Message
from headrace_schemas.decision import Choice, Predicate
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.features.decisions.calibration import (
    OWN,
    SHARED,
    Row,
    calibrate,
    error_of,
    fit,
    fit_bias,
    without_labels,
)
from headrace_workers.features.decisions.deciding import Decided, DecisionRequest, QuestionScores, decide_all
from headrace_workers.features.decisions.temperatures import (
    Calibration,
    Calibrations,
    digest_of,
    fingerprint,
    temperatures_of,
    tempered,
)
from headrace_workers.models.engines.echo import EchoGenerator, make_echo_model
from headrace_workers.models.registry import Registry
from headrace_workers.wiring.command_line import run

INPUT = (Message(role="user", content="The parcel has not come."),)
LATE = Predicate(type="predicate", instructions="The parcel is late.")


def rows(count: int, temperature: float, seed: int = 1) -> list[Row]:
    """Rows of a model whose probabilities are right at this temperature."""
    random = np.random.default_rng(seed)
    shares = random.dirichlet([1.0] * 3, count)
    right = [int(random.choice(3, p=share)) for share in shares]
    return [Row(tempered(tuple(share), 1 / temperature), place) for share, place in zip(shares, right, strict=True)]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_at_which_a_model_is_right_is_found(temperature: float) -> None:
    assert fit(rows(4_000, temperature)) == pytest.approx(temperature, rel=0.1)


def test_a_temperature_changes_how_sure_and_not_which() -> None:
    cold, same, hot = (tempered((0.7, 0.2, 0.1), value) for value in (0.5, 1.0, 4.0))
    assert same == pytest.approx((0.7, 0.2, 0.1))
    assert cold[0] > 0.7 > hot[0] > 1 / 3
    assert sum(cold) == pytest.approx(1) == sum(hot)
    assert tempered((1.0, 0.0), 2.0) == (1.0, 0.0)


def test_few_labels_share_a_temperature_and_fewer_have_none() -> None:
    found = calibrate({"own": rows(OWN, 3.0), "shared": rows(SHARED, 3.0, 2), "none": rows(SHARED - 1, 3.0, 3)})
    own, shared, none = found["own"], found["shared"], found["none"]
    assert (own.shared, shared.shared, none.calibration) == (False, True, None)
    assert own.calibration == Calibration(fit(rows(OWN, 3.0)))
    assert shared.calibration == Calibration(fit([*rows(OWN, 3.0), *rows(SHARED, 3.0, 2), *rows(SHARED - 1, 3.0, 3)]))


def test_the_error_is_that_of_rows_that_nothing_was_fitted_on() -> None:
    """Labels that say nothing about the probabilities make no model look calibrated by chance."""
    calibrated = calibrate({"q": rows(400, 4.0)})["q"]
    assert calibrated.before is not None
    assert calibrated.after is not None
    assert calibrated.before.low > calibrated.after.high
    assert calibrated.after.low <= calibrated.after.value <= calibrated.after.high
    sure = [Row((0.9, 0.1), place) for place in (0, 0, 0, 0, 1)]
    assert error_of(sure).value == pytest.approx(0.1)


def preferring(count: int, bias: tuple[float, ...], seed: int = 1) -> list[Row]:
    """Rows of a model that is right but for what it adds to the logarithm of each label."""
    random = np.random.default_rng(seed)
    shares = random.dirichlet([0.5] * len(bias), count)
    right = [int(random.choice(len(bias), p=share)) for share in shares]
    return [Row(tempered(tuple(share), 1.0, bias), place) for share, place in zip(shares, right, strict=True)]


def test_a_model_that_prefers_a_label_is_corrected() -> None:
    fitted = fit_bias(preferring(4_000, (3.0, 0.0, -3.0)))
    assert fitted.temperature == pytest.approx(1.0, rel=0.1)
    assert fitted.bias == pytest.approx((-3.0, 0.0, 3.0), abs=0.2)
    calibrated = calibrate({"q": preferring(OWN, (3.0, 0.0, -3.0))})["q"]
    assert calibrated.calibration is not None
    assert calibrated.calibration.bias
    assert calibrated.accuracy_before is not None
    assert calibrated.accuracy_after is not None
    assert calibrated.accuracy_after > calibrated.accuracy_before + 0.15


def test_a_bias_that_gains_nothing_on_other_rows_is_left_out() -> None:
    calibrated = calibrate({"q": rows(400, 3.0)})["q"]
    assert calibrated.calibration is not None
    assert calibrated.calibration.bias == ()
    assert calibrated.accuracy_after == calibrated.accuracy_before


@pytest.mark.parametrize("seed", range(5))
def test_a_model_that_answers_at_chance_is_not_called_calibrated(seed: int) -> None:
    """Its probabilities say nothing about the labels, of which one is much more frequent."""
    random = np.random.default_rng(seed)
    shares = random.dirichlet([1.0, 1.0], OWN)
    right = random.random(OWN) > 0.87
    calibrated = calibrate({"q": [Row(tuple(share), int(place)) for share, place in zip(shares, right, strict=True)]})[
        "q"
    ]
    assert (calibrated.calibration, calibrated.at_chance) == (None, True)
    assert calibrated.largest == pytest.approx(1 - right.mean())


def test_labels_that_no_row_has_and_certain_rows_are_fitted_as_well() -> None:
    certain = [Row((1.0, 0.0, 0.0), 0), Row((0.0, 1.0, 0.0), 1)] * OWN
    fitted = fit_bias(certain)
    assert np.isfinite([fitted.temperature, *fitted.bias]).all()
    calibrated = calibrate({"q": certain})["q"]
    assert (calibrated.accuracy_after, calibrated.largest) == (1.0, 0.5)
    assert calibrate({"q": [Row((0.9, 0.1), 0)] * OWN})["q"].largest == 1.0


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with sqlite_ledger(tmp_path) as found:
        yield found


def test_temperatures_hold_for_their_tenant_question_model_and_version(ledger: Ledger) -> None:
    other = Predicate(type="predicate", instructions="The parcel is here.")
    mark = fingerprint("echo/v1", "none")
    ledger.of(Calibrations).replace(
        "shop", "echo", mark, {digest_of(LATE): (Calibration(2.0, (0.5, -0.5)), 100), digest_of(other): (None, 3)}
    )

    def found(tenant: str, question: Predicate, version: str = "echo/v1") -> bool:
        temperatures = temperatures_of(ledger, "echo", lambda _alias: version)
        asked = [DecisionRequest(INPUT, (question,), tenant)]
        (plain,), (decided,) = decide_all(EchoGenerator(), asked), decide_all(EchoGenerator(), asked, temperatures)
        assert isinstance(plain, Decided)
        assert isinstance(decided, Decided)
        (before,), (after,) = plain.answers, decided.answers
        assert before is not None
        assert after is not None
        assert (after.probabilities != before.probabilities) is after.calibrated
        assert after.mass == before.mass
        assert after.raw == (before.probabilities if after.calibrated else ())
        return after.calibrated

    named = LATE.model_copy(update={"name": "late"})
    assert [found("shop", LATE), found("shop", named)] == [True, True]
    assert not any((found("bank", LATE), found("shop", other), found("shop", LATE, "echo/v2")))
    ledger.of(Calibrations).replace("shop", "echo", mark, {digest_of(LATE): (None, 3)})
    assert not found("shop", LATE)


def test_calibrating_from_a_shell(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_echo_model(tmp_path)
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    monkeypatch.setenv("HEADRACE_LEDGER", str(ledger.engine.url))
    question = LATE.model_dump(mode="json")
    data = tmp_path / "rows.jsonl"
    lines = [{"input": f"parcel {number}", "question": question, "answer": number % 3 > 0} for number in range(OWN)]
    data.write_text("\n".join(map(json.dumps, lines)))
    shown: list[str] = []
    monkeypatch.setattr(Status, "update", lambda _status, words: shown.append(words))
    assert run(["decisions", "calibrate", str(data), "--model", "echo", "--tenant", "shop", "--json"]) == 0
    (said,) = json.loads(capsys.readouterr().out)["questions"]
    assert (said["labels"], said["instructions"]) == (OWN, LATE.instructions)
    assert shown == [f"asking echo: {done} of {OWN} lines" for done in (64, OWN)]
    assert said["at_chance"]
    assert (said["temperature"], said["bias"]) == (None, None)
    assert said["largest"] == pytest.approx(0.66, abs=0.01)
    assert said["before"]["low"] <= said["before"]["value"] <= said["before"]["high"]
    written = json.loads(json.dumps(lines[0])) | {"answer": "perhaps"}
    data.write_text(json.dumps(written))
    assert run(["decisions", "calibrate", str(data), "--model", "echo"]) != 0
    assert "line 1" in capsys.readouterr().err


def test_choices_are_corrected_without_labels_by_texts_without_content(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_echo_model(tmp_path)
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    monkeypatch.setenv("HEADRACE_LEDGER", str(ledger.engine.url))
    choice = {"type": "choice", "instructions": "What is it?", "choices": [{"value": "bill"}, {"value": "a threat"}]}
    data = tmp_path / "choices.jsonl"
    data.write_text(json.dumps({"question": choice}) + "\n")
    command = ["decisions", "calibrate", str(data), "--model", "echo", "--tenant", "shop", "--content-free"]
    assert run([*command, "--json"]) == 0
    (said,) = json.loads(capsys.readouterr().out)["questions"]
    assert (said["labels"], said["temperature"], len(said["bias"])) == (0, 1.0, 2)
    question = Choice.model_validate(choice)
    version = Registry(tmp_path).version
    temperatures = temperatures_of(ledger, "echo", version)
    asked = [DecisionRequest((Message(role="user", content="N/A"),), (question,), "shop")]
    (decided,) = decide_all(EchoGenerator(), asked, temperatures)
    assert isinstance(decided, Decided)
    (answer,) = decided.answers
    assert isinstance(answer, QuestionScores)
    assert (answer.calibrated, answer.calibration is not None) == (False, True)
    data.write_text(json.dumps({"question": LATE.model_dump(mode="json")}))
    assert run(command) != 0
    assert "has a predicate, and --content-free is for choices" in capsys.readouterr().err


def test_the_bias_without_labels_makes_texts_without_content_equally_likely_to_be_anything() -> None:
    said = (0.7, 0.2, 0.1)
    fitted = without_labels([said, said])
    assert tempered(said, fitted.temperature, fitted.bias) == pytest.approx((1 / 3,) * 3)
