import io
import json
from pathlib import Path

import pytest
from tests.workers.cli.conftest import Call
from tests.workers.features.evals.runs import answered

from headrace_schemas.job import derive_job_id
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.sql.database import clock, writing
from headrace_workers.core.tables import JOBS
from headrace_workers.features.applications.store import Applications
from headrace_workers.models.engines.echo import make_echo_model
from headrace_workers.runtime.settings import home_of

FILE = """
[problem]
purpose = "Send a ticket to the right queue."
owner = "support"
task = "classification"
metric = "right"

[model]
name = "echo"

[[prompt.messages]]
role = "user"
text = "Which queue? {{ text }}"

[prompt.variables.text]
type = "text"

[test]
dataset = "tickets.jsonl"
gate = "new >= production - 0.1"

[[test.criteria]]
name = "right"
criterion = "contains"
text = "yes"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The file of an application, its dataset beside it, and a home with the model that it names."""
    folder = tmp_path / "apps"
    folder.mkdir()
    rows = [{"text": f"ticket {number}", "reference": "refunds"} for number in range(60)]
    (folder / "tickets.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "triage.toml").write_text(FILE)
    make_echo_model(home_of(), "echo")
    return folder / "triage.toml"


def change(file: Path, word: str) -> None:
    """Change the prompt: the file is another version now."""
    file.write_text(FILE.replace("Which queue?", word))


def pushed(call: Call, file: Path, *versions: str) -> None:
    """Push a version for each of these prompts."""
    for word in versions:
        change(file, word)
        assert call("apps", "push", str(file))[0] == 0


def test_a_file_becomes_a_version_and_the_same_file_the_same_one(call: Call, ledger: Ledger, file: Path) -> None:
    code, said, told = call("apps", "push", str(file))
    assert (code, said, "`headrace apps test triage` tests it" in told) == (0, "triage@1\n", True)
    assert "warning" not in told
    change(file, "Where to?")
    assert json.loads(call("apps", "push", str(file), "--json")[1])["version"] == 2
    change(file, "Which queue?")
    code, said, told = call("apps", "push", str(file))
    assert (code, said, "triage@1 has this content already" in told) == (0, "triage@1\n", True)


def test_a_version_is_pushed_from_standard_input(
    call: Call, ledger: Ledger, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from a container, which sees no file of its host."""
    alone = FILE.partition("[test]")[0]
    for content, code in ((alone, 0), (FILE, 2), ("#" * 1_000_001, 2)):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
        ended, said, told = call("apps", "push", "-", "--name", "triage")
        assert (ended, said) == (code, "" if code else "triage@1\n"), told
        assert not code or told.startswith("headrace: standard input"), told
    for wrong in (["-"], [str(file), "--name", "triage"]):
        assert call("apps", "push", *wrong)[0] == 2


def test_a_wrong_file_among_several_lets_none_be_pushed(call: Call, ledger: Ledger, file: Path) -> None:
    wrong = file.with_name("wrong.toml")
    wrong.write_text(FILE.replace("{{ text }}", "{{ body }}"))
    code, _, told = call("apps", "push", str(file), str(wrong), str(file.with_name("none.toml")))
    assert code == 2
    assert "wrong.toml, line 13: prompt.messages 1.text: " in told.replace("\n", " ")
    assert "none.toml is no file" in told
    assert "nothing was pushed" in told
    assert ledger.of(Applications).listed() == []


def test_push_names_each_dangling_reference_with_its_line(call: Call, ledger: Ledger, file: Path) -> None:
    judge = '\n[[test.criteria]]\ncriterion = "rubric"\nname = "kind"\nquestion = "Is it kind?"\nmodel = "wise"\n'
    text = FILE.replace('"echo"', '"ecko"') + judge + '\n[knowledge]\nbase = "help"\n'
    file.write_text(text)
    code, _, told = call("apps", "push", str(file), "--tenant", "shop")
    assert code == 0
    model, judge, base = (text[: text.index(name)].count("\n") + 1 for name in ('"ecko"', '"wise"', '"help"'))
    assert f"triage.toml, line {model}: no model is called 'ecko'; known are: echo" in told
    assert f"triage.toml, line {judge}: no model is called 'wise'" in told
    assert f"triage.toml, line {base}: shop has no knowledge base 'help'" in told
    file.rename(file.with_name("echo.toml"))
    assert "a model or chain is called 'echo', too" in call("apps", "push", str(file.with_name("echo.toml")))[2]


def test_a_label_is_moved_rolled_back_and_has_a_history(call: Call, ledger: Ledger, file: Path) -> None:
    pushed(call, file, "One?", "Two?", "Three?")
    assert "triage@next is version 3 now" in call("apps", "label", "triage", "next")[2]
    assert "triage@next is version 3 already" in call("apps", "label", "triage", "next", "--by", "ada")[2]
    told = call("apps", "label", "triage", "next", "--version", "2", "--by", "ada", "--why", "slow")[2]
    assert "triage@next is version 2 now, and was 3" in told
    moves = [json.loads(line) for line in call("apps", "list", "triage", "--history", "--json")[1].splitlines()]
    assert [(m["label"], m["from_number"], m["to_number"], m["why"]) for m in moves] == [
        ("next", 3, 2, "slow"), ("next", None, 3, None),
    ]  # fmt: skip
    assert moves[0]["who"] == "ada"
    for version in "12":
        call("apps", "label", "triage", "production", "--version", version, "--without-gate", "a try")
    assert (
        "triage@production is version 1 again, and was 2" in call("apps", "label", "triage", "production", "--back")[2]
    )
    said = call("apps", "list", "triage", "--history")[1]
    assert ("rollback" in said, "skipped" in said, "a try" in said) == (True, True, True)
    code, _, told = call("apps", "label", "triage", "production", "--back")
    assert (code, "has named no other version before" in told) == (1, True)


@pytest.mark.parametrize(("label", "told"), [("3", "beginning with a letter"), ("a b", "must be 1 to 64 of A-Z")])
def test_a_label_that_could_be_a_version_is_refused(
    call: Call, ledger: Ledger, file: Path, label: str, told: str
) -> None:
    pushed(call, file, "One?")
    code, _, said = call("apps", "label", "triage", label)
    assert (code, f"the label {label!r}" in said, told in said) == (2, True, True)


def test_production_moves_only_to_a_version_that_passed_with_the_models_of_now(
    call: Call, ledger: Ledger, file: Path
) -> None:
    pushed(call, file, "One?")
    move = ("apps", "label", "triage", "production")
    code, _, told = call(*move)
    assert (code, "triage@1 was never tested: `headrace apps test triage --version 1`" in told) == (1, True)
    applications = ledger.of(Applications)
    applications.note_test("default", "triage", 1, False, {}, {})
    assert "did not pass its last test" in call(*move)[2]
    applications.note_test("default", "triage", 1, True, {"echo": "echo/before"}, {})
    assert "was tested before the model echo changed" in call(*move)[2]
    assert applications.listed()[0].labels == {}
    code, _, told = call(*move, "--without-gate", "the first one")
    assert (code, "triage@production is version 1 now" in told) == (0, True)
    (made,) = applications.history("default", "triage", 9)
    assert (made.gate, made.why) == ("skipped", "the first one")
    file.write_text(FILE.partition("[test]")[0].replace("Which", "What"))
    call("apps", "push", str(file))
    assert "triage@2 has no [test]" in call(*move)[2]
    assert call(*move, "--without-gate", " ")[0] == call("apps", "label", "triage", "x", "--without-gate", "y")[0] == 2


def test_an_application_of_another_scope_is_named(call: Call, ledger: Ledger, file: Path) -> None:
    call("apps", "push", str(file), "--shared")
    code, _, told = call("apps", "label", "triage", "next")
    assert (code, "default has no application triage; there is one with --shared" in told) == (1, True)
    assert call("apps", "label", "triage", "next", "--shared")[0] == 0
    assert json.loads(call("apps", "list", "--json")[1]) | {"pushed_at": 0} == {
        "application": "triage", "tenant": None, "newest": 1, "pushed_at": 0, "labels": {"next": 1},
    }  # fmt: skip
    assert call("apps", "list", "triage", "--history")[0] == 0
    code, _, told = call("apps", "list", "none")
    assert (code, "`headrace apps list` shows those that there are" in told) == (1, True)
    assert call("apps", "list", "--tenant", "shop", "--shared")[0] == 0
    assert call("apps", "label", "triage", "next", "--shared", "--tenant", "shop")[0] == 2


def test_a_version_that_is_pulled_is_the_same_when_it_is_pushed(
    call: Call, ledger: Ledger, file: Path, tmp_path: Path
) -> None:
    pushed(call, file, "One?", "Two?")
    call("apps", "label", "triage", "next", "--version", "1")
    assert call("apps", "pull", "triage@next")[0] == 0
    pulled = tmp_path / "triage.toml"
    assert call("apps", "push", str(pulled))[1] == "triage@1\n"
    code, _, told = call("apps", "pull", "triage@2")
    assert (code, "triage.toml is there, and is another" in told) == (2, True)
    assert call("apps", "pull", "triage@2", "-o", "-")[1] != pulled.read_text()
    assert "triage has no label production" in call("apps", "pull", "triage")[2]


def _receipts(folder: Path, score: float, *lines: int) -> None:
    """Write the receipts of these jobs of a test, as a deployment would."""
    jobs = [json.loads(line) for line in (folder / "jobs.jsonl").read_text().splitlines()]
    with (folder / "receipts.jsonl").open("ab") as file:
        for line in lines:
            receipt = json.loads(answered(line, (score,)))
            receipt["job_id"] = derive_job_id("default", jobs[line - 1]["idempotency_key"])
            file.write(json.dumps(receipt, separators=(",", ":")).encode() + b"\n")


def test_a_version_that_passes_its_test_may_become_production(
    call: Call, ledger: Ledger, file: Path, tmp_path: Path
) -> None:
    pushed(call, file, "One?")
    test = ("apps", "test", "triage", "--no-start", "-o")
    code, _, told = call(*test, "first")
    assert (code, "--no-start needs a running" in told) == (2, True)
    jobs = [json.loads(line) for line in (tmp_path / "first" / "jobs.jsonl").read_text().splitlines()]
    assert (len(jobs), jobs[0]["application"], jobs[0]["variables"]) == (60, "triage@1", {"text": "ticket 0"})
    assert (jobs[0]["reference"], "sampling" in jobs[0]) == ("refunds", False)
    _receipts(tmp_path / "first", 1.0, *range(1, 61))
    code, said, told = call(*test, "first")
    assert (code, "gate new >= 0.5: passed; right: 1 (" in said) == (0, True)
    assert "no other version is in production, so the gate is new >= 0.5" in told
    assert call("apps", "label", "triage", "production")[0] == 0
    assert ledger.of(Applications).history("default", "triage", 1)[0].gate == "passed"

    pushed(call, file, "Two?")
    call(*test, "second")
    jobs = [json.loads(line) for line in (tmp_path / "second" / "jobs.jsonl").read_text().splitlines()]
    assert [job["application"] for job in jobs[:2]] == ["triage@1", "triage@2"]
    _receipts(tmp_path / "second", 1.0, *range(1, 121, 2))
    _receipts(tmp_path / "second", 0.0, *range(2, 121, 2))
    code, said, _ = call(*test, "second")
    assert (code, "gate new >= production - 0.1: not passed; right: -1" in said) == (1, True)
    code, _, told = call("apps", "label", "triage", "production")
    assert (code, "triage@2 did not pass its last test" in told) == (1, True)


def test_a_test_names_rows_that_a_version_does_not_take_and_another_dataset(
    call: Call, ledger: Ledger, file: Path
) -> None:
    dataset, test = file.with_name("tickets.jsonl"), ("apps", "test", "triage", "--no-start")
    dataset.write_text('{"text": "a"}\n{"body": "b"}\n')
    pushed(call, file, "One?")
    code, _, told = call(*test)
    assert (code, "tickets.jsonl:2: new: variables.text: is missing" in told) == (2, True)
    dataset.write_text('{"text": "a"}\n')
    code, _, told = call(*test)
    assert (code, "is not the dataset that triage@1 was pushed with: push the file again" in told) == (2, True)
    code, _, told = call(*test, "--folder", "elsewhere")
    assert (code, "tickets.jsonl cannot be read" in told) == (2, True)


def test_what_is_shown_of_a_version_is_of_its_own_jobs(call: Call, ledger: Ledger, file: Path) -> None:
    pushed(call, file, "One?", "Two?")
    call("apps", "push", str(file), "--shared")
    call("apps", "label", "triage", "next", "--version", "1")
    receipt = json.loads(answered(1, (1.0,)).decode())
    receipt["cost"] = {"amount": 1_500_000, "currency": "EUR"}
    failed = {"judge": {"scores": [{"criterion": "contains", "name": "right", "value": 0.2}]}}
    rows = [
        ("default", {}, 100, receipt), ("default", {"a": "b"}, 300, failed), ("mill", {}, 900, receipt),
        ("default", {"evaluation": "5f2c9d1e8a7b"}, 900, receipt),
    ]  # fmt: skip
    with writing(ledger.engine) as tx:
        now = clock(tx)
        for number, (tenant, metadata, took, terminal) in enumerate(rows):
            tx.execute(
                JOBS.insert().values(
                    id=str(number), tenant=tenant, kind="generation", state="done", payload=b"{}",
                    application="triage@1", sent=json.dumps({"metadata": metadata}).encode(),
                    accepted_at=now - took, ended_at=now,
                    terminal=json.dumps(terminal).encode(),
                )
            )  # fmt: skip
    shown = json.loads(call("apps", "list", "triage", "--json")[1])
    assert (shown["owner"], shown["labels"]) == ("support", {"next": 1})
    assert [version["version"] for version in shown["versions"]] == [2, 1]
    assert shown["versions"][1]["last_7_days"] == {
        "jobs": 2, "completed": 2, "judged": 2, "passed": 1, "p50_ms": 200.0, "p95_ms": 290.0, "cost": 1_500_000,
        "currency": "EUR",
    }  # fmt: skip
    assert (
        json.loads(call("apps", "list", "triage", "--shared", "--json")[1])["versions"][0]["last_7_days"]["jobs"] == 1
    )
    said = call("apps", "list", "triage")[1]
    assert all(text in said for text in ("Send a ticket", "owner support", "next 1", "50.0% of 2", "1.50 EUR"))


@pytest.mark.usefixtures("ledger")
def test_the_review_rules_of_the_newest_version_are_shown(call: Call, file: Path) -> None:
    pushed(call, file, "One?")
    assert "review rules" not in call("apps", "list", "triage")[1]
    assert json.loads(call("apps", "list", "triage", "--json")[1])["review"] is None
    rules = '[[review.rules]]\nname = "low"\nshare = 0.5\npeople = 2\nbelow = { criterion = "right", value = 0.5 }\n'
    file.write_text(FILE + rules + '[[review.rules]]\nname = "audit"\nshare = 0.05\n')
    call("apps", "push", str(file))
    words = "low (50 % of answers with right below 0.5, people: 2); audit (5 % of answers)"
    assert f"review rules: {words}" in call("apps", "list", "triage")[1].replace("\n", " ")
    assert json.loads(call("apps", "list", "triage", "--json")[1])["review"]["rules"][1] == {
        "name": "audit", "share": 0.05,
    }  # fmt: skip


def test_status_names_an_application_that_a_model_hides(call: Call, ledger: Ledger, file: Path) -> None:
    pushed(call, file, "One?")
    assert "triage" not in call("status")[1]
    make_echo_model(home_of(), "triage")
    told = json.loads(call("status", "--json")[1])
    assert told["hidden_applications"] == [{"application": "triage", "tenant": "default"}]
    assert "a model or chain of the same name hides" in call("status")[1]
