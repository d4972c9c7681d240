"""Sending jobs, and seeing what became of each."""

from kafka.admin import KafkaAdminClient
from tests.services.eventually import eventually
from tests.services.records import read

from headrace_producers import DeliveryFailed, KafkaSettings, Producer
from headrace_schemas import HeadraceError, Topic


class Told:
    """What `on_delivery` was called with, in order."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, HeadraceError | None]] = []

    def __call__(self, job_id: str, error: HeadraceError | None) -> None:
        self.calls.append((job_id, error))

    @property
    def confirmed(self) -> list[str]:
        return [job_id for job_id, error in self.calls if error is None]

    @property
    def failed(self) -> list[str]:
        return [job_id for job_id, error in self.calls if error is not None]


def create_topic(settings: KafkaSettings, topic: Topic, configs: dict[str, str] | None = None) -> None:
    """A topic of one partition, and no other."""
    admin = KafkaAdminClient(**settings.client_options())
    name = settings.topic(topic)
    admin.create_topics({name: {"num_partitions": 1, "replication_factor": 1, "configs": configs or {}}})
    eventually(lambda: name in admin.list_topics())
    admin.close()


def generate(producer: Producer, count: int) -> list[str]:
    return [producer.generate(prompt=f"{number}") for number in range(count)]


def delivered(producer: Producer) -> bool:
    producer.generate(prompt="again")
    try:
        producer.flush()
    except DeliveryFailed:
        return False
    return True


def sent_jobs(settings: KafkaSettings) -> list[str]:
    return [item.key.decode() for item in read(settings, [Topic.GENERATION])]
