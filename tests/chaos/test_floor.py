"""Answers below their floor are made anew while workers are killed: between judging and making again, or at either."""

import json
from collections import Counter, defaultdict

import pytest
from tests.chaos.deployment import over
from tests.chaos.history import query
from tests.chaos.mid_run import fresh_key, history_of, verdict
from tests.chaos.stacks import PRODUCTION, services_of

from headrace_schemas import ChrF, MinQuality, Regex

pytestmark = [pytest.mark.chaos, pytest.mark.slow]

JOBS, ATTEMPTS = 24, 3  # answers of each job: the first, and two better ones
# No answer keeps to it. The echo is told so in words, and holds its call for as long as they say.
NEVER = Regex(pattern="%%sleep:0.2%% [0-9]{9}", name="never")
LONG = ChrF(reference="river " * 5_000, name="long")  # so that a judge can be caught at work
STAGES = ("generate", "moderate", "judge")


@pytest.fixture(params=[PRODUCTION])
def deployment(request, service_folder):
    broker, redis, postgres = services_of(request)
    made = over(broker, redis, postgres, service_folder, "floor")
    made.prepare()
    made.start()
    yield made
    made.close()


def rows(deployment, condition):
    return int(query(deployment.watched, f"SELECT count(*) FROM steps WHERE {condition}")[0][0][0])


def test_each_answer_is_made_once_and_each_job_has_one_end(deployment):
    floor = MinQuality(criterion="never", value=1, then="regenerate", attempts=ATTEMPTS - 1)
    prompts = [f"tell me of the river number {n}" for n in range(JOBS)]
    ids = deployment.publish(prompts, fresh_key("floor"), criteria=(NEVER, LONG), min_quality=floor)
    for name in ("judge", "generate"):
        if name == "generate":  # what it has in hand now was judged before
            deployment.wait_until(lambda: rows(deployment, "stage = 'generate' AND ordinal > 0"), "some come again")
            deployment.wait_until(
                lambda: not rows(deployment, "stage = 'generate' AND ordinal = 0 AND state <> 'done'"), "all were made"
            )
        deployment.catch_at_work(name)
        deployment.kill(name)
        deployment.revive()
    verdict(deployment, ids)

    steps = defaultdict(Counter)
    for job_id, stage, ordinal in query(deployment.watched, "SELECT job_id, stage, ordinal FROM steps")[0]:
        steps[job_id][stage, ordinal] += 1
    each = Counter({(stage, n): 1 for stage in STAGES for n in range(ATTEMPTS)})
    assert {job_id: steps[job_id] for job_id in ids} == dict.fromkeys(ids, each)

    history = history_of(deployment, ids)
    made = Counter((event.job_id, event.topic) for event in {event.id: event for event in history.events}.values())
    assert {made[job_id, topic] for job_id in ids for topic in ("outputs", "moderated")} == {ATTEMPTS}
    for row in history.jobs:
        end = json.loads(row.terminal)
        told = end["judge"]["floor"]
        assert (told["outcome"], [a["value"] for a in told["attempts"]], told["chosen"]) == (
            "below",
            [0.0] * ATTEMPTS,
            1,
        )
        assert [stage["stage"] for stage in end["stages"]] == [*STAGES] * ATTEMPTS
        assert end["answer"]["text"].startswith("tell me of the river")
