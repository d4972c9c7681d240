import contextlib

import pytest
from bench import fleet
from bench.fleet import converge, fill, starts
from tests.workers.ledger_jobs import sqlite_ledger

from headrace_workers.core.ledger.change_feed import Follower
from headrace_workers.core.progress import Progress
from headrace_workers.features.cache.semantic.questions import Known, Questions


@pytest.mark.integration
def test_both_starts_know_all(tmp_path, monkeypatch):
    monkeypatch.setattr(fleet, "_STARTS", 1)
    with sqlite_ledger(tmp_path) as ledger:
        fill(ledger, 60)
        rows = starts(ledger, tmp_path / "recall", lambda _: None)
        memory = fleet._memory(ledger, tmp_path / "recall", 60)
    assert [row.target for row in rows] == [None, "≤ 2", None, None, None]
    assert all("60 answers" in row.metric for row in rows)
    assert memory.value > 0


def test_all_followers_are_waited_for(tmp_path):
    with sqlite_ledger(tmp_path) as ledger, contextlib.ExitStack() as stack:
        all_known = [Known(384), Known(384)]
        for number, known in enumerate(all_known):
            follower = Follower(Questions(ledger, known), Progress().loop(f"follow {number}"))
            follower.start()
            stack.callback(follower.stop)
        came, went = converge(ledger, all_known, 1)
    assert (len(came), len(went)) == (1, 1)
    assert [len(known) for known in all_known] == [0, 0]
