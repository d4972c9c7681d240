import gzip
import io
import json
from pathlib import Path

import pytest
from tests.workers.features.batches.running import DEFAULTS, Running, dead, jobs, text_of

from headrace_workers.features.batches.commands.batch_files import Changed, Deployment
from headrace_workers.features.batches.new_batch import BatchOptions
from headrace_workers.features.batches.store.transactions import Batches
from headrace_workers.features.webhooks.registering import Wanted, register
from headrace_workers.features.webhooks.signing import Sealer
from headrace_workers.features.webhooks.store.webhooks import Webhooks
from headrace_workers.features.webhooks.targets import Reach
from headrace_workers.files.store.stored import StoredFiles


@pytest.fixture
def running(ledger, tmp_path):
    """The duty of a bridge over the ledger and the files of the command line."""
    return Running(ledger, tmp_path / ".headrace")


@pytest.fixture
def submitted(call, monkeypatch):
    monkeypatch.setenv("HEADRACE_MODEL", "echo")
    monkeypatch.setenv("HEADRACE_TENANT", "a")

    def submit(data, *options, name="jobs.jsonl"):
        Path(name).write_bytes(data if isinstance(data, bytes) else text_of(data))
        code, out, err = call("batch", "submit", name, *options)
        assert code == 0, err
        return out.strip()

    return submit


def test_a_file_is_submitted_once(submitted, running, call):
    first = submitted(jobs(3))
    assert submitted(jobs(3)) == first
    assert len({first, submitted(jobs(3), "--name", "b"), submitted(jobs(3), "--answer-tokens", "9")}) == 3
    assert len(running.ledger.of(StoredFiles).files("a")) == 3  # what was not needed was not stored
    code, out, _ = call("batch", "status", "--json")
    assert code == 0
    assert [json.loads(line)["status"] for line in out.splitlines()] == ["validating"] * 3


def test_results_are_read_while_it_runs_and_in_order(submitted, running, call):
    batch_id = submitted(jobs(9))
    running.turn()
    assert call("batch", "results", batch_id) == (0, "", "")
    running.end(limit=4)
    running.turn()
    code, out, _ = call("batch", "results", batch_id)
    assert (code, len(out.splitlines())) == (0, 4)
    running.run()
    code, _, err = call("batch", "results", batch_id, "-o", "answers.jsonl", "--in-order")
    assert code == 0, err
    assert "completed: 9 of 9" in err
    assert [json.loads(line)["line"] for line in Path("answers.jsonl").read_text().splitlines()] == list(range(1, 10))


def test_errors_tell_line_and_reason(submitted, running, call):
    batch_id = submitted([b"{", {"prompt": "x"}])
    running.run(dead)
    code, out, _ = call("batch", "results", batch_id, "--errors", "--in-order")
    assert code == 0
    assert [(json.loads(line)["line"], json.loads(line)["error"]["code"]) for line in out.splitlines()] == [
        (1, "invalid"), (2, "permanent"),
    ]  # fmt: skip
    code, out, _ = call("batch", "status", batch_id)
    assert code == 0
    assert "failed: 2 of 2" in out
    assert "1 not answered: permanent" in out


def test_cancelling_says_how_it_stands(submitted, running, call):
    batch_id = submitted(jobs(3))
    running.turn()
    assert call("batch", "cancel", batch_id)[0] == 0
    running.settle()
    assert running.batch(batch_id).state == "cancelled"
    done = submitted(jobs(1))
    running.run()
    assert call("batch", "cancel", done)[0] == 1


def test_a_folder_is_a_batch_for_each_file(call, running, monkeypatch):
    monkeypatch.setenv("HEADRACE_MODEL", "echo")
    Path("in").mkdir()
    Path("in/b.jsonl.gz").write_bytes(gzip.compress(text_of(jobs(5))))
    Path("in/a.jsonl").write_bytes(text_of(jobs(2)))
    Path("in/notes.txt").write_text("no jobs")
    code, out, err = call("batch", "submit", "in", "--json")
    assert code == 0, err
    assert [json.loads(line)["request_counts"]["total"] for line in out.splitlines()] == [2, 5]
    Path("in/b0.jsonl").write_text("\n")  # it stops none of the others
    code, out, err = call("batch", "submit", "in")
    assert (code, len(out.splitlines())) == (1, 2)
    assert "in/b0.jsonl: the file has no lines" in err
    Path("in/b0.jsonl").unlink()
    Path("in/a.jsonl").unlink()
    Path("in/b.jsonl.gz").unlink()
    code, _, err = call("batch", "submit", "in")
    assert code == 2
    assert "has no file that ends in .jsonl" in err


