"""A batch from its submission to its end: each line has one fate, which can be looked up."""

import gzip
import zlib
from datetime import UTC, datetime, timedelta

import pytest
import zstandard
from sqlalchemy import func, select, update
from tests.workers.features.batches.running import Running, dead, jobs, text_of, with_usage

from headrace_schemas import Category
from headrace_schemas.job import derive_job_id
from headrace_workers.core.clock import SystemClock
from headrace_workers.core.progress import Awaited
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import JOBS, NEVER, STEPS
from headrace_workers.core.text_file import NotReadable
from headrace_workers.features.batches.new_batch import EmptyInput, InputGone, NothingFailed, NotOver
from headrace_workers.features.batches.store.transactions import Batches
from headrace_workers.features.batches.tables import BATCHES, LINES
from headrace_workers.features.batches.views import Batch, progress_words
from headrace_workers.files.object_store import StoreUnavailable
from headrace_workers.files.store.stored import StoredFiles
from headrace_workers.runtime.wire.hints import Hint

pytestmark = pytest.mark.integration


def counts(batch):
    """Its counts: total, completed, failed."""
    return batch.total, batch.completed, batch.failed


def test_every_line_is_answered_once(running):
    batch_id = running.submit(jobs(25))
    assert running.batch(batch_id).state == "validating"
    running.turn()
    assert running.batch(batch_id).state == "in_progress"
    assert Hint.WORK in running.heard
    running.run()
    batch = running.batch(batch_id)
    assert (batch.state, counts(batch)) == ("completed", (25, 25, 0))
    assert (batch.prompt_tokens, batch.completion_tokens) == (75, 50)
    output = running.output(batch_id)
    assert [line["line"] for line in output] == list(range(1, 26))
    ids = [derive_job_id("a", f"batch:{batch_id}:{number}") for number in range(1, 26)]
    assert [line["job_id"] for line in output] == ids
    assert {line["type"] for line in output} == {"headrace.result.v1"}
    assert running.errors(batch_id) == []


def test_small_batches_behind_a_large_one_of_their_tenant_end_within_some_groups(running):
    large = running.submit(jobs(5_021))
    running.settle()
    small = [running.submit(jobs(count)) for count in (3, 5, 2)]
    for _ in range(4):
        running.turn()
        running.end(limit=32)
    running.turn(4)
    assert [running.batch(item).completed for item in small] == [3, 5, 2]
    assert 0 < running.batch(large).completed < 200


def test_a_lines_own_deadline_makes_it_urgent_and_the_end_of_its_batch_does_not(running):
    late = datetime.now(UTC) + timedelta(hours=1)
    batch_id = running.submit([*jobs(1), *jobs(1, deadline=late.isoformat())])
    running.turn()
    plain, own = running.ledger.read(select(STEPS.c.deadline, STEPS.c.due).order_by(STEPS.c.deadline.desc()))
    assert plain.due == NEVER
    assert plain.deadline == pytest.approx(running.batch(batch_id).expires_at, abs=2)
    assert own.due == own.deadline < plain.deadline


def test_answers_can_be_read_while_the_rest_runs(running):
    batch_id = running.submit(jobs(70))
    running.turn(2)
    assert running.ledger.claim is not None
    some = running.end(limit=10)
    assert 0 < some <= 70
    running.turn()
    assert len(running.output(batch_id)) == some
    assert running.batch(batch_id).completed == some


def test_lines_that_are_held_are_counted(running):
    batch_id, other = running.submit(jobs(5)), running.submit(jobs(3))
    running.turn()
    assert (running.batch(batch_id).held, Batch.of(running.batch(batch_id)).headrace.held) == (0, 0)
    ids = [derive_job_id("a", f"batch:{batch_id}:{number}") for number in (2, 4)]
    mine = update(STEPS).where(STEPS.c.job_id.in_(ids))
    with writing(running.ledger.engine) as tx:
        tx.execute(mine.values(state="held", held_at=1))
    batch = running.batch(batch_id)
    assert (batch.held, Batch.of(batch).headrace.held, running.batch(other).held) == (2, 2, 0)
    assert progress_words(batch) == "in_progress: 0 of 5, 2 held (`headrace review held` says why)"
    assert [row.held for row in running.ledger.of(Batches).batches("a")] == [0, 2]
    with writing(running.ledger.engine) as tx:
        tx.execute(mine.values(state="ready", held_at=None))
    running.run()
    batch = running.batch(batch_id)
    assert (batch.state, batch.held) == ("completed", 0)


