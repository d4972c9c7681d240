"""`headrace tune list`, `show` and `cancel`: the runs of jobs, asked from a shell."""

import json
from dataclasses import replace

import pytest
from tests.workers.cli.conftest import Call, job_id
from tests.workers.features.tuning.test_store import taken, write

from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.sql.database import writing
from headrace_workers.features.tuning.commands import _show
from headrace_workers.features.tuning.copies import copy_model
from headrace_workers.features.tuning.store import Checkpoint, RunEvent, RunWrite, begin_run
from headrace_workers.files.object_store import Store
from headrace_workers.models.registry import list_cards, read_card, write_card
from headrace_workers.runtime.settings import home_of
from headrace_workers.testing import make_echo_model


def test_a_recipe_that_is_run_shows_a_hundred_of_its_steps(capsys: pytest.CaptureFixture[str]) -> None:
    for step in range(1, 401):
        _show({"kind": "step", "step": step, "steps": 400, "loss": 0.5, "seconds_left": 61.0}, as_json=False)
    lines = capsys.readouterr().err.splitlines()
    assert (len(lines), lines[0]) == (100, "step 4 of 400, training loss 0.5000, 61 s left")


def test_runs_are_listed_newest_first(ledger: Ledger, call: Call) -> None:
    assert "no runs" in call("tune", "list")[2]
    first, second, other = taken(ledger, 1), taken(ledger, 2), taken(ledger, 3, "another")
    ids = [f"ftjob-{text}" for text in (other, second, first)]
    code, out, err = call("tune", "list", "--json")
    assert code == 0, err
    assert [json.loads(line)["id"] for line in out.splitlines()] == ids
    code, out, _ = call("tune", "list", "--tenant", "shop")
    assert [line.split()[:3] for line in out.splitlines() if "ftjob" in line] == [
        [run, "validating_files", "base"] for run in ids[1:]
    ]


def test_a_run_is_shown_with_its_losses_and_newest_events(ledger: Ledger, call: Call) -> None:
    run = taken(ledger)
    steps = [RunEvent(f"step {n}", data={"step": n, "train_loss": 3.0 - n / 10}) for n in range(1, 21)]
    held_out = [RunEvent(f"held out {n}", data={"step": n, "valid_loss": loss}) for n, loss in ((0, 2.0), (20, 1.5))]
    checkpoint = Checkpoint(20, "tuning/20", "a" * 64, {"train_loss": 1.0})
    write(ledger, RunWrite(run, "running", [*steps, *held_out, RunEvent("a [bold] word", "warn")], [checkpoint]))
    code, out, err = call("tune", "list", f"ftjob-{run}", "--limit", "2")
    assert code == 0, err
    assert f"ftjob-{run} of shop is running" in out
    assert "training loss 2.9000 █" in out
    assert "▁ 1.0000, steps 1 to 20" in out
    assert "held-out loss 2.0000 █▁ 1.5000, steps 0 to 20" in out
    assert "goes on from the checkpoint of step 20" in out
    lines = [line for line in out.splitlines() if "held out" in line or "[bold]" in line]
    assert [" ".join(line.split()[2:]) for line in lines] == ["info held out 20", "warn a [bold] word"]
    shown = json.loads(call("tune", "list", run, "--json")[1])
    assert (shown["status"], shown["events"][0]["message"], len(shown["events"])) == ("running", "a [bold] word", 20)
    assert [item["step_number"] for item in shown["checkpoints"]] == [20]


def test_a_run_is_cancelled_once(ledger: Ledger, call: Call) -> None:
    run = taken(ledger)
    code, out, err = call("tune", "cancel", run, "--json")
    assert (code, json.loads(out)["status"]) == (0, "cancelled")
    assert f"ftjob-{run} is cancelled" in err
    code, _, err = call("tune", "cancel", run)
    assert code == 1
    assert "too late" in err


def test_a_tuned_model_is_deleted_unless_it_is_used(ledger: Ledger, call: Call) -> None:
    home = home_of()
    folder = make_echo_model(home, "ft-base")
    write_card(folder, replace(read_card(folder), tenant="shop"))
    make_echo_model(home, "base")
    copy_model(home, Store.at(str(home / "files")), "ft-base")
    for arguments in (("base",), ("ft-none",), ("ft-base", "--tenant", "another")):
        code, out, err = call("models", "delete", *arguments)
        assert (code, out) == (2, "")
        assert f"is called '{arguments[0]}'" in err
    with writing(ledger.engine) as tx:
        begin_run(tx, job_id(9), "shop", b'{"model": "ft-base", "training_file": "file-1"}')
    code, _, err = call("models", "delete", "ft-base")
    assert (code, job_id(9) in err, "learns from it" in err) == (1, True, True)
    write(ledger, RunWrite(job_id(9), "failed", changes={"finished_at": 1}))
    code, _, err = call("models", "delete", "ft-base", "--tenant", "shop")
    assert code == 0, err
    assert [card.alias for card in list_cards(home)] == ["base"]
    assert [path.name for path in (home / "files").rglob("*.*")] == ["copy.json"]


@pytest.mark.parametrize("command", ["list", "cancel"])
def test_a_run_that_is_not_there_or_another_tenant_s_is_said_to_be_unknown(
    ledger: Ledger, call: Call, command: str
) -> None:
    run = taken(ledger)
    for arguments in ((job_id(1),), (run, "--tenant", "another")):
        code, out, err = call("tune", command, *arguments)
        assert (code, out) == (1, "")
        assert "`headrace tune list` shows all" in err
