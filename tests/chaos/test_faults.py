"""Processes and services die, stall and come back in mid-run; afterwards the history is held to the rules."""

import json
import signal
import time
from itertools import count

import pytest
import redis as redis_client
from tests.chaos.conftest import Stack
from tests.chaos.deployment import ROLES, Deployment
from tests.chaos.history import History, query, read_history, read_records
from tests.chaos.rules import Tally, check

from headrace_schemas.criteria import Length

pytestmark = pytest.mark.chaos
# A moment of a few milliseconds is to be caught, which a busy machine may miss: only `make chaos` runs these.
luck = pytest.mark.luck

_keys = count(1)
JUDGED = (Length(min_words=1),)
BREATH = 0.01  # seconds that each job takes, so that a fault finds work under way
LONG = 0.05  # of a group that can be caught at work for certain: it takes more than a second


def prompts(number: int, seconds: float = BREATH) -> list[str]:
    """Prompts that take their time."""
    return [f"%%sleep:{seconds}%% tell me of the river number {n}" for n in range(number)]


def publish(deployment: Deployment, number: int = 200, seconds: float = BREATH) -> list[str]:
    """Publish jobs under a new key."""
    return deployment.publish(prompts(number, seconds), f"fault-{next(_keys)}", criteria=JUDGED)


def under_way(deployment: Deployment, before: int, at_least: int = 10) -> None:
    """Wait until some jobs have ended, and others have not."""
    deployment.wait_until(lambda: deployment.ended() >= before + at_least, "the first jobs end")


def history_of(deployment: Deployment, ids: list[str], forbidden: tuple[str, ...] = ()) -> History:
    """What became of these jobs."""
    whole = read_history(
        bootstrap=deployment.kafka,
        prefix=deployment.prefix,
        ledger=deployment.ledger,
        published=ids,
        forbidden=forbidden,
    )
    return whole.of(ids)


def verdict(deployment: Deployment, ids: list[str], **ends: int) -> Tally:
    """Wait until all is quiet; the history must hold, with so many jobs at each end (all answered by default)."""
    deployment.wait_quiet(ids)
    tally = check(history_of(deployment, ids))
    assert tally.holds, f"\n{tally}"
    found = {name: tally.counts[f"  {name}"] for name in ("answered", "cancelled", "dead")}
    assert found == {"answered": len(set(ids)) - sum(ends.values()), "cancelled": 0, "dead": 0} | ends, f"\n{tally}"
    return tally


def test_the_bridge_is_killed(deployment):
    """SIGKILL to the only bridge in mid-run: the next one goes on where the ledger stands."""
    before = deployment.ended()
    ids = publish(deployment, 60, seconds=LONG)
    deployment.catch_at_work("generate")
    deployment.kill("bridge")
    assert deployment.ended() < before + len(ids)
    deployment.signal("generate", signal.SIGCONT)
    verdict(deployment, ids)


@pytest.mark.parametrize("role", ["generate", *(pytest.param(role, marks=luck) for role in ("moderate", "judge"))])
def test_a_worker_is_killed(deployment, role):
    """SIGKILL to a worker while it runs a claim: the lease ends, and another does the work."""
    ids = publish(deployment, 60, seconds=LONG) if role == "generate" else publish(deployment)
    deployment.catch_at_work(role)
    deployment.kill(role)
    verdict(deployment, ids)


def test_redis_is_wiped_and_killed(stack, deployment):
    """FLUSHALL, SIGKILL and a restart: the ledger sends the work out again, and the same workers take it."""
    before = deployment.ended()
    ids = publish(deployment)
    under_way(deployment, before)
    with redis_client.Redis.from_url(stack.redis.url) as client:
        client.flushall()
    stack.redis.kill()
    pids = {name: child.process.pid for name, child in deployment.children.items()}
    stack.redis.restart()
    verdict(deployment, ids)
    assert {name: child.process.pid for name, child in deployment.children.items()} == pids, (
        "somebody had to be restarted"
    )
    verdict(deployment, publish(deployment, 40))


