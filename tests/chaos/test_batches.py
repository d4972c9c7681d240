"""Batches while bridges and workers are killed: each line has one end, in the files, in the ledger and on Kafka."""

import json
from collections import Counter

import pytest
from tests.chaos.batches import prepare, storm
from tests.chaos.deployment import over
from tests.chaos.stacks import STACKS, services_of

pytestmark = pytest.mark.chaos

LINES = 1_000
KILLS = 8


@pytest.fixture(params=STACKS)
def deployment(request, service_folder):
    """Two bridges, and workers, as processes of their own."""
    broker, redis, postgres = services_of(request)
    made = over(broker, redis, postgres, service_folder, "batches")
    prepare(made)
    yield made
    made.close()


def test_every_line_has_one_end_however_often_its_bridge_dies(deployment):
    """Eight kills while lines are fed and answers written; bad lines and duplicates among them."""
    lines = [json.dumps({"prompt": f"line {number}", "idempotency_key": f"k{number}"}) for number in range(LINES)]
    lines[70], lines[900] = "{", lines[10]
    found = storm(deployment, lines, KILLS, seed=11)
    assert found.state == "completed"
    assert found.answered == Counter(set(range(1, LINES + 1)) - {71, 901})
    assert found.failed == Counter([71, 901])
    assert found.tally.holds, found.tally
    assert found.tally.counts["  answered"] == LINES - 2
    assert found.repeated <= KILLS // 4 * 64  # what the model's worker had in its hands when it died