def test_a_bad_line_stops_nothing(running):
    wrong = [
        b"{",
        b"",
        b"[1]",
        {"prompt": 1},
        {"prompt": "x", "model": "unknown"},
        b"\xff",
        {"prompt": "a", "tenant": "b"},
    ]
    batch_id = running.submit([{"prompt": "one"}, *wrong, {"prompt": "last"}])
    running.run()
    batch = running.batch(batch_id)
    assert (batch.state, counts(batch)) == ("completed", (8, 2, 6))
    assert running.errors(batch_id) == [(number, "invalid") for number in (2, 4, 5, 6, 7, 8)]
    reasons = {line["line"]: line["error"]["message"] for line in running.error_lines(batch_id)}
    assert "no JSON" in reasons[2]
    assert "not a list" in reasons[4]
    assert "prompt" in reasons[5]
    assert "no model is called 'unknown'" in reasons[6]
    assert "no UTF-8" in reasons[7]
    assert "the batch is 'a''s" in reasons[8]
    assert [line["line"] for line in running.output(batch_id)] == [1, 9]


def test_of_two_lines_of_one_name_the_first_is_run(running):
    lines = jobs(1_200)
    for number in (3, 7, 1_100):
        lines[number - 1]["idempotency_key"] = "the same"
    batch_id = running.submit(lines)
    running.run()
    assert running.errors(batch_id) == [(7, "duplicate_custom_id"), (1_100, "duplicate_custom_id")]
    (near, far) = running.error_lines(batch_id)
    assert "line 7 is called 'the same', and so is line 3" in near["error"]["message"]
    assert "line 1100 is called 'the same', and so is line 3" in far["error"]["message"]
    assert next(line for line in running.output(batch_id) if line["line"] == 3)["custom_id"] == "the same"


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
def test_what_is_compressed_is_read_as_it_is(running, pack):
    batch_id = running.submit(pack(text_of(jobs(1_100))))
    running.turn()
    assert 0 < running.batch(batch_id).taken < 1_100
    running.bulk.close()
    running.run()
    assert counts(running.batch(batch_id)) == (1_100, 1_100, 0)
    assert [line["line"] for line in sorted(running.output(batch_id), key=lambda line: line["line"])] == list(
        range(1, 1_101)
    )


def test_what_is_compressed_is_read_over_in_pieces(ledger, tmp_path, monkeypatch):
    running = Running(ledger, tmp_path, most=10_000, window=10_000)
    batch_id = running.submit(gzip.compress(text_of(jobs(1_100))))
    running.turn()
    assert running.batch(batch_id).taken == 500
    running.bulk.close()
    half = (running.batch(batch_id).position + 1) // 2
    monkeypatch.setattr("headrace_workers.features.batches.duty.SKIPPED_AT_ONCE", half)
    other = running.submit(jobs(3))
    running.turn()
    assert (running.batch(batch_id).taken, running.batch(other).taken) == (500, 3)
    running.turn()
    assert running.batch(batch_id).taken == 1_000
    running.run()
    assert counts(running.batch(batch_id)) == (1_100, 1_100, 0)


def test_a_line_of_which_no_end_is_in_sight_is_refused(running, monkeypatch):
    """Compressed it is small, and whoever looks for its end does nothing else meanwhile. One that came before there was
    this bound fails its batch, and the lines before it are answered.
    """
    limit = 2 * 1024**2
    packed = gzip.compress(text_of(jobs(2)) + b"x" * (2 * limit) + b"\n" + text_of(jobs(1)))
    batch_id = running.submit(packed)
    monkeypatch.setattr("headrace_workers.core.text_file.LONGEST_RUN", limit)
    with pytest.raises(
        NotReadable, match="the file has more than 2,097,152 bytes in line 3; headrace takes JSON Lines"
    ):
        running.submit(packed)
    running.run()
    batch = running.batch(batch_id)
    assert (batch.state, batch.completed) == ("failed", 2)
    assert batch.reason.startswith("the file has more than 2,097,152 bytes in line 3; ")


