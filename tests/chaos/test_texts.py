"""Texts that come back as vectors and verdicts, while who makes them dies: each has one end."""

from uuid import uuid4

import pytest
from tests.chaos.deployment import ROLES, Deployment, over
from tests.chaos.history import query
from tests.chaos.mid_run import verdict
from tests.chaos.stacks import PRODUCTION, services_of

from headrace_schemas import EmbeddingJob, ModerationJob
from headrace_workers.models.embedders.hashed import make_hash_embedder

pytestmark = pytest.mark.chaos

SECRET = "river.keeper@headrace.io"
COUNT = 300  # of each kind


@pytest.fixture(params=[PRODUCTION])
def deployment(request, service_folder):
    """A bridge, and who would embed (without weights) and moderate, not started yet."""
    broker, redis, postgres = services_of(request)
    roles = {name: ROLES[name] for name in ("bridge", "moderate")}
    made = over(
        broker, redis, postgres, service_folder, "texts",
        roles={**roles, "recall": ("worker", "--role", "recall")},
    )  # fmt: skip
    made.extra = {each: {"HEADRACE_EMBEDDER": "hash"} for each in ("bridge", "recall")}
    made.prepare()
    make_hash_embedder(made.folder)
    made.start("bridge")
    yield made
    made.close()


def publish(deployment: Deployment) -> list[str]:
    """As many texts to embed as to moderate, each of which would show a secret."""
    name = uuid4().hex
    jobs = [EmbeddingJob(model="hash", input=f"river {n}", idempotency_key=f"{name}-e{n}") for n in range(COUNT)]
    texts = [ModerationJob(input=f"write to {SECRET}, {n}", idempotency_key=f"{name}-m{n}") for n in range(COUNT)]
    with deployment.producer() as producer:
        return [producer.submit(job) for job in (*jobs, *texts)]


@pytest.mark.slow
def test_who_embeds_and_who_moderates_are_killed(deployment):
    ids = publish(deployment)
    told = "SELECT count(*) FROM steps WHERE reason LIKE '%which this job needs%' AND stage IN ('embed', 'moderate')"
    deployment.wait_until(
        lambda: query(deployment.watched, told)[0][0][0] > COUNT, "jobs of both kinds say what they wait for"
    )
    deployment.start()
    deployment.wait_until(lambda: deployment.ended() > 10, "the first end")
    for name in ("recall", "moderate"):
        deployment.kill(name)
    deployment.start()
    verdict(deployment, ids)
