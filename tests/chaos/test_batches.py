"""Batches while bridges and workers are killed: each line has one end, in the files, in the ledger and on Kafka."""

import json
from collections import Counter

import pytest
from tests.chaos.batches import prepare, storm
from tests.chaos.deployment import over
from tests.chaos.stacks import EACH, services_of

pytestmark = pytest.mark.chaos

LINES, KILLS = 600, 4


@pytest.fixture
def deployment(request, service_folder):
    broker, redis, postgres = services_of(request)
    made = over(broker, redis, postgres, service_folder, "batches")
    prepare(made)
    yield made
    made.close()


@pytest.mark.slow
@pytest.mark.parametrize("deployment", EACH, indirect=True)
def test_every_line_has_one_end_however_often_its_bridge_dies(deployment):
    lines = [json.dumps({"prompt": f"line {number}", "idempotency_key": f"k{number}"}) for number in range(LINES)]
    lines[70], lines[LINES - 100] = "{", lines[10]
    wrong = {71, LINES - 99}
    outcome = storm(deployment, lines, KILLS, seed=11)
    assert outcome.state == "completed"
    assert outcome.answered == Counter(set(range(1, LINES + 1)) - wrong)
    assert outcome.failed == Counter(wrong)
    assert outcome.tally.holds, outcome.tally
    assert outcome.tally.counts["  answered"] == LINES - len(wrong)
    assert outcome.repeated <= KILLS // 4 * 64  # what the model's worker had in its hands when it died
