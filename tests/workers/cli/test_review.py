"""`headrace review`: the queue as the command line tells it, and on a terminal."""

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from select import select as select_readable

import pytest
from sqlalchemy import select, update
from tests.services.need import need
from tests.workers.cli.conftest import Call
from tests.workers.core.ledger.rows import write
from tests.workers.features.reviews.review_rows import FOUND, SAID, answer, ended, held

from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.tables import STEPS
from headrace_workers.features.quality.tables import LABELS
from headrace_workers.features.reviews.hooks import ReviewQueue, ReviewUpkeep
from headrace_workers.features.reviews.rules import EXAMPLE
from headrace_workers.features.reviews.tables import REVIEW_ASSIGNMENTS, REVIEW_ITEMS

KNOWN = {"verdict": json.loads(FOUND.model_dump_json()), "said": SAID}
ANN = ("--tenant", "a", "--who", "ann")

Keys = Callable[[str], None]


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> Keys:
    """Says which keys the person presses, on what passes for a terminal."""
    pressed: list[str] = []
    monkeypatch.setattr("typer.getchar", lambda: pressed.pop(0))
    monkeypatch.setattr("headrace_workers.features.reviews.commands._is_terminal", lambda: True)
    return pressed.extend


def labels(ledger: Ledger) -> list[tuple[str, str, float]]:
    return [tuple(row) for row in ledger.read(select(LABELS.c.who, LABELS.c.about, LABELS.c.value))]


def state(ledger: Ledger, item_id: str) -> str:
    return str(ledger.read(select(REVIEW_ITEMS.c.state).where(REVIEW_ITEMS.c.id == item_id))[0][0])


def step(ledger: Ledger, job_id: str) -> str:
    return str(ledger.read(select(STEPS.c.state).where(STEPS.c.job_id == job_id))[0][0])


def test_elsewhere_than_on_a_terminal_the_next_item_is_printed(call: Call, ledger: Ledger):
    _, item_id = ended(ledger)
    code, out, said = call("review", "next", *ANN)
    shown = json.loads(out)
    assert (code, said, shown["id"], shown["answer"], shown["scores"]) == (0, "", item_id, SAID, [])
    code, out, said = call("review", "next", "--tenant", "a", "--who", "bob", "--json")
    assert (code, out, "no item waits for you" in said) == (1, "", True)


def test_a_script_decides_about_the_item_that_it_was_given(call: Call, ledger: Ledger):
    _, item_id = ended(ledger)
    assert call("review", "decide", item_id, "--label", "good=yes", *ANN)[0] == 1  # nobody was given it
    call("review", "next", *ANN)
    for _ in range(2):  # the second is a repetition
        code, out, _ = call(
            "review", "decide", item_id, "--label", "good=yes", "--category", "spam=0.25", *ANN, "--json"
        )
        assert (code, json.loads(out)["state"]) == (0, "done")
    assert sorted(labels(ledger)) == [("ann", "good", 1.0), ("ann", "spam", 0.25)]
    code, _, said = call("review", "decide", item_id, "--label", "good=no", "--revision", "2", *ANN)
    assert (code, "revision 2" in said) == (0, True)
    (listed,) = call("review", "list", "--mine", *ANN, "--json")[1].splitlines()
    assert json.loads(listed)["decision"]["revision"] == 2
    assert call("review", "decide", item_id, "--undo", *ANN)[0] == 0
    assert (labels(ledger), state(ledger, item_id)) == ([], "open")