def test_whom_a_batch_tells_is_named_and_shown(submitted, running, call):
    endpoint = registered(running.ledger)
    for place in ("https://shop.example/hooks", endpoint):
        batch_id = submitted(jobs(1), "--callback", place)
        assert f"its end is told to {place}" in call("batch", "status", batch_id)[1]
    before = len(running.ledger.of(Batches).batches())
    code, out, err = call("batch", "submit", "jobs.jsonl", "--callback", "shop.example")
    assert (code, out) == (2, "")
    assert "--callback is 'shop.example'; it must be a URL" in err
    for more in ((), ("--dry-run",)):
        code, out, err = call("batch", "submit", "jobs.jsonl", "--callback", "we_5f0c1d2e3a4b5c6d7e8f9a0b", *more)
        assert (code, out) == (2, "")
        assert "has registered no webhook endpoint we_5f0c1d2e3a4b5c6d7e8f9a0b" in err
        code, out, err = call("batch", "submit", "jobs.jsonl", "--callback", "https://10.0.0.1/", *more)
        assert (code, out) == (2, "")
        assert "callback.url: webhooks may not go there: 10.0.0.1 is not a public address" in err
    assert len(running.ledger.of(Batches).batches()) == before == 2


def registered(ledger):
    wanted = Wanted(tenant="a", url="https://shop.example/hooks", events=())
    return register(ledger.of(Webhooks), Sealer(), Reach(), wanted).endpoint.id


def test_another_tenants_batch_is_none(submitted, running, call):
    batch_id = submitted(jobs(1))
    assert call("batch", "status", batch_id, "--tenant", "a")[0] == 0
    code, _, err = call("batch", "status", batch_id, "--tenant", "b")
    assert code == 1
    assert f"there is no batch '{batch_id}'" in err


def test_what_cannot_be_submitted_is_told(call, running):
    Path("table.jsonl").write_text("question,answer\nName three rivers.,Oder\n")
    Path("torn.jsonl.gz").write_bytes(gzip.compress(text_of(jobs(3)))[:-1])
    torn = "torn.jsonl.gz cannot be decompressed: it ends in the middle; it can be read up to line 3"
    for arguments, words in (
        (["nowhere.jsonl"], "nowhere.jsonl cannot be read: No such file"),
        (["torn.jsonl.gz"], torn),
        (["torn.jsonl.gz", "--dry-run"], torn),
        (["table.jsonl"], "table.jsonl looks like CSV; headrace takes JSON Lines"),
        (["table.jsonl", "--dry-run"], "table.jsonl looks like CSV; headrace takes JSON Lines"),
        (["empty.jsonl"], "empty.jsonl: the file has no lines"),
        (["empty.jsonl", "--window", "soon"], "'soon' is not a duration"),
        (["empty.jsonl", "--window", "0h"], "--window is '0h'; it must be more than 0"),
        (["empty.jsonl", "--window", "31d"], "--window is '31d'; it must be more than 0 and at most 30d"),
        (["empty.jsonl", "--tenant", "a b"], "'a b' cannot name a tenant"),
    ):
        Path("empty.jsonl").write_text("\n")
        code, out, err = call("batch", "submit", *arguments)
        assert (code, out) == (2, "")
        assert words in err
    assert running.ledger.of(StoredFiles).files("default") == []


def test_watching_ends_with_the_batch(submitted, running, call):
    good, bad = submitted(jobs(2)), submitted([b"{", *jobs(1)])
    running.run()
    code, _, err = call("batch", "status", good, "--watch")
    assert code == 0
    assert "completed: 2 of 2" in err
    assert call("batch", "status", bad, "--watch")[0] == 1


class Growing(type(Path())):
    """A file to which somebody adds a line each time that it is opened."""

    def open(self, *arguments, **options):
        with Path(self).open("ab") as file:
            file.write(b'{"prompt": "one more"}\n')
        return Path(self).open(*arguments, **options)


def test_a_file_that_changes_while_it_is_read_is_refused(running, tmp_path):
    path = Growing(tmp_path / "jobs.jsonl")
    path.write_bytes(text_of(jobs(3)))
    here = Deployment(running.ledger, running.files, 60.0)
    with pytest.raises(Changed, match="was changed while it was read"):
        here.submit(path, "jobs.jsonl", BatchOptions(tenant="a", defaults=DEFAULTS))
    assert running.ledger.of(StoredFiles).files("a") == running.ledger.of(Batches).batches() == []
    assert running.store.objects("a") == []


def test_standard_input_is_a_file_too(call, running, monkeypatch):
    monkeypatch.setenv("HEADRACE_MODEL", "echo")
    ids = []
    for _ in range(2):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text_of(jobs(4)))))
        code, out, err = call("batch", "submit", "-")
        assert code == 0, err
        ids.append(out.strip())
    Path("jobs.jsonl").write_bytes(text_of(jobs(4)))
    assert {call("batch", "submit", "jobs.jsonl")[1].strip(), *ids} == {ids[0]}
    assert running.batch(ids[0]).total == 4


def test_a_device_that_takes_nothing_is_named(submitted, running, call):
    batch_id = submitted(jobs(1))
    running.run()
    code, _, err = call("batch", "results", batch_id, "-o", "/dev/full")
    assert code == 2
    assert "/dev/full cannot be written: No space left on device" in err