@luck
def test_redis_dies_with_a_message_on_its_way(stack, deployment):
    """A worker that takes a message from a Redis that is gone serves again when there is one."""
    ids = catch_a_message(stack, deployment)
    stack.redis.kill()
    deployment.signal("judge", signal.SIGCONT)
    time.sleep(0.5)
    stack.redis.restart()
    pid = deployment.children["judge"].process.pid
    verdict(deployment, ids)
    verdict(deployment, publish(deployment, 20))
    assert deployment.children["judge"].process.pid == pid


def catch_a_message(stack: Stack, deployment: Deployment) -> list[str]:
    """SIGSTOP the judge so that Redis has sent it a message that it has not read; the jobs published for that.

    It asks Redis anew each second, and a message that comes after that second stays in the queue: then once more.
    """
    ids = publish(deployment, 10)
    waiting = "SELECT count(*) FROM claims WHERE stage = 'judge' AND started_at IS NULL"
    with deployment.producer() as producer, redis_client.Redis.from_url(stack.redis.url) as client:
        for _ in range(10):
            deployment.wait_quiet(ids)
            deployment.signal("judge", signal.SIGSTOP)
            ids.append(producer.evaluate(input="a river", output="water", criteria=JUDGED))
            producer.flush()
            deployment.wait_until(lambda: query(deployment.ledger, waiting)[0] != [(0,)], "the judge is sent work")
            time.sleep(0.1)  # from the claim to the queue
            if query(deployment.ledger, waiting)[0] != [(0,)] and client.llen("headrace.judge") == 0:
                return ids
            deployment.signal("judge", signal.SIGCONT)
    raise AssertionError("no message was caught on its way")


def test_the_broker_is_killed(stack, deployment):
    """SIGKILL to Apache Kafka and a restart: what it had confirmed is there, and what waited is published."""
    if not stack.durable:
        pytest.skip("the embedded broker keeps its log in memory")
    before = deployment.ended()
    ids = publish(deployment)
    under_way(deployment, before)
    stack.broker.kill()
    stack.broker.restart()
    verdict(deployment, ids)
    verdict(deployment, publish(deployment, 40))


def test_the_database_is_killed(stack, deployment):
    """SIGKILL to PostgreSQL and a restart: all processes wait for it and go on."""
    if stack.postgres is None:
        pytest.skip("SQLite has no server")
    before = deployment.ended()
    ids = publish(deployment)
    under_way(deployment, before)
    stack.postgres.kill()
    stack.postgres.restart()
    verdict(deployment, ids)
    verdict(deployment, publish(deployment, 40))


def test_everything_is_told_to_stop(deployment):
    """SIGTERM to all in mid-run: they end well and leave nothing leased; started again, they finish."""
    before = deployment.ended()
    ids = publish(deployment, 120, seconds=LONG)  # six seconds of work
    under_way(deployment, before)
    codes = deployment.terminate()
    assert set(codes.values()) == {0}, codes
    assert deployment.held() == (0, 0)
    assert deployment.ended() < before + len(ids)
    verdict(deployment, ids)


def test_a_worker_is_paused_past_its_lease(deployment):
    """SIGSTOP for longer than the lease: another does its work, and what it finishes after SIGCONT changes nothing."""
    ids = publish(deployment, 60, seconds=LONG)
    claim = deployment.catch_at_work("generate")
    deployment.start("generate-2")
    verdict(deployment, ids)
    told = history_of(deployment, ids)
    log = deployment.children["generate"].log
    size = log.stat().st_size
    deployment.signal("generate", signal.SIGCONT)
    deployment.wait_until(
        lambda: f"claim={claim} " in log.read_text()[size:], "the worker says that its lease was lost"
    )
    deployment.retire("generate-2")
    verdict(deployment, publish(deployment, 40))
    assert history_of(deployment, ids) == told


