"""The package for backend services: publish jobs, read results, and test with an in-memory producer. Starts in
milliseconds.

Names are loaded when first used, so that importing this package loads neither pydantic nor kafka-python.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headrace_producers.consumer import Received, ResultReader, results
    from headrace_producers.errors import BufferFull, DeliveryFailed, InvalidJob, ProducerClosed, TopicMissing
    from headrace_producers.memory import MemoryProducer
    from headrace_producers.producer import Producer
    from headrace_producers.settings import KafkaSettings, ProducerSettings

_HOMES = {
    "BufferFull": "errors",
    "DeliveryFailed": "errors",
    "InvalidJob": "errors",
    "KafkaSettings": "settings",
    "MemoryProducer": "memory",
    "Producer": "producer",
    "ProducerClosed": "errors",
    "ProducerSettings": "settings",
    "Received": "consumer",
    "ResultReader": "consumer",
    "TopicMissing": "errors",
    "results": "consumer",
}

__all__ = [
    "BufferFull",
    "DeliveryFailed",
    "InvalidJob",
    "KafkaSettings",
    "MemoryProducer",
    "Producer",
    "ProducerClosed",
    "ProducerSettings",
    "Received",
    "ResultReader",
    "TopicMissing",
    "results",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
