"""Jobs that kill, come twice, are cancelled or refused, on a running deployment: each has the end that it should."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.chaos.conftest import Stack, stack_of
from tests.chaos.deployment import Deployment
from tests.chaos.history import query, read_records
from tests.chaos.mid_run import BREATH, JUDGED, fresh_key, history_of, prompts, publish, verdict
from tests.chaos.rules import check
from tests.chaos.stacks import PRODUCTION

pytestmark = pytest.mark.chaos


@pytest.fixture(scope="module", params=[PRODUCTION])
def stack(request: pytest.FixtureRequest, service_folder: Path) -> Iterator[Stack]:
    yield from stack_of(request, service_folder)


def test_duplicates_are_one_job(deployment):
    key = fresh_key("twice")
    ids = deployment.publish(prompts(100), key)
    assert deployment.publish(prompts(100), key) == ids
    resend(deployment, set(ids))
    assert deployment.publish(prompts(100), key) == ids
    later = publish(deployment, 10)  # behind the repeats on every partition, so that those have been read by then
    tally = verdict(deployment, ids + later)
    assert tally.counts["jobs accepted"] == 110
    resend(deployment, set(ids))
    verdict(deployment, ids + publish(deployment, 10))


def resend(deployment: Deployment, ids: set[str]) -> None:
    from kafka import KafkaProducer

    topic = f"{deployment.prefix}jobs.generation"
    records = [record for record in read_records(deployment.kafka, [topic]) if record.key.decode() in ids]
    assert {record.key.decode() for record in records} == ids
    producer = KafkaProducer(bootstrap_servers=deployment.kafka)
    for record in records:
        producer.send(topic, key=record.key, value=record.value, headers=list(record.headers))
    producer.flush()
    producer.close()


@pytest.mark.slow
def test_only_the_poison_job_dies(deployment):
    texts = prompts(8, seconds=0.1)  # long enough for a neighbour to be under way beside the culprit
    texts[5] = "%%crash%%"
    ids = deployment.publish(texts, fresh_key("poison"))
    verdict(deployment, ids, dead=1)
    rows = query(deployment.ledger, "SELECT job_id, category FROM dead_letters WHERE category = 'poison'")[0]
    assert rows == [(ids[5], "poison")]


def test_cancelled_before_during_and_after(deployment):
    from headrace_schemas.job import derive_job_id

    key = fresh_key("cancel")
    ahead = derive_job_id("default", f"{key}-0")
    with deployment.producer() as producer:
        producer.cancel(ahead, reason="ahead")
    deployment.wait_until(lambda: deployment.known([ahead]) == {ahead}, "the cancellation is known")
    assert deployment.publish(["never run"], key) == [ahead]

    (done,) = publish(deployment, 1)
    verdict(deployment, [done])
    with deployment.producer() as producer:
        producer.cancel(done)

    (running,) = publish(deployment, 1, seconds=8)  # long enough to be caught again: it may be caught writing
    deployment.catch_at_work("generate")  # and it stays so until all wishes are known
    queued = publish(deployment, 100)
    deployment.wait_until(lambda: deployment.known(queued) == set(queued), "all are taken in")
    with deployment.producer() as producer:
        for job_id in (running, *queued[50:]):
            producer.cancel(job_id)
    deployment.wait_until(lambda: states_of(deployment, running, *queued[50:]) == {"cancelled"}, "they are cancelled")
    deployment.signal("generate", signal.SIGCONT)
    ids = [ahead, done, running, *queued]
    deployment.wait_quiet(ids)
    history = history_of(deployment, ids)
    tally = check(history)
    assert tally.holds, f"\n{tally}"
    states = {row.id: row.state for row in history.jobs}
    assert [states[ahead], states[done], states[running]] == ["cancelled", "done", "cancelled"]
    assert {states[job_id] for job_id in queued[:50]} == {"done"}
    assert {states[job_id] for job_id in queued[50:]} == {"cancelled"}
    assert not [event for event in history.events if event.topic != "results" and event.job_id in (ahead, running)]


def test_a_record_that_was_refused_ends_no_job(deployment):
    key = fresh_key("refused")
    with deployment.producer() as producer:
        mended, cancelled = (
            producer.generate(prompt="hello", model="nobody", idempotency_key=f"{key}-{n}") for n in range(2)
        )
        taken = producer.generate(prompt="the first", idempotency_key=f"{key}-2")
        ids = [mended, cancelled, taken]
        deployment.wait_until(lambda: deployment.known(ids) == set(ids), "all are refused or taken in")
        assert producer.generate(prompt="hello", idempotency_key=f"{key}-0") == mended
        producer.cancel(cancelled)
        assert producer.generate(prompt="the second", idempotency_key=f"{key}-2") == taken
    deployment.wait_until(lambda: len(history_of(deployment, ids).refused) == len(ids), "all three letters are written")
    deployment.wait_until(lambda: len(history_of(deployment, ids).jobs) == len(ids), "all three are jobs")
    deployment.wait_quiet(ids)
    history = history_of(deployment, ids)
    tally = check(history)
    assert tally.holds, f"\n{tally}"
    assert {row.id: row.state for row in history.jobs} == {mended: "done", cancelled: "cancelled", taken: "done"}
    categories = {event.refers_to: json.loads(event.value)["category"] for event in history.events if event.refers_to}
    assert categories == {mended: "invalid", cancelled: "invalid", taken: "conflict"}


def states_of(deployment: Deployment, *job_ids: str) -> set[str]:
    named = ", ".join(f"'{job_id}'" for job_id in job_ids)
    return {row[0] for row in query(deployment.ledger, f"SELECT state FROM jobs WHERE id IN ({named})")[0]}


@pytest.mark.luck
def test_what_moderation_stops_goes_nowhere(deployment):
    secrets = ("river.keeper@headrace.io", "4111 1111 1111 1111", "idiot")
    texts = [f"%%sleep:{BREATH}%% write this down: {secrets[n % 3]} ({n})" for n in range(150)]
    ids = deployment.publish(texts, fresh_key("secret"), criteria=JUDGED)
    deployment.catch_at_work("moderate")
    deployment.kill("moderate")
    verdict(deployment, ids)
    history = history_of(deployment, ids, forbidden=secrets)
    assert check(history).holds, f"\n{check(history)}"
    outputs = [event.value for event in history.events if event.topic == "outputs"]
    assert all(any(text.encode() in value for value in outputs) for text in secrets), "the check would see nothing"
    ends = {row.terminal for row in history.jobs}
    assert not [text for text in secrets if any(text.encode() in (end or b"") for end in ends)]
