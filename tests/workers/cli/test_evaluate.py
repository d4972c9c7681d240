"""`headrace evaluate`: the folder that a run is kept in, and what it says at the end."""

import json
from pathlib import Path

import pytest
from tests.workers.cli.conftest import Call
from tests.workers.features.evals.runs import RUN, answered, dead

from headrace_schemas import Contains
from headrace_schemas.job import derive_job_id
from headrace_workers.cli.connections import RunningStack
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.sql.database import writing
from headrace_workers.features.generation.commands import serving
from headrace_workers.features.quality.tables import LABELS
from headrace_workers.models.engines.echo import make_echo_model

CALL = ("evaluate", "run.toml", "-o", "out", "--no-start")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "run.toml").write_text(RUN.format(more='cluster = "d"'))
    (tmp_path / "items.jsonl").write_text("".join(json.dumps({"q": f"q{n}", "d": "one"}) + "\n" for n in range(3)))
    return tmp_path


def answer(folder: Path, *lines: int, died: int = 0) -> None:
    """Receipts of these jobs, as a deployment would bring them; of the line `died` that it did."""
    jobs = [json.loads(line) for line in (folder / "out" / "jobs.jsonl").read_text().splitlines()]
    with (folder / "out" / "receipts.jsonl").open("ab") as file:
        for line in lines:
            receipt = json.loads(dead(line) if line == died else answered(line, (1.0, float(line % 2))))
            receipt["job_id"] = derive_job_id("default", jobs[line - 1]["idempotency_key"])
            file.write(json.dumps(receipt, separators=(",", ":")).encode() + b"\n")


def test_a_run_is_pinned_before_it_is_asked_and_gone_on_with(folder: Path, call: Call) -> None:
    code, _, told = call(*CALL)
    assert (code, "--no-start needs a running" in told) == (2, True)
    pinned = json.loads((folder / "out" / "run.json").read_text())
    assert pinned["run"]["margin"] == 0.02
    answer(folder, 1, 2, 3)
    code, _, told = call(*CALL)
    assert (code, "has 3 of 6 receipts already" in told) == (2, True)
    code, _, told = call(*CALL, "--wait", "0s")
    assert (code, "3 of 6 jobs have not ended yet" in told) == (1, True)
    answer(folder, 4, 5, 6)
    code, said, told = call(*CALL)
    assert (code, said.splitlines()[0][:24]) == (0, "right (primary): cannot ")
    report = json.loads((folder / "out" / "report.json").read_text())
    assert (report["identity"], report["without_end"], len(report["answers"])) == (pinned["identity"], 0, 3)
    assert "<!doctype html>" in (folder / "out" / "report.html").read_text()
    assert "# run" in (folder / "out" / "report.md").read_text()


def test_a_gate_is_the_exit_code(folder: Path, call: Call) -> None:
    call(*CALL)
    answer(folder, *range(1, 7))
    code, said, _ = call(*CALL, "--json", "--gate", "B >= A - 1")
    assert (code, json.loads(said)["gate"]["passed"]) == (0, True)
    code, said, _ = call(*CALL, "--json", "--gate", "B >= A + 0.5")
    assert (code, json.loads(said)["gate"]["passed"]) == (1, False)
    code, _, told = call(*CALL, "--gate", "C >= A")
    assert (code, "names 'C', and the variants are A, B" in told) == (2, True)


def test_why_answers_are_missing_is_said_at_once(folder: Path, call: Call) -> None:
    call(*CALL)
    answer(folder, *range(1, 7), died=1)
    assert "A: 1 without an answer: permanent at generate: too long\n" in call(*CALL)[1]


def test_a_folder_belongs_to_one_run(folder: Path, call: Call) -> None:
    """Neither a changed margin nor changed rows are mixed into it, and nothing that is somebody else's is touched."""
    call(*CALL)
    jobs = (folder / "out" / "jobs.jsonl").read_bytes()
    (folder / "run.toml").write_text(RUN.format(more="").replace("0.02", "0.5"))
    code, _, told = call(*CALL)
    assert (code, "out holds another run: cluster, margin changed" in told) == (2, True)
    (folder / "run.toml").write_text(RUN.format(more='cluster = "d"'))
    (folder / "items.jsonl").write_text('{"q": "new", "d": "one"}\n')
    code, _, told = call(*CALL)
    assert (code, "another run: dataset_sha256 changed" in told) == (2, True)
    assert (folder / "out" / "jobs.jsonl").read_bytes() == jobs
    (folder / "report.md").write_text("mine")
    code, _, told = call("evaluate", "run.toml", "-o", ".", "--no-start")
    assert (code, "has a report.md that is of no run" in told) == (2, True)
    assert not (folder / "jobs.jsonl").exists()


