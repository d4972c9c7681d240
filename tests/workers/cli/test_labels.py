"""`headrace review labels` and `headrace quality`, over a ledger with judged jobs."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import update
from tests.workers.cli.conftest import Call
from tests.workers.ledger_jobs import take_in

from headrace_schemas import EvaluationJob, JudgeVerdict, Length, Result, Score
from headrace_schemas.codec import encode_value
from headrace_schemas.review import Review
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import JOBS
from headrace_workers.features.quality.store import add_reviews

WHEN = "2026-01-31T12:00:00.123Z"
FINER = "2026-01-31T12:00:00.123456Z"


@pytest.fixture
def jobs(ledger: Ledger) -> list[str]:
    """Four jobs that a criterion `right` says yes, yes, no and nothing of."""
    ids = take_in(
        ledger,
        [EvaluationJob(input="q", output=f"o{n}", criteria=(Length(),), idempotency_key=str(n)) for n in range(4)],
    )
    for job_id, value in zip(ids, (1.0, 1.0, 0.0, None), strict=True):
        score = Score(criterion="length", name="right", version="v1", value=value,
                      not_judged="failed" if value is None else None,
                      reason="not judged" if value is None else None)  # fmt: skip
        receipt = Result(job_id=job_id, tenant="default", status="completed", kind="evaluation",
                         accepted_at=datetime(2026, 1, 1, tzinfo=UTC), judge=JudgeVerdict(scores=(score,)))  # fmt: skip
        with writing(ledger.engine) as tx:
            end = {"state": "done", "ended_at": JOBS.c.accepted_at, "terminal": encode_value(receipt),
                   "terminal_type": "headrace.result.v1"}  # fmt: skip
            tx.execute(update(JOBS).where(JOBS.c.id == job_id).values(end))
    return ids


def line(job_id: str, label: bool | None = True, **fields: object) -> str:
    said = {"job_id": job_id, "criterion": "right", "label": label, "who": "ann", "when": WHEN, **fields}
    return json.dumps({name: value for name, value in said.items() if value is not None}) + "\n"


def test_labels_go_in_once_and_come_out_again(tmp_path: Path, jobs: list[str], call: Call) -> None:
    text = (
        line(jobs[0])
        + line(jobs[1], False, probability=0.5)
        + line(jobs[2], label=None, score=0.25, who="bob", when=FINER)
    )
    (tmp_path / "labels.jsonl").write_text(text)
    assert call("review", "import", "labels.jsonl")[::2] == (0, "3 of 3 labels are new\n")
    assert "0 of 3 labels are new" in call("review", "import", "labels.jsonl")[2]
    code, said, _ = call("review", "labels", "--export")
    assert (code, len(said.splitlines())) == (0, 3)
    (tmp_path / "again.jsonl").write_text(said)
    assert "0 of 3 labels are new" in call("review", "import", "again.jsonl")[2]
    listed = json.loads(call("review", "labels", "--json")[1])
    assert listed == {"tenant": "default", "criterion": "right", "labels": 3, "jobs": 3, "people": 2, "newest": WHEN}
    assert "right" in call("review", "labels")[1]


def test_a_wrong_line_keeps_all_out_and_an_unknown_job_only_itself(tmp_path: Path, jobs: list[str], call: Call) -> None:
    (tmp_path / "wrong.jsonl").write_text(line(jobs[0]) + "[]\n" + line(jobs[1], when="yesterday") + line("x"))
    code, _, told = call("review", "import", "wrong.jsonl")
    assert code == 2
    assert "3 labels are wrong, and nothing was taken in:\nwrong.jsonl:2: it must be a JSON object" in told
    assert "wrong.jsonl:3: when: must be an RFC 3339 time" in told
    assert call("review", "labels", "--json")[1] == ""
    (tmp_path / "other.jsonl").write_text(line(jobs[0]) + line(jobs[1], tenant="default"))
    code, _, told = call("review", "import", "other.jsonl", "--tenant", "shop")
    assert (code, "1 of 2 labels are new" in told) == (1, True)
    assert f"other.jsonl:1: tenant shop has no job {jobs[0]} that is still known" in told


def test_quality_says_what_it_can_and_why_not_the_rest(tmp_path: Path, jobs: list[str], call: Call) -> None:
    assert "there are no labels" in call("quality")[2]
    (tmp_path / "labels.jsonl").write_text(line(jobs[0]) + line(jobs[1], False) + line(jobs[2], False))
    call("review", "import", "labels.jsonl")
    found = json.loads(call("quality", "--json")[1])
    assert (found["criterion"], found["version"], found["labels"]) == ("right", "v1", 3)
    assert (found["verdicts"], found["jobs_with_both"]) == (3, 3)
    assert found["agreement"]["value"] == pytest.approx(2 / 3)
    assert found["precision"]["value"] == 0.5
    assert found["mean"]["reason"] == "3 labels; 100 are needed"
    assert found["reliability"] == {"reason": "verdicts say yes or no, and not how surely"}
    code, said, _ = call("quality", "--tenant", "default")
    assert code == 0
    assert "criterion right (v1):" in said
    assert "no α among people: one person labelled" in said
    assert "there are no labels" in call("quality", "--tenant", "shop")[2]


def test_labels_of_a_wrong_name_are_removed_alone(tmp_path: Path, jobs: list[str], call: Call) -> None:
    wrong = [line(jobs[n], criterion="rihgt", who=who) for n, who in ((0, "ann"), (1, "ann"), (0, "bob"))]
    (tmp_path / "labels.jsonl").write_text(line(jobs[0]) + "".join(wrong))
    call("review", "import", "labels.jsonl")
    for words, exit_code, said in (
        ((), 2, "give --criterion NAME, or --category NAME"),
        (("--criterion", "a", "--category", "b"), 2, "give --criterion NAME, or --category NAME"),
        (("--category", "rihgt"), 1, "there are no labels about the category 'rihgt' of default"),
        (("--criterion", "rihgt", "--tenant", "shop"), 1, "there are no labels about the criterion 'rihgt' of shop"),
        (("--criterion", "rihgt", "--who", "eve"), 1, "of the person 'eve'"),
    ):
        code, _, told = call("review", "unlabel", *words, "--yes")
        assert (code, said in told) == (exit_code, True), told
    assert call("review", "unlabel", "--criterion", "rihgt")[0] == 2  # nobody is there to be asked
    assert len(call("review", "labels", "--export")[1].splitlines()) == 4
    told = call("review", "unlabel", "--criterion", "rihgt", "--job", jobs[0], "--who", "bob", "--yes")[2]
    assert "1 label about the criterion 'rihgt' of default is removed" in told
    assert (
        "2 labels about the criterion 'rihgt' of default are removed"
        in call("review", "unlabel", "--criterion", "rihgt", "-y")[2]
    )
    (kept,) = call("review", "labels", "--export")[1].splitlines()
    assert json.loads(kept)["criterion"] == "right"
    assert "there are no labels" not in call("quality")[2]


def test_a_label_that_no_verdict_is_about_is_told(tmp_path: Path, ledger: Ledger, jobs: list[str], call: Call) -> None:
    (tmp_path / "labels.jsonl").write_text(line(jobs[0]) + line(jobs[0], criterion="rihgt"))
    assert call("review", "import", "labels.jsonl")[0] == 0
    for more in ((), ("--json",)):
        code, said, told = call("quality", *more)
        assert (code, "rihgt" in said) == (0, True)
        assert "default: people label the criterion 'rihgt', and no verdict is about it" in told
        assert "'right'" not in told
    assert "from 1 label alone: the judge gave no verdict" in call("quality")[1]
    of_queue = Review(job_id=jobs[0], criterion="good", label=True, who="ann", when=datetime.now(UTC))
    with writing(ledger.engine) as tx:
        add_reviews(tx, [of_queue], "an item")
    assert "'good'" not in call("quality")[2]


def test_quality_is_a_page_too(tmp_path: Path, jobs: list[str], call: Call) -> None:
    (tmp_path / "labels.jsonl").write_text(line(jobs[0]) + line(jobs[1], False))
    call("review", "import", "labels.jsonl")
    code, said, told = call("quality", "--html", "quality.html")
    assert (code, "the page: quality.html" in told, "criterion right" in said) == (0, True, True)
    assert "default, criterion right (v1)" in (tmp_path / "quality.html").read_text()
    assert json.loads(call("quality", "--html", "quality.html", "--json")[1])["labels"] == 2
    code, said, told = call("quality", "--html", "away/quality.html")
    assert (code, said, "away/quality.html cannot be written" in told) == (2, "", True)
