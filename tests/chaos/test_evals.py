"""A run of an eval while its bridge is killed: once while its rows are written down, and while it is judged."""

import pytest
from tests.chaos.deployment import over
from tests.chaos.evals import holds, storm
from tests.chaos.stacks import PRODUCTION, services_of

pytestmark = pytest.mark.chaos

ROWS = 1_000


@pytest.fixture(params=[PRODUCTION])
def deployment(request, service_folder):
    broker, redis, postgres = services_of(request)
    made = over(broker, redis, postgres, service_folder, "evals", lease=15.0)  # no worker is taken for dead here
    made.prepare()
    yield made
    made.close()


@pytest.mark.slow
def test_every_item_has_one_end_however_often_its_bridge_dies(deployment):
    found = storm(deployment, ROWS, kills=3)
    assert holds(found, ROWS), found