def test_a_script_corrects_a_held_answer(call: Call, ledger: Ledger, tmp_path: Path):
    job_id, item_id = held(ledger, known=KNOWN)
    call("review", "next", *ANN)
    (tmp_path / "better.txt").write_text("Write to us.")
    code, _, said = call("review", "decide", item_id, "--correct", "better.txt", *ANN)
    assert (code, "correct is recorded" in said, step(ledger, job_id)) == (0, True, "ready")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--release", "--withhold"), "give one of them"),
        (("--label", "good"), "write NAME=yes"),
        (("--label", "good=maybe"), "write NAME=yes"),
        (("--label", "good=2"), "write NAME=yes"),
        (("--label", "good=nan"), "write NAME=yes"),
        (("--correct", "nowhere.txt"), "cannot be read"),
        (("--who", ""), "--who is ''"),
        ((), "labels is empty"),
    ],
)
def test_wrong_options_of_a_decision_are_named(call: Call, ledger: Ledger, words: tuple[str, ...], told: str):
    _, item_id = ended(ledger)
    code, _, said = call("review", "decide", item_id, "--tenant", "a", *words)
    assert (code, told in said) == (2, True), said


def test_an_item_of_another_tenant_is_not_there(call: Call, ledger: Ledger):
    _, item_id = ended(ledger)
    for command in (
        ("decide", item_id, "--label", "good=yes"),
        ("decide", item_id, "--skip"),
        ("decide", item_id, "--undo"),
    ):
        code, _, said = call("review", *command, "--tenant", "b", "--who", "ann")
        assert (code, "there is no such review item" in said) == (1, True), said
    assert call("review", "next", "--tenant", "b")[0] == 1
    assert call("review", "list", "--tenant", "b", "--json")[1] == ""


def test_items_are_listed(call: Call, ledger: Ledger):
    _, first = ended(ledger, made_at=100)
    job_id, second = held(ledger, made_at=200)
    rows = [json.loads(line) for line in call("review", "list", "--tenant", "a", "--json")[1].splitlines()]
    assert [(row["id"], row["rule"], "answer" in row) for row in rows] == [
        (second, "held", False), (first, "audit", False),
    ]  # fmt: skip
    code, out, said = call("review", "list", "--tenant", "a", "-n", "1")
    assert (code, second in out, first in out, job_id in out) == (0, True, False, True)
    assert "only the 1 newest are shown" in said
    assert first in call("review", "list", "--tenant", "a", "--rule", "audit")[1]
    assert call("review", "list", "--mine", "--rule", "audit")[0] == 2
    assert "there are no such items" in call("review", "list", "--tenant", "a", "--state", "done")[2]


def test_ended_answers_are_exported_with_their_probability_and_no_verdict(call: Call, ledger: Ledger):
    _, one = ended(ledger, made_at=100)
    ended(ledger, made_at=150, state="done")
    held(ledger, made_at=200, known=KNOWN)
    (line,) = call("review", "list", "--export", "--tenant", "a")[1].splitlines()
    row = json.loads(line)
    assert (row["id"], row["probability"], row["rule"], row["answer"]) == (one, 0.25, "audit", SAID)
    assert (row["scores"], row["verdict"]) == ([], None)


def test_progress_is_shown_with_what_is_missing(call: Call, ledger: Ledger):
    ended(ledger, made_at=ledger.now())
    code, out, _ = call("review", "stats", "--tenant", "a")
    assert (code, "audit" in out, "drawn" in out) == (0, True, True)
    told = json.loads(call("review", "stats", "--tenant", "a", "--json")[1])
    assert [row["rule"] for row in told["rules"]] == ["audit"]
    assert all(" ".join(sentence.split()[:3]) in out for sentence in told["words"])


def test_one_key_releases_a_held_job_and_the_next_item_follows(call: Call, ledger: Ledger, keys: Keys):
    job_id, item_id = held(ledger, known=KNOWN)
    _, labelled = ended(ledger)
    keys("xry")  # no key of these is x
    code, out, said = call("review", "next", *ANN)
    assert (code, said.endswith("no item waits for you\n2 decided\n")) == (0, True), said
    assert "Write to ⟦jo@headrace.io⟧." in out
    assert "finding: email (review), by d, 0.90" in out
    assert "held for: why" in out
    assert (step(ledger, job_id), state(ledger, item_id), state(ledger, labelled)) == ("ready", "done", "done")
    assert labels(ledger) == [("ann", "good", 1.0)]


