"""`headrace dataset export`: the folder that it writes, and what it refuses."""

import hashlib
import json
import stat

from pydantic_core import to_json
from sqlalchemy import insert
from tests.workers.core.ledger.rows import write
from tests.workers.features.datasets.test_export import answered

from headrace_workers.features.evals.tables import ITEMS, RUNS
from headrace_workers.features.reviews.tables import REVIEW_RULES


def test_the_folder_has_the_sides_their_lineage_and_a_card(ledger, call, tmp_path):
    """Rows of the tenant's evals are removed; nobody else may read the files."""
    for number in range(20):
        answered(ledger, number)
    for number, tenant in ((1, "a"), (2, "b")):
        run = insert(RUNS).values(
            id=f"r{number}", eval=number, eval_id=f"eval_{number}", tenant=tenant, name="n", testing_criteria="[]",
            data_source="{}", metadata="{}", state="completed", created_at=1,
        )  # fmt: skip
        write(ledger, run)
        row = {"q": [f"What is the colour of house number {number}?"]}
        write(ledger, insert(ITEMS).values(run=number, number=0, item=json.dumps(row), created_at=1))
    folder = tmp_path / "set"
    options = ["--from-model", "large", "--tenant", "a", "--near", "0", "--held-out", "0.2"]
    code, printed, said = call("dataset", "export", str(folder), *options, "--json")
    assert code == 0, said
    card = json.loads(printed)
    assert card["removed"] == {"leaked": 1}
    assert card["models"] == {"large": {"rows": 19, "licence": "unknown"}}
    assert card["rows"]["train"] + card["rows"]["held_out"] == 19
    train = (folder / "train.jsonl").read_bytes()
    assert hashlib.sha256(train).hexdigest() == card["sha256"]["train.jsonl"]
    first = json.loads(train.splitlines()[0])
    assert [turn["role"] for turn in first["messages"]] == ["user", "assistant"]
    lineage = [json.loads(line) for line in (folder / "lineage.jsonl").read_text().splitlines()]
    assert (lineage[0]["file"], lineage[0]["line"], lineage[0]["application"]) == ("train.jsonl", 1, "triage@3")
    assert "eval_1" in (folder / "removed.jsonl").read_text()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    code, _, said = call("dataset", "export", str(folder), *options)
    assert (code, "exists already" in said) == (2, True)


def test_texts_of_a_tenant_that_trains_no_model_are_refused(ledger, call, tmp_path):
    """Also answers of a model, and copies that were made before."""
    answered(ledger)
    rules = to_json({"tenants": {"a": {"training": False}}}).decode()
    write(ledger, insert(REVIEW_RULES).values(scope="", digest="d", rules=rules, set_at=1))
    code, _, said = call("dataset", "export", str(tmp_path / "set"), "--from-model", "large", "--tenant", "a")
    assert code == 2
    assert "`training = false`" in said
    assert not (tmp_path / "set").exists()


def test_a_request_without_examples_says_what_to_do(ledger, call, tmp_path):
    code, _, said = call("dataset", "export", str(tmp_path / "set"), "--tenant", "a")
    assert code == 1
    assert "headrace review next" in said


def test_rules_that_remove_all_examples_are_named(ledger, call, tmp_path):
    answered(ledger, knowledge="handbook")
    code, _, said = call("dataset", "export", str(tmp_path / "set"), "--from-model", "large", "--tenant", "a")
    assert code == 1
    assert "all 1 examples of the tenant a were removed: unusable 1" in said
