from io import BytesIO

import pytest

from headrace_producers import DeliveryFailed, MemoryProducer
from headrace_producers.errors import Failure
from headrace_schemas.errors import Unavailable
from headrace_workers.cli.job_sender import Publisher
from headrace_workers.cli.jobfile import JobFile
from headrace_workers.core.job_defaults import Defaults
from headrace_workers.features.batches.commands.run import ByContent


class Flaky(MemoryProducer):
    def __init__(self, *errors: Exception) -> None:
        super().__init__()
        self.errors = list(errors)

    def flush(self, timeout: float = 1.0) -> None:
        if self.errors:
            raise self.errors.pop(0)


@pytest.fixture
def jobs() -> JobFile:
    return JobFile(BytesIO(b'{"prompt":"a"}\n{"prompt":"b"}\n'), "jobs.jsonl", Defaults("tiny"), ByContent())


def test_what_is_sent_are_the_jobs_of_the_entries(jobs: JobFile):
    producer = MemoryProducer()
    entries = jobs.check()
    Publisher(jobs, lambda: producer).send(entries)
    assert [job_id for job_id, _ in producer.jobs] == [entry.job_id for entry in entries]


@pytest.mark.parametrize("error", [DeliveryFailed([Failure("j", "lost")]), Unavailable("away")])
def test_after_a_failure_the_next_try_has_a_new_producer(jobs: JobFile, error: Exception):
    made = [Flaky(error), Flaky()]
    producers = iter(made)
    publisher = Publisher(jobs, lambda: next(producers))
    entries = jobs.check()
    with pytest.raises(Unavailable):
        publisher.send(entries, timeout=0.0)
    publisher.send(entries)
    assert [r.job_id for r in made[0].records] == [r.job_id for r in made[1].records]
    assert {dict(r.headers)["ce_id"] for r in made[0].records} == {dict(r.headers)["ce_id"] for r in made[1].records}