def test_a_held_job_is_withheld_with_a_reason(call: Call, ledger: Ledger, keys: Keys, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("typer.prompt", lambda *_, **__: "names a customer")
    job_id, _ = held(ledger)
    keys("w")
    assert call("review", "next", *ANN)[0] == 0
    assert step(ledger, job_id) == "dead"


def test_a_held_answer_is_corrected_in_the_editor(
    call: Call, ledger: Ledger, keys: Keys, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """An editor that changes nothing, and one that fails, decide nothing."""
    job_id, _ = held(ledger)
    editor = tmp_path / "my editor.py"
    editor.write_text("import sys; open(sys.argv[1], 'w').write('Write to us.\\n')")
    commands = iter(["true", "/nowhere/vi", f"{sys.executable} '{editor}'"])
    monkeypatch.setattr("headrace_workers.features.reviews.terminal._editor", lambda: next(commands))
    keys("ccc")
    code, _, said = call("review", "next", *ANN)
    assert (code, "the text is as it was" in said, "EDITOR names another" in said) == (0, True, True)
    assert step(ledger, job_id) == "ready"
    code, out, _ = call("review", "list", "--mine", *ANN, "--json")
    assert json.loads(out)["decision"]["corrected"] == "Write to us."


def test_the_last_answer_is_revised_and_an_item_is_skipped(call: Call, ledger: Ledger, keys: Keys):
    _, first = ended(ledger)
    _, second = ended(ledger, rank=2**50 + 1)
    keys("y" + "bn" + "s")
    code, out, said = call("review", "next", *ANN)
    assert (code, said.endswith("no item waits for you\n1 decided\n")) == (0, True), said
    assert labels(ledger) == [("ann", "good", 0.0)]
    assert "your decision: label good 1" in out
    assert out.count("score: helpful: 0.30") == 1  # only of the answer that was decided
    assert out.count(f"item: {second}") == 2
    assert (state(ledger, first), state(ledger, second)) == ("done", "open")


def test_q_keeps_the_item_for_later(call: Call, ledger: Ledger, keys: Keys):
    _, item_id = ended(ledger)
    keys("q")
    assert call("review", "next", *ANN)[2].endswith("0 decided\n")
    assert json.loads(call("review", "next", *ANN, "--json")[1])["id"] == item_id


def test_an_item_that_others_took_is_told_and_passed(call: Call, ledger: Ledger, keys: Keys, monkeypatch):
    _, item_id = ended(ledger)

    def pressed() -> str:
        write(ledger, update(REVIEW_ASSIGNMENTS).where(REVIEW_ASSIGNMENTS.c.item_id == item_id).values(lease=1))
        return next(said)

    said = iter("yq")
    monkeypatch.setattr("typer.getchar", pressed)
    code, _, told = call("review", "next", *ANN)
    assert (code, "the item is not yours under this lease" in told, "0 decided" in told) == (0, True, True)


def test_a_text_cannot_steer_the_terminal(call: Call, ledger: Ledger, keys: Keys):
    ended(ledger, shown=answer("red\x1b[31m \x9b2J"))
    keys("q")
    _, out, _ = call("review", "next", *ANN)
    assert "answer: red\ufffd[31m \ufffd2J" in out
    assert "\x1b" not in out
    assert "\x9b" not in out


@pytest.mark.integration
def test_a_person_reviews_on_a_real_terminal(ledger: Ledger, tmp_path: Path):
    _, item_id = ended(ledger)
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(tmp_path)
        os.environ["COLUMNS"] = "200"
        os.execv(sys.executable, [sys.executable, "-m", "headrace_workers", "review", "next", *ANN])
    shown = until(terminal, b"quit] ")
    assert item_id in shown
    assert "1 decided" in until(terminal, b"decided", press=b"y")
    assert os.waitpid(child, 0)[1] == 0
    os.close(terminal)
    assert labels(ledger) == [("ann", "good", 1.0)]


def until(terminal: int, end: bytes, press: bytes = b"") -> str:
    """What the terminal shows until this. A key is pressed again while nothing comes of it: whatever is pressed before
    the program reads keys is thrown away.
    """
    seen = b""
    while end not in seen:
        os.write(terminal, press)
        if select_readable([terminal], [], [], 1.0)[0]:
            seen += os.read(terminal, 4096)
    return seen.decode()


STUDIO = (Path(__file__).parents[3] / "docs" / "how-to" / "label-studio.md").read_text("utf-8")


def filtered(folder: Path, text: str, *options: str) -> str:
    """What a jq program of the page makes of a text: the one that says what it does in this line."""
    program = next(block for block in re.findall(r"```jq\n(.*?)```", STUDIO, re.DOTALL) if options[-1] in block)
    (folder / "program.jq").write_text(program)
    command = [need(shutil.which("jq"), "jq is needed"), *options[:-1], "-f", folder / "program.jq"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


@pytest.mark.integration
def test_labels_come_back_from_label_studio_with_their_probability(call: Call, ledger: Ledger, tmp_path: Path):
    job_id, _ = ended(ledger, rule="studio")
    exported = call("review", "list", "--export", "--tenant", "a", "--rule", "studio")[1]
    (task,) = json.loads(filtered(tmp_path, exported, "-n", "to Label Studio's tasks"))
    assert (task["data"]["question"], task["data"]["answer"]) == ("How do I reach you?", SAID)
    annotation = {
        "id": 7, "was_cancelled": False, "created_at": "2026-03-09T22:16:08.728353Z", "completed_by": 10,
        "result": [
            {"from_name": "good", "to_name": "answer", "type": "choices", "value": {"choices": ["no"]}},
            {"from_name": "why", "to_name": "answer", "type": "textarea", "value": {"text": ["it is wrong"]}},
        ],
    }  # fmt: skip
    by_mail = {**annotation, "completed_by": {"id": 11, "email": "bea@headrace.io"}}
    skipped = {**annotation, "was_cancelled": True}
    annotated = json.dumps([{"id": 1, **task, "annotations": [annotation, by_mail, skipped]}])
    (tmp_path / "labels.jsonl").write_text(filtered(tmp_path, annotated, "-c", "lines for `headrace review import`"))
    assert "2 of 2 labels are new" in call("review", "import", "labels.jsonl", "--tenant", "a")[2]
    c = LABELS.c
    rows = ledger.read(select(c.job_id, c.who, c.about, c.value, c.probability, c.item))
    assert sorted(map(tuple, rows)) == [
        (job_id, "10", "good", 0.0, 0.25, None), (job_id, "bea@headrace.io", "good", 0.0, 0.25, None),
    ]  # fmt: skip


def test_the_rules_are_shown_as_a_bridge_copied_them(call: Call, ledger: Ledger, tmp_path: Path):
    file = tmp_path / "reviews.toml"
    file.write_text(EXAMPLE)
    assert "only held jobs enter the queue" in call("review", "rules")[1]
    keep_up = ReviewUpkeep(ledger.of(ReviewQueue), file, required=True)
    keep_up()
    code, shown, _ = call("review", "rules")
    assert code == 0
    assert "low (50 % of answers with helpful below 0.5)\n" in shown
    assert "no copies for training: acme" in shown
    assert call("review", "rules", "--file", str(file))[1] == shown
    file.write_text(EXAMPLE.replace("0.05", "5"))
    keep_up()
    code, shown, said = call("review", "rules", "--json")
    assert (code, [rule["name"] for rule in json.loads(shown)["rules"]]) == (1, ["low", "split", "audit"])
    assert "rules 3.share: must be at most 1" in json.loads(shown)["refused"]
    assert "these rules stay in force" in said
    assert "review rules" in call("status")[1]


def test_a_wrong_file_of_rules_is_refused_beforehand(call: Call, tmp_path: Path):
    file = tmp_path / "reviews.toml"
    file.write_text("peple = 1")
    code, _, said = call("review", "rules", "--file", str(file))
    assert code == 2
    assert f"{file}, line 1: peple: is no field" in " ".join(said.split())
