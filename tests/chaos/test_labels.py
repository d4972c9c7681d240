"""A label that moves while jobs that name it come through all doors, and a bridge is killed."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from tests.chaos.batches import BRIDGES
from tests.chaos.deployment import Deployment, over
from tests.chaos.history import query
from tests.chaos.stacks import EACH, services_of
from tests.workers.features.applications.test_admission import definition
from tests.workers.http.served import served

from headrace_producers import Producer
from headrace_schemas.job import derive_job_id
from headrace_workers.core.job_defaults import Defaults
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.features.applications.resolver import BELIEVED_SECONDS
from headrace_workers.features.applications.store import Applications
from headrace_workers.features.batches.new_batch import BatchOptions, submit
from headrace_workers.features.files.file_service import Files
from headrace_workers.features.files.object_store import Store
from headrace_workers.features.files.store.stored import StoredFiles
from headrace_workers.runtime.settings import Settings

pytestmark = pytest.mark.chaos

EACH_DOOR, PAUSE, MOVES = 330, 2.5, 5  # jobs; seconds between two moves
BETWEEN_JOBS = 0.02  # seconds, so that a fast machine still sends jobs while the label moves
MARKS = {1: "one", 2: "two"}


@pytest.fixture
def deployment(request: pytest.FixtureRequest, service_folder) -> Iterator[Deployment]:
    """Two bridges, workers, and an application whose versions say so in the answer."""
    broker, redis, postgres = services_of(request)
    made = over(broker, redis, postgres, service_folder, "labels")
    made.prepare()
    yield made
    made.close()


class Label:
    """The label `production`, which moves from version to version on a thread."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._applications = ledger.of(Applications)
        self._over = threading.Event()
        self._moves: list[tuple[int, int, int]] = []  # to which version, and when that began and was over
        for mark in MARKS.values():
            self._applications.push("a", definition(job={"model": "echo"}, messages=[message(mark)]), "ann")
        self._move(1)
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        for move in range(MOVES):
            if self._over.wait(PAUSE):
                return
            self._move(1 + (move + 1) % 2)

    def _move(self, number: int) -> None:
        began = self._ledger.now()
        self._applications.move("a", "triage", "production", number, "ann")
        self._moves.append((number, began, self._ledger.now()))

    def stop(self) -> None:
        self._over.set()
        self.thread.join()

    def between(self, first: int, last: int) -> set[int]:
        """The versions that it may have named at some time from `first` to `last` (ms by the ledger's clock)."""
        ends = [over for _, _, over in self._moves[1:]] + [last]
        return {
            number for (number, began, _), end in zip(self._moves, ends, strict=True) if began <= last and end >= first
        }


def message(mark: str) -> dict[str, str]:
    return {"role": "user", "text": "{% if urgent %}!{% endif %}{{ ticket }} " + mark}


def through_kafka(producer: Producer, ledger: Ledger) -> dict[str, int]:
    sent = {}
    for number in range(EACH_DOOR):
        at = ledger.now()
        job_id = producer.generate(
            application="triage", variables={"ticket": f"k{number}"}, tenant="a", idempotency_key=f"k{number}"
        )
        sent[job_id] = at
        time.sleep(BETWEEN_JOBS)
    producer.flush()
    return sent


def through_batch(deployment: Deployment, ledger: Ledger) -> dict[str, int]:
    files = Files(ledger.of(StoredFiles), Store.at(str(deployment.folder / "files")))
    lines = [{"application": "triage", "variables": {"ticket": f"b{number}"}} for number in range(EACH_DOOR)]
    data = "\n".join(map(json.dumps, lines)).encode()
    file = files.add([data], tenant="a", purpose="batch", name="jobs.jsonl", keep=None, lines=True)
    at = ledger.now()
    options = BatchOptions(tenant="a", defaults=Defaults("echo", {"tenant": "a", "lane": "batch"}))
    batch, _ = submit(ledger, file, options, key="once")
    return {derive_job_id("a", f"batch:{batch.id}:{number}"): at for number in range(1, EACH_DOOR + 1)}


@pytest.mark.slow
@pytest.mark.parametrize("deployment", EACH, indirect=True)
def test_each_receipt_names_the_version_that_answered_and_no_label_is_older_than_a_second(deployment: Deployment):
    with closing(Ledger.at(deployment.ledger)) as ledger:
        label = Label(ledger)
        settings = Settings(
            home=deployment.folder, kafka=deployment.settings, redis=deployment.redis, ledger=deployment.ledger
        )
        for name in BRIDGES:
            deployment.extra[name] = {"HEADRACE_BATCH_WINDOW": "40"}
        deployment.start(*BRIDGES, "generate", "moderate", "judge")
        with served(settings) as gateway, gateway.client(gateway.key("a")) as client, deployment.producer() as producer:

            def post(number: int) -> tuple[str, int]:
                time.sleep(BETWEEN_JOBS)
                at = ledger.now()
                body = {"application": "triage", "variables": {"ticket": f"h{number}"}}
                answer = client.post("/v1/jobs", json=body)
                assert answer.status_code == 202, answer.text
                return answer.json()["id"], at

            sent = dict([post(0)])
            label.thread.start()
            try:
                with ThreadPoolExecutor(2) as pool:
                    others = [
                        pool.submit(through_kafka, producer, ledger),
                        pool.submit(through_batch, deployment, ledger),
                    ]
                    sent |= map(post, range(1, EACH_DOOR - 1))
                    sent |= others[0].result() | others[1].result()
                deployment.kill("bridge")
                label.thread.join()
                time.sleep(BELIEVED_SECONDS)
                sent |= dict([post(EACH_DOOR - 1)])
                deployment.wait_quiet(sent)
            finally:
                label.stop()
        rows = query(deployment.watched, "SELECT id, accepted_at, application, terminal FROM jobs WHERE tenant = 'a'")[
            0
        ]
        answered = Counter[tuple[str, int]]()
        for job_id, accepted_at, application, terminal in rows:
            receipt = json.loads(bytes(terminal))
            version = receipt["application"]["version"]
            assert application == f"triage@{version}"
            assert receipt["answer"]["text"].endswith(MARKS[version])
            assert version in label.between(sent[job_id] - int(BELIEVED_SECONDS * 1000), accepted_at)
            answered[receipt["answer"]["text"][0], version] += 1
        assert sum(answered.values()) == 3 * EACH_DOOR == len(sent)
        assert {version for _, version in answered} == set(MARKS), answered