def test_what_is_spoilt_in_the_store_is_read_as_far_as_it_can_be(running, tmp_path):
    packed = gzip.compress(text_of([{"prompt": f"{number} {number * 7919 % 10_007}"} for number in range(2_000)]))
    batch_id = running.submit(packed)
    (path,) = (tmp_path / "files" / "a" / running.batch(batch_id).input_file).iterdir()
    path.write_bytes(packed[: len(packed) // 2])
    running.run()
    batch = running.batch(batch_id)
    assert batch.state == "failed"
    there = len(zlib.decompressobj(wbits=31).decompress(packed[: len(packed) // 2]).splitlines()[:-1])
    assert there % 500 > 0
    assert f"it ends in the middle; it can be read up to line {there:,}" in batch.reason
    assert batch.completed == len(running.output(batch_id)) == there
    assert running.errors(batch_id) == [(line, "batch_failed") for line in range(there + 1, 2_001)]


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
def test_what_is_torn_or_spoilt_is_not_stored(running, pack):
    packed = pack(text_of(jobs(1_000)))
    for data in (packed[:-1], packed[:30], packed[:200] + bytes(100) + packed[300:]):
        with pytest.raises(NotReadable, match="cannot be decompressed"):
            running.submit(data)
    assert running.ledger.of(StoredFiles).files("a") == running.store.objects("a") == []


def test_an_empty_file_is_refused(running):
    with pytest.raises(EmptyInput, match="no line"):
        running.submit(b"\n\n")


def test_only_so_many_lines_are_under_way(ledger, tmp_path):
    running = Running(ledger, tmp_path, most=100, window=80)
    first = running.submit(jobs(300))
    running.settle()
    assert running.batch(first).taken == 80
    second = running.submit(jobs(300))
    running.settle()
    assert (running.batch(first).taken, running.batch(second).taken) == (80, 20)
    running.end()  # of these both get their share
    running.settle()
    under_way = [batch.taken - batch.completed for batch in map(running.batch, (first, second))]
    assert under_way == [50, 50]
    running.run()
    assert {running.batch(item).state for item in (first, second)} == {"completed"}


def test_a_batch_of_which_everything_failed_has_failed(running):
    wrong, died = running.submit([b"{", b"{"]), running.submit(jobs(2))
    running.run(dead)
    assert {running.batch(item).state for item in (wrong, died)} == {"failed"}
    assert running.errors(died) == [(1, "permanent"), (2, "permanent")]
    assert running.error_lines(died)[0]["receipt"]["category"] == "permanent"


def test_cancelling_keeps_what_is_done_and_lets_go_of_the_rest(running):
    batch_id = running.submit(jobs(900))
    running.turn()
    done = running.end(limit=64)
    assert running.ledger.of(Batches).cancel(batch_id).state == "cancelling"
    running.settle()
    batch = running.batch(batch_id)
    assert (batch.state, counts(batch)) == ("cancelled", (900, done, 900 - done))
    assert len(running.output(batch_id)) == done
    assert {code for _, code in running.errors(batch_id)} == {"batch_cancelled"}
    assert len({line for line, _ in running.errors(batch_id)}) == 900 - done
    assert {row.state for row in running.jobs()} <= {"done", "cancelled"}
    assert running.ledger.of(Batches).cancel(batch_id).state == "cancelled"


def test_what_is_over_when_its_time_is_keeps_what_is_done(running):
    batch_id = running.submit(jobs(900))
    running.turn()
    done = running.end(limit=64)
    with writing(running.ledger.engine) as tx:  # an hour later
        tx.execute(update(STEPS).where(STEPS.c.state == "ready").values(deadline=1))
    running.set(batch_id, expires_at=1)
    running.ledger.reap(3)
    running.settle()
    running.ledger.reap(3)
    running.settle()
    batch = running.batch(batch_id)
    assert (batch.state, counts(batch)) == ("expired", (900, done, 900 - done))
    assert {code for _, code in running.errors(batch_id)} == {"batch_expired"}


def test_jobs_that_are_in_no_output_are_not_forgotten(running):
    running.submit(jobs(3))
    running.turn()
    running.end()
    with writing(running.ledger.engine) as tx:
        tx.execute(update(JOBS).values(ended_at=1))
    running.ledger.prune(1_000)
    assert len(running.jobs()) == 3
    running.settle()
    running.ledger.prune(1_000)
    assert running.jobs() == []


def test_a_disk_that_takes_nothing_is_waited_for(running, tmp_path):
    """It is told where people look, and nothing is lost or written twice."""
    batch_id = running.submit(jobs(3))
    running.turn()
    running.end()
    folder = tmp_path / "files" / "a"
    folder.rename(tmp_path / "aside")
    folder.write_text("in the way")
    running.turn(3)
    assert "HEADRACE_FILES" in str(running.bulk.waits)
    assert [trouble.subject for trouble in running.ledger.open_incidents()] == [f"batches {batch_id}"]
    folder.unlink()
    (tmp_path / "aside").rename(folder)
    running.run()
    assert running.bulk.waits is None
    assert running.ledger.open_incidents() == []
    assert [line["line"] for line in running.output(batch_id)] == [1, 2, 3]


def test_a_store_that_forgets_nothing_is_called_by_its_name(running, monkeypatch):
    file = running.files.add([b"x"], tenant="a", purpose="batch", name="x", keep=-1.0)
    monkeypatch.setattr(running.bulk, "_forgot_at", float("-inf"))
    with monkeypatch.context() as patched:
        patched.setattr(running.store, "remove", refuse)
        running.turn(2)
    assert running.bulk.waits == Awaited("the file store", "away")
    assert [trouble.reason for trouble in running.ledger.open_incidents()] == ["away"]
    running.turn(2)
    assert (running.bulk.waits, running.ledger.open_incidents()) == (None, [])
    assert running.ledger.of(StoredFiles).file(file.id) is None


def refuse(paths):
    if list(paths):
        raise StoreUnavailable("away")


def test_two_bridges_at_a_time_do_nothing_twice(running):
    batch_id = running.submit(jobs(1_000))
    mine, other = running.bulk, running.bridge()
    mine._duty.held_until = other._duty.held_until = float("inf")  # both believe that they have the duty
    for _ in range(6):
        before = running.ledger.of(Batches).unfinished()
        mine.once(running.heard.append)
        rows = before  # the other has read the same rows before
        for row in rows:
            other._go_on(row, 200, running.heard.append, lambda: None)
        running.end(limit=50)
    running.run()
    assert counts(running.batch(batch_id)) == (1_000, 1_000, 0)
    assert sorted(line["line"] for line in running.output(batch_id)) == list(range(1, 1_001))


def test_a_batch_and_its_lines_are_forgotten_behind_their_files(running):
    batch_id = running.submit(jobs(3))
    running.run()
    assert running.ledger.of(Batches).forget(-1_000) is False
    running.files.remove(running.batch(batch_id).output_file)
    while running.ledger.of(Batches).forget(-1_000):
        pass
    assert running.batch(batch_id) is None
    assert running.ledger.read(select(func.count()).select_from(LINES))[0][0] == 0


def test_the_same_submission_is_the_same_batch(running):
    first = running.submit(jobs(1), key="k")
    assert running.submit(jobs(1), key="k") == first
    assert running.submit(jobs(1)) != running.submit(jobs(1))


def test_a_cached_answer_is_counted(running):
    def served(row):
        event = with_usage(row)
        recall = {"tier": "exact", "age": 1.0}
        return event.model_validate({**event.model_dump(), "answer": {**event.answer.model_dump(), "recall": recall}})

    batch_id = running.submit(jobs(2))
    running.run(served)
    assert running.batch(batch_id).cached == 2


def test_an_input_that_was_deleted_fails_its_batch(running, tmp_path):
    batch_id = running.submit(jobs(900))
    running.turn()
    taken = running.batch(batch_id).taken
    running.bulk.close()
    for path in (tmp_path / "files" / "a" / running.batch(batch_id).input_file).iterdir():
        path.unlink()
    running.run()
    batch = running.batch(batch_id)
    assert (batch.state, batch.reason) == ("failed", "its input was deleted before it was read")
    assert counts(batch) == (900, taken, 900 - taken)
    assert running.errors(batch_id) == [(line, "batch_failed") for line in range(taken + 1, 901)]
    assert batch.reason in running.error_lines(batch_id)[0]["error"]["message"]


def killed(running, batch_id):
    """A bridge that was killed while it read on in a batch, and another in its place."""
    running.set(batch_id, crashes=BATCHES.c.crashes + 1)
    running.bulk.close()
    running.bulk._duty.held_until = float("-inf")
    running.bulk = running.bridge()
    running.bulk._duty.held_until = float("inf")


def test_bridges_that_are_killed_at_other_lines_each_time_fail_no_batch(running):
    batch_id = running.submit(jobs(2_100))
    for _ in range(4):
        killed(running, batch_id)
        running.turn()
        running.end()
    running.run()
    assert counts(running.batch(batch_id)) == (2_100, 2_100, 0)


def test_lines_behind_the_one_that_kills_bridges_are_named_in_the_error_file(running):
    batch_id = running.submit([{"idempotency_key": f"n{number}", **job} for number, job in enumerate(jobs(600), 1)])
    running.turn()
    taken = running.batch(batch_id).taken
    for _ in range(3):
        killed(running, batch_id)
    running.run()
    batch = running.batch(batch_id)
    assert batch.reason.startswith(f"the bridge ended 3 times while it read on after line {taken}: ")
    assert (batch.state, counts(batch)) == ("failed", (600, taken, 600 - taken))
    left = range(taken + 1, 601)
    assert running.errors(batch_id) == [(line, "batch_failed") for line in left]
    assert [line["custom_id"] for line in running.error_lines(batch_id)] == [f"n{line}" for line in left]
    assert running.again(batch_id)[0].total == 600 - taken


def test_lines_that_kill_bridges_that_only_read_them_are_numbered(running, monkeypatch):
    batch_id = running.submit(jobs(4))
    for _ in range(2):
        for _ in range(3):
            killed(running, batch_id)
        running.turn()
    with monkeypatch.context() as patch:
        patch.setattr(running.bulk._feed, "_reading", None)
        running.turn()
    running.run()
    assert counts(running.batch(batch_id)) == (4, 0, 4)
    assert running.errors(batch_id) == [(line, "batch_failed") for line in range(1, 5)]


def test_a_bridge_that_waits_for_the_file_store_is_not_counted_as_a_crash_if_it_is_killed(running):
    batch_id = running.submit(jobs(1))
    seen = []

    def away(_paths):
        seen.append(running.batch(batch_id).crashes)
        raise StoreUnavailable("away")

    running.store.gone = running.store.open = away
    running.turn()
    assert seen == [0]


def test_who_follows_kafka_knows_the_batch_by_its_correlation_id(running):
    batch_id = running.submit(jobs(2))
    running.turn()
    assert {row.correlationid for row in running.jobs()} == {batch_id}


def test_what_failed_is_run_again_under_its_numbers(running):
    lines = jobs(6)
    lines[3] = {"prompt": "x", "idempotency_key": "k"}
    lines[4] = {"prompt": "y", "idempotency_key": "k"}
    batch_id = running.submit(lines)
    with pytest.raises(NotOver, match="is not over"):
        running.again(batch_id)
    failing = {derive_job_id("a", f"batch:{batch_id}:{number}") for number in (2, 6)}
    running.run(lambda row: dead(row) if row.job_id in failing else with_usage(row))
    assert running.errors(batch_id) == [(2, "permanent"), (5, "duplicate_custom_id"), (6, "permanent")]
    second, new = running.again(batch_id)
    assert new
    assert running.again(batch_id) == (running.batch(second.id), False)
    running.run()
    assert counts(running.batch(second.id)) == (2, 2, 0)
    assert [line["line"] for line in running.output(second.id)] == [2, 6]
    with pytest.raises(NothingFailed):
        running.again(second.id)


def test_what_failed_cannot_be_run_again_when_its_input_is_gone(running):
    batch_id = running.submit(jobs(2))
    running.run(dead)
    batch = running.batch(batch_id)
    assert batch.failed == 2
    running.files.remove(batch.input_file)
    with pytest.raises(InputGone, match=f"the input of {batch_id}, {batch.input_file}, was deleted: submit the lines"):
        running.again(batch_id)
    assert [row.purpose for row in running.ledger.of(StoredFiles).files("a")] == ["batch_output"]


def test_a_budget_is_kept_to(running):
    lines = [{"prompt": "one two three", "sampling": {"max_tokens": 7}}] * 50  # 10 tokens each at most
    batch_id = running.submit(lines, max_tokens=100)
    running.settle()
    assert (running.batch(batch_id).taken, running.batch(batch_id).reserved) == (10, 100)
    running.end()  # each took 5
    running.settle()
    assert (running.batch(batch_id).taken, running.batch(batch_id).spent) == (15, 50)
    running.run()
    batch = running.batch(batch_id)
    assert batch.spent == 5 * batch.completed <= 100 < 5 * batch.completed + 10
    assert (batch.state, batch.reserved, batch.completed + batch.failed) == ("completed", 0, 50)
    assert {code for _, code in running.errors(batch_id)} == {"budget"}
    second, _ = running.again(batch_id, max_tokens=1_000)
    running.run()
    assert counts(running.batch(second.id)) == (batch.failed, batch.failed, 0)


def test_retries_and_judging_count_against_a_budget(running):
    rubric = [{"criterion": "rubric", "question": "Is it right?", "scale": "yes_no"}]
    line = {"prompt": "one two three", "sampling": {"max_tokens": 7}}
    batch_id = running.submit([line, {**line, "criteria": rubric}], max_tokens=1_000)
    running.turn()
    assert running.batch(batch_id).reserved == 10 + 20

    def judged(row):
        event = with_usage(row, attempt=2)
        return event.model_copy(
            update={"stages": (*event.stages, event.stages[0].model_copy(update={"stage": "rubric"}))}
        )

    running.run(judged)
    assert running.batch(batch_id).spent == (10 + 5 + 2 * 5) + (20 + 5 + 2 * 5)


def test_for_an_answer_that_may_be_made_again_all_of_them_are_reserved(running):
    wanted = {"criterion": "contains", "value": 1, "attempts": 2}
    line = {
        "prompt": "one two three",
        "sampling": {"max_tokens": 7},
        "criteria": [{"criterion": "contains", "text": "x"}],
    }
    batch_id = running.submit([{**line, "min_quality": wanted}] * 2, max_tokens=700)
    running.settle()
    batch = running.batch(batch_id)
    assert (batch.taken, 10 + 2 * 17 < batch.reserved <= 700) == (1, True)
    running.end(lambda row: with_usage(row, prompt=50, completion=21))  # three answers
    running.settle()
    assert (running.batch(batch_id).taken, running.batch(batch_id).spent) == (2, 71)


def test_an_answer_that_was_made_again_is_counted_once(running):
    batch_id = running.submit([{"prompt": "one two three", "sampling": {"max_tokens": 7}}], max_tokens=1_000)

    def again(row):
        event = with_usage(row, prompt=12, completion=6)
        (run,) = event.stages
        looked = [run.model_copy(update={"stage": name}) for name in ("moderate", "rubric")]
        return event.model_copy(update={"stages": (run, *looked, run, *looked, run, looked[0])})

    running.run(again)
    assert running.batch(batch_id).spent == 18 + 2 * 6


def test_a_run_in_vain_costs_what_was_reserved(running):
    """Nobody knows what a job cost that died."""
    batch_id = running.submit([{"prompt": "one two three", "sampling": {"max_tokens": 7}}], max_tokens=1_000)
    running.run(dead)
    assert running.batch(batch_id).spent == 10


@pytest.mark.parametrize(
    ("stage", "attempts", "cost"),
    [("generate", 8, 80), ("generate", 0, 0), ("moderate", 8, 10), ("moderate", 0, 10), ("recall", 8, 0)],
)
def test_what_fails_beside_the_model_costs_one_run_or_none(running, stage, attempts, cost):
    batch_id = running.submit([{"prompt": "one two three", "sampling": {"max_tokens": 7}}], max_tokens=1_000)
    running.run(lambda _row: (Category.TRANSIENT, "not now", stage, attempts))
    assert running.batch(batch_id).spent == cost


def test_who_goes_on_with_many_batches_says_so_for_each(running):
    """Each may take a second: of two hundred the bridge would be taken for stuck."""
    for number in range(3):
        running.submit(jobs(1), key=str(number))
    beats = []
    assert running.bulk.once(running.heard.append, lambda: beats.append(len(running.jobs()))) == 3
    assert beats == [0, 1, 2]


def test_lines_that_take_long_to_admit_are_taken_in_a_few_at_a_time(ledger, tmp_path):
    """Two seconds a line: the bridge goes on with others' batches after each, and says that it lives."""

    class Slow(SystemClock):
        later = 0.0

        def monotonic(self):
            Slow.later += 2.0
            return super().monotonic() + Slow.later

    slow = Running(ledger, tmp_path, clock=Slow())
    ids = [slow.submit(jobs(3)) for _ in range(2)]
    slow.turn(2)
    taken = [slow.batch(item).taken for item in ids]
    assert max(taken) - min(taken) <= 1
    assert sum(taken) < 6
    slow.turn(6)
    assert [slow.batch(item).taken for item in ids] == [3, 3]
