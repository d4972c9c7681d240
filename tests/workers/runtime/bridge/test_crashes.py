"""What ends bridges again and again is given up: real bridges, ended by their own watchdog while they read a file."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.services.eventually import eventually
from tests.services.redis import RedisServer
from tests.services.tables import sqlite_tables
from tests.services.warm import PROGRAM, start
from tests.workers.features.batches.running import DEFAULTS, jobs, text_of
from tests.workers.runtime.bridge.test_evals import files_of, with_run

from headrace_schemas.errors import Unavailable
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.progress import STUCK_EXIT
from headrace_workers.features.batches.new_batch import BatchOptions, submit
from headrace_workers.features.batches.store.transactions import Batches
from headrace_workers.features.evals.store import Evals
from headrace_workers.files.store.stored import StoredFiles
from headrace_workers.runtime.bridge.duty import Crashes
from headrace_workers.runtime.embedded.child_processes import Child, ChildSpec, stop
from headrace_workers.testing import make_echo_model

MOST = 3


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    found = Ledger.at(sqlite_tables(tmp_path / "ledger.db"))
    yield found
    found.close()


@pytest.fixture
def bridge(tmp_path: Path, redis_server: RedisServer) -> Iterator[Callable[[str], Child]]:
    make_echo_model(tmp_path)
    env = {
        "HEADRACE_HOME": str(tmp_path), "HEADRACE_KAFKA": "localhost:1", "HEADRACE_REDIS": redis_server.url,
        "HEADRACE_LEDGER": f"sqlite:///{tmp_path / 'ledger.db'}", "HEADRACE_STUCK": "3",
    }  # fmt: skip
    children: list[Child] = []

    def begin(duty: str) -> Child:
        argv = [*PROGRAM, "bridge", "--only", duty]
        spec = ChildSpec(name=f"bridge-{len(children)}", argv=argv, env=env, grace_seconds=1)
        children.append(start(spec, tmp_path / "log"))
        return children[-1]

    yield begin
    for child in children:
        stop(child)


def never_read(ledger: Ledger, folder: Path, file_id: str) -> None:
    """Put a pipe that nobody writes to in the place of a file: whoever opens it comes back no more."""
    (piece,) = ledger.of(StoredFiles).pieces(file_id)
    path = folder / "files" / piece.path
    path.unlink()
    os.mkfifo(path)


def ends_of(bridge: Callable[[str], Child], duty: str, is_over: Callable[[], Any]) -> list[int]:
    """Start bridges until this is so; with what code each of those before ended.

    On a busy machine some may end before they have begun to read, which counts against nothing.
    """
    codes: list[int] = []
    while True:
        child = bridge(duty)
        eventually(lambda child=child: is_over() or not child.running)
        if is_over():
            return codes
        codes.append(child.process.wait(120))
        assert len(codes) <= 5 * MOST, codes


@pytest.mark.skipif(sys.platform == "win32", reason="it has no pipes of this kind")
@pytest.mark.slow
def test_a_run_whose_rows_end_their_bridge_again_and_again_fails(
    ledger: Ledger, tmp_path: Path, bridge: Callable[[str], Child]
):
    for name in ("1", "2"):
        with_run(ledger, tmp_path, ['{"item": {"x": "1"}}'], name)

    def run(name: str) -> Any:
        return ledger.of(Evals).run(f"eval_{name}", f"evalrun_{name}", "a")

    never_read(ledger, tmp_path, json.loads(run("1").data_source)["source"]["id"])
    codes = ends_of(bridge, "evals", lambda: run("2").state == "in_progress")
    assert len(codes) >= MOST
    assert set(codes) == {STUCK_EXIT}
    assert run("1").state == "failed"
    assert run("1").reason.startswith(f"the bridge ended {MOST} times while it read the rows of this run: ")
    eventually(lambda: run("2").crashes == 0)


@pytest.mark.skipif(sys.platform == "win32", reason="it has no pipes of this kind")
def test_a_batch_whose_input_ends_its_bridge_again_and_again_fails(
    ledger: Ledger, tmp_path: Path, bridge: Callable[[str], Child]
):
    made = []
    for count in (1, 2):
        file = files_of(ledger, tmp_path).add(
            [text_of(jobs(count))], tenant="a", purpose="batch", name="jobs.jsonl", keep=None, lines=True
        )
        batch, _ = submit(ledger, file, BatchOptions(tenant="a", defaults=DEFAULTS), None)
        made.append(batch)
    never_read(ledger, tmp_path, made[0].input_file)

    def stands(batch: Any) -> Any:
        return ledger.of(Batches).batch(batch.id)

    codes = ends_of(bridge, "batches", lambda: stands(made[1]).taken == 2 and stands(made[0]).ended_at is not None)
    assert len(codes) >= MOST
    assert set(codes) == {STUCK_EXIT}
    assert stands(made[0]).state == "failed"
    assert stands(made[0]).reason.startswith(f"the bridge ended {MOST} times while it read on after line 0: ")
    eventually(lambda: stands(made[1]).crashes == 0)


def test_a_ledger_that_was_away_behind_it_is_no_crash():
    """What could not be taken back then is taken back later, and is not counted twice."""
    noted: list[tuple[int, int]] = []
    away = False

    def add(number: int, count: int) -> None:
        if away:
            raise Unavailable("the ledger is away")
        noted.append((number, count))

    crashes = Crashes(add, MOST)
    with crashes.counted(7):
        away = True
    away = False
    with crashes.counted(7):
        pass
    assert noted == [(7, 1), (7, -1)]
    with crashes.counted(7):
        away = True
    away = False
    crashes.close()
    assert noted == [(7, 1), (7, -1)] * 2
