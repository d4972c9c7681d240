import json
from io import BytesIO

import pytest
from tests.workers.features.batches.running import Running, dead, text_of

from headrace_schemas import DeadLetter, JobCancelled, Result
from headrace_workers.cli.jobfile import JobFile
from headrace_workers.cli.waiting import LedgerJobs
from headrace_workers.core.job_defaults import Defaults
from headrace_workers.features.access.store.quotas import Quotas
from headrace_workers.features.batches.commands.batch_files import Deployment
from headrace_workers.features.batches.commands.run import ByContent
from headrace_workers.features.batches.commands.run_batch import FileBatch, NoEnds, name_of_run
from headrace_workers.features.batches.store.transactions import Batches
from headrace_workers.files.object_store import Store
from headrace_workers.files.service import Files
from headrace_workers.files.store.stored import StoredFiles

DEFAULTS = Defaults("echo", {"tenant": "a", "lane": "batch"})


@pytest.fixture
def running(ledger, tmp_path):
    return Running(ledger, tmp_path)


def jobs(*prompts, **fields):
    return [{"prompt": prompt, **fields} for prompt in prompts]


def call(running, lines, answered=(), store=None):
    """A call of `run` with a file of these lines, of which so many have their receipts already."""
    stream = BytesIO(text_of(lines))
    file = JobFile(stream, "jobs.jsonl", DEFAULTS, ByContent())
    todo = [entry for entry in file.check() if entry.line not in answered]
    here = Deployment(running.ledger, Files(running.ledger.of(StoredFiles), store or running.store), 60.0)
    return FileBatch(
        here, file, LedgerJobs(running.ledger), tenant="a", entries=todo, run=name_of_run(stream, DEFAULTS, "")
    )


def carried(running, file, make=None):
    found = []
    for _ in range(50):
        found += file.turn()
        if file.done:
            break
        running.turn()
        running.end(*([make] if make else []))
    assert file.done
    assert len({receipt.line for receipt in found}) == len(found)
    return {receipt.line: receipt for receipt in found}


def test_receipts_come_as_jobs_end(running):
    file = call(running, [*jobs("a"), b"", *jobs("b", "c")])
    assert file.turn() == []
    running.turn()
    assert running.end(limit=1) == 1
    running.turn()
    (first,) = file.turn()
    assert isinstance(first.event, Result)
    rest = carried(running, file)
    assert {first.line, *rest} == {1, 3, 4}
    assert "custom_id" not in json.loads(first.to_json())
    assert file.turn() == []


def test_a_call_that_was_killed_is_gone_on_with(running):
    lines = jobs("a", "b", "c")
    killed = call(running, lines)
    killed.turn()
    running.turn()
    running.end(limit=1)
    running.turn()
    (first,) = killed.turn()
    rest = carried(running, call(running, lines, answered={first.line}))
    assert {first.line, *rest} == {1, 2, 3}
    assert set(carried(running, call(running, lines))) == {1, 2, 3}
    assert (len(running.ledger.of(Batches).batches()), len(running.jobs())) == (1, 3)


def test_lines_may_be_added_while_the_first_call_s_batch_runs(running):
    lines = jobs("a", "b", "c")
    call(running, lines).turn()
    running.turn()
    assert set(carried(running, call(running, [*lines, *jobs("d")]))) == {1, 2, 3, 4}
    assert len(running.jobs()) == 4


def test_what_the_first_call_asked_in_part_is_asked_for_whole_elsewhere(running):
    lines = jobs("a", "b", "c")
    assert set(carried(running, call(running, lines[:1]))) == {1}
    assert set(carried(running, call(running, lines, answered={1}))) == {2, 3}
    assert set(carried(running, call(running, lines))) == {1, 2, 3}
    assert len(running.jobs()) == 3


def test_a_batch_whose_files_are_gone_is_asked_anew(running):
    lines = jobs("a", "b")
    carried(running, call(running, lines))
    running.settle()
    (batch,) = running.ledger.of(Batches).batches()
    running.files.remove(batch.output_file)
    assert set(carried(running, call(running, lines))) == {1, 2}
    assert len(running.jobs()) == 2


def test_a_dead_job_s_receipt_is_its_dead_letter_as_a_whole(running):
    """With what was asked, so that it can be replayed."""
    receipt = carried(running, call(running, jobs("a")), dead)[1]
    assert isinstance(receipt.event, DeadLetter)
    assert (receipt.event.category, receipt.refused) == ("permanent", False)
    assert json.loads(receipt.event.original)["prompt"] == "a"


def test_what_is_refused_at_the_door_has_a_receipt_that_tells_what_it_said(running):
    line = {"prompt": "a", "deadline": "2020-01-01T00:00:00Z", "idempotency_key": "k"}
    file = call(running, [line])
    (job_id,) = file.open
    receipt = carried(running, file)[1]
    assert (receipt.refused, receipt.job_id, receipt.event.category) == (True, job_id, "expired")
    assert json.loads(receipt.event.original)["deadline"] == "2020-01-01T00:00:00Z"
    corrected = carried(running, call(running, [{**line, "deadline": None}]))[1]
    assert (corrected.job_id, corrected.answered) == (job_id, True)
    late = carried(running, call(running, [line]))[1]  # it was answered in time: that holds
    assert (late.job_id, late.answered) == (job_id, True)


def test_a_line_that_was_refused_is_sent_again_by_the_next_call(running):
    running.ledger.of(Quotas).put("a", 10, "ever")
    lines = jobs("a", "b")
    for _ in range(2):
        receipts = carried(running, call(running, lines))
        assert {line: receipt.refused for line, receipt in receipts.items()} == {1: True, 2: True}
    running.ledger.of(Quotas).remove("a")
    receipts = carried(running, call(running, lines))
    assert {line: receipt.answered for line, receipt in receipts.items()} == {1: True, 2: True}
    assert len(running.jobs()) == 2


def test_a_key_of_another_job_is_refused(running):
    carried(running, call(running, jobs("a", idempotency_key="k")))
    receipt = carried(running, call(running, jobs("b", idempotency_key="k")))[1]
    assert (receipt.refused, receipt.event.category) == (True, "conflict")


def test_a_batch_that_is_cancelled_ends_all_lines(running):
    file = call(running, jobs(*map(str, range(600))))
    file.turn()
    running.turn()
    (batch,) = running.ledger.of(Batches).batches()
    running.ledger.of(Batches).cancel(batch.id)
    running.settle()
    receipts = carried(running, file)
    assert len(receipts) == 600
    assert {type(receipt.event) for receipt in receipts.values()} == {JobCancelled}


def test_a_bridge_that_reads_other_files_is_told(running, tmp_path):
    """Nothing is tried for ever. Mended, the same call goes on."""
    lines = jobs("a")
    file = call(running, lines, store=Store.at(str(tmp_path / "elsewhere")))
    for _ in range(2):
        assert file.turn() == []
        running.settle()
        assert file.turn() == []
    with pytest.raises(NoEnds, match=r"1 lines got no end: its input was deleted .*HEADRACE_FILES"):
        file.turn()
    assert set(carried(running, call(running, lines))) == {1}
