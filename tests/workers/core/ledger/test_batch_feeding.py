from dataclasses import replace

import pytest
from tests.workers.core.ledger.batch_rows import line, lines, rows, stand, two_batches
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture

from headrace_workers.features.access.store.quotas import Quotas, WantedQuota
from headrace_workers.features.batches.store.feeding import Chunk, Fed, NewLine
from headrace_workers.features.batches.store.transactions import Batches


@pytest.fixture
def two(ledger):
    """The batches 1 and 2, of two tenants."""
    return two_batches(ledger)


def test_a_line_may_be_called_as_one_of_another_batch(two):
    line(two, 1, 7)
    for batch in (1, 2):
        chunk = Chunk([NewLine(8, 80, "c7", code="invalid", reason="x")], 80, 8, read=True)
        assert two.of(Batches).feed(batch, 0, chunk).lines == 1
    assert {place: code for place, (_, code, _) in lines(two).items()} == {
        (1, 7): None, (1, 8): "duplicate_custom_id", (2, 8): "invalid",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("before", "costs", "taken", "after"),
    [
        ({}, [4, 6], ["open", "open"], {"reserved": 10}),
        ({}, [4, 7], ["open"], {"reserved": 4}),
        ({}, [0, 11, 1], ["open", "budget", "budget"], {"reserved": 0, "exhausted": True}),
        ({}, [11, None], ["budget", "invalid"], {"reserved": 0, "exhausted": True}),
        ({"spent": 4}, [6], ["open"], {"reserved": 6}),
        ({"spent": 4}, [7], ["budget"], {"reserved": 0, "exhausted": True}),
        ({"spent": 10}, [None, 0], ["invalid", "open"], {"reserved": 0}),
        ({"spent": 4, "reserved": 6}, [None, 0, 1], ["invalid", "open"], {"reserved": 6}),
        ({"reserved": 1}, [10], [], {"reserved": 1}),
        ({"spent": 10, "exhausted": True}, [1, None], ["budget", "invalid"], {"reserved": 0, "exhausted": True}),
    ],
)  # fmt: skip
def test_a_batch_takes_what_fits_its_tokens_to_the_last(two, job, before, costs, taken, after):
    """What does not fit waits while lines are under way, which may cost less; else it and all behind it are not run.

    None is a line that was refused before: it costs nothing, and so it waits for nothing.
    """
    stand(two, max_tokens=10, **before)
    read = [
        NewLine(n, n * 10, code="invalid", reason="x") if cost is None else
        NewLine(n, n * 10, jobs=(replace(job(), batch=1, line=n),), tokens=cost)
        for n, cost in enumerate(costs, 1)
    ]  # fmt: skip
    found = rows(two)
    fed = two.of(Batches).feed(1, 0, Chunk(read, 99, 9, read=True))
    waits = len(taken) < len(costs)
    place = {"position": len(taken) * 10, "line": len(taken)} if waits else {"position": 99, "line": 9}
    assert fed == Fed(len(taken), taken.count("open"), **place, waits=waits)
    assert [code or state for state, code, _ in lines(two).values()] == taken
    began = rows(two)["batch_1"]["began_at"]
    assert rows(two) == found | {
        "batch_1": found["batch_1"] | place | after | {
            "read": not waits, "taken": len(taken), "state": "in_progress", "began_at": began,
        },
    }  # fmt: skip


@pytest.mark.parametrize("own_keys", [True, False])
def test_a_line_is_let_in_by_what_it_may_cost_whatever_was_reserved_under_its_id(two, job, own_keys):
    two.of(Quotas).put("a", 100, "ever")
    runs, large = job(tokens=30), replace(job(tokens=71), batch=1, line=2)
    two.ingest([runs])
    two.of(Quotas).reserve([WantedQuota(large.id, "a", 10)])
    read = [
        NewLine(
            1, 10, jobs=(replace(runs, batch=1, line=1),) if own_keys else (), code=None if own_keys else "invalid"
        ),
        NewLine(2, 20, jobs=(large,)),
    ]
    two.of(Batches).feed(1, 0, Chunk(read, 20, 2, read=True, own_keys=own_keys))
    assert [code or state for state, code, _ in lines(two).values()] == ["open" if own_keys else "invalid", "quota"]
    (quota,) = two.of(Quotas).find(["a"])
    assert (quota.used, quota.reserved) == (0, 40)  # the gateway's own record may still come