def test_a_criterion_that_changes_in_mid_run_changes_nothing_of_the_run(folder: Path, call: Call) -> None:
    call(*CALL)
    pinned = (folder / "out" / "jobs.jsonl").read_bytes()
    answer(folder, 1, 2, 3)
    before = (folder / "run.toml").read_text()
    (folder / "run.toml").write_text(before.replace('text = "yes"', 'text = "no"'))
    for more in ((), ("--wait", "0s")):
        code, _, told = call(*CALL, *more)
        assert (code, "out holds another run: criteria, criteria_sha256 changed" in told) == (2, True)
    assert (folder / "out" / "jobs.jsonl").read_bytes() == pinned
    assert not (folder / "out" / "report.json").exists()
    call("evaluate", "run.toml", "--no-start")
    (other,) = folder.glob("run-*/jobs.jsonl")
    versions = [
        {Contains.model_validate(json.loads(line)["criteria"][0]).version for line in text.splitlines()}
        for text in (pinned, other.read_bytes())
    ]
    assert (len(versions[0]), len(versions[1]), versions[0] & versions[1]) == (1, 1, set())
    keys = [
        {json.loads(line)["idempotency_key"] for line in text.splitlines()} for text in (pinned, other.read_bytes())
    ]
    assert not keys[0] & keys[1]  # or its jobs would be those that were judged by the one of before
    (folder / "run.toml").write_text(before)
    answer(folder, 4, 5, 6)
    assert call(*CALL)[0] == 0


def test_without_a_folder_each_run_has_its_own(folder: Path, call: Call) -> None:
    for more in ((), (), ("--name", "again")):
        call("evaluate", "run.toml", "--no-start", *more)
    assert len(list(folder.glob("run-*/jobs.jsonl"))) == 2


def test_rows_that_do_not_do_leave_nothing(folder: Path, call: Call) -> None:
    (folder / "items.jsonl").write_text('{"d": "one"}\n')
    code, _, told = call(*CALL)
    assert (code, "items.jsonl:1: variant A: the prompt cannot be filled: it lacks `q`" in told) == (2, True)
    assert list((folder / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "begins"), [("", "run-"), ("capitals", "capitals-"), ("../Q 1/é?", "Q-1-é-"), ("...", "evaluation-")]
)
def test_a_folder_is_called_by_the_run(folder: Path, call: Call, name: str, begins: str) -> None:
    """By its name where it has one, else by its file; a name that no folder may have becomes one, in this folder."""
    text = (folder / "run.toml").read_text()
    (folder / "run.toml").write_text(f"name = {json.dumps(name, ensure_ascii=False)}\n{text}" if name else text)
    call("evaluate", "run.toml", "--no-start")
    (made,) = [path.name for path in folder.iterdir() if path.is_dir()]
    assert made.startswith(begins)
    assert len(made) == len(begins) + 10


def test_labels_of_people_are_in_the_report(folder: Path, call: Call, ledger: Ledger) -> None:
    call(*CALL)
    answer(folder, *range(1, 7))
    call(*CALL)
    path = folder / "out" / "report.json"
    assert json.loads(path.read_text())["people"] == []
    jobs = [answers["variants"]["A"][0]["job_id"] for answers in json.loads(path.read_text())["answers"]]
    with writing(ledger.engine) as tx:
        for number, job_id in enumerate([*jobs, "of-another-run"]):
            tx.execute(LABELS.insert().values(
                id=f"l{number}", tenant="default", job_id=job_id, kind="criterion", about="right", value=1.0, who="ann",
                said_at=number, taken_at=number,
            ))  # fmt: skip
    call(*CALL)
    (people,) = json.loads(path.read_text())["people"]
    assert (people["criterion"], people["labels"], people["means"]["A"]["n_human"]) == ("right", 3, 3)


def test_a_model_that_the_running_stack_does_not_have_is_told_of_before_anything_is_asked(
    folder: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each of its jobs is refused, has its end, and is not asked again when the model is there."""
    there = RunningStack("apache", durable=True, kafka="k", redis="r", ledger="l", pid=7)
    monkeypatch.setattr(serving, "running", lambda: there)
    monkeypatch.setenv("HEADRACE_MODEL", "echo")
    code, _, told = call("evaluate", "run.toml", "-o", "out")
    assert (code, "(process 7) has no model 'echo': it has none. Nothing was asked" in told) == (2, True)
    assert "start it with `headrace up --model echo`" in told
    assert (folder / "out" / "receipts.jsonl").read_bytes() == b""
    make_echo_model(folder / ".headrace")
    serving.need_models(["echo"])