def test_duplicates_are_one_job(deployment):
    """The same keys sent again, and the same records byte for byte: no job runs twice."""
    key = f"twice-{next(_keys)}"
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
    """Publish the records of these jobs again as they are."""
    from kafka import KafkaProducer

    topic = f"{deployment.prefix}jobs.generation"
    found = [record for record in read_records(deployment.kafka, [topic]) if record.key.decode() in ids]
    assert {record.key.decode() for record in found} == ids
    producer = KafkaProducer(bootstrap_servers=deployment.kafka)
    for record in found:
        producer.send(topic, key=record.key, value=record.value, headers=list(record.headers))
    producer.flush()
    producer.close()


def test_two_bridges_share_the_work(deployment):
    """Two bridges at once, and one of them killed in mid-run."""
    deployment.start("bridge-2")
    first = publish(deployment, 100)
    verdict(deployment, first)
    before = deployment.ended()
    ids = publish(deployment)
    under_way(deployment, before)
    deployment.kill("bridge")
    verdict(deployment, ids)
    deployment.retire("bridge-2")
    verdict(deployment, publish(deployment, 40))


def test_only_the_poison_job_dies(deployment):
    """A job that kills its worker stands among 31 others: it alone is dead as poison, and they are answered."""
    texts = prompts(32, seconds=0.1)  # long enough for a neighbour to be under way beside the culprit
    texts[13] = "%%crash%%"
    ids = deployment.publish(texts, f"poison-{next(_keys)}")
    verdict(deployment, ids, dead=1)
    rows = query(deployment.ledger, "SELECT job_id, category FROM dead_letters WHERE category = 'poison'")[0]
    assert rows == [(ids[13], "poison")]


def test_cancelled_before_during_and_after(deployment):
    """A cancellation wins exactly when the job has not ended: known ahead, queued or under way, but not afterwards."""
    from headrace_schemas.job import derive_job_id

    key = f"cancel-{next(_keys)}"
    ahead = derive_job_id("default", f"{key}-0")
    with deployment.producer() as producer:
        producer.cancel(ahead, reason="ahead")
    deployment.wait_until(lambda: deployment.known([ahead]) == {ahead}, "the cancellation is known")
    assert deployment.publish(["never run"], key) == [ahead]

    (done,) = publish(deployment, 1)
    verdict(deployment, [done])
    with deployment.producer() as producer:
        producer.cancel(done)

    (running,) = publish(deployment, 1, seconds=1)
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
    """After a refusal a good record is answered and a cancellation counts; what comes second under a key is told."""
    key = f"refused-{next(_keys)}"
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
    """The states that these jobs are in."""
    named = ", ".join(f"'{job_id}'" for job_id in job_ids)
    return {row[0] for row in query(deployment.ledger, f"SELECT state FROM jobs WHERE id IN ({named})")[0]}


@luck
def test_what_moderation_stops_goes_nowhere(deployment):
    """Redacted and blocked texts are in no event downstream of moderation, also when its worker dies over them."""
    secrets = ("river.keeper@example.org", "4111 1111 1111 1111", "you are a fucking idiot")
    texts = [f"%%sleep:{BREATH}%% write this down: {secrets[n % 3]} ({n})" for n in range(150)]
    ids = deployment.publish(texts, f"secret-{next(_keys)}", criteria=JUDGED)
    deployment.catch_at_work("moderate")
    deployment.kill("moderate")
    verdict(deployment, ids)
    history = history_of(deployment, ids, forbidden=secrets)
    assert check(history).holds, f"\n{check(history)}"
    outputs = [event.value for event in history.events if event.topic == "outputs"]
    assert all(any(text.encode() in value for value in outputs) for text in secrets), "the check would see nothing"
    ends = {row.terminal for row in history.jobs}
    assert not [text for text in secrets if any(text.encode() in (end or b"") for end in ends)]


def test_the_stack_is_what_it_says(stack: Stack):
    """All processes still run, under the ids that they were last started with."""
    assert all(child.running for child in stack.deployment.children.values())
    assert set(stack.deployment.children) == set(ROLES)
