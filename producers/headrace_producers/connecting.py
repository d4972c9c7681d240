"""Opening a kafka-python client that leaves nothing behind where it fails, and ends in time."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from kafka.net.compat import KafkaNetClient

from headrace_producers.settings import KafkaSettings
from headrace_producers.tls import check_tls

T = TypeVar("T")


def connect(build: Callable[..., T], kafka: KafkaSettings, timeout: float, **options: Any) -> T:
    """Return a client of this kind (a producer, consumer or admin), connected within `timeout` seconds.

    The library leaves its sockets and its thread behind when it does not reach a broker: they are closed. Raise its own
    errors, and the errors of `check_tls`.
    """
    check_tls(kafka, timeout)
    opened: list[KafkaNetClient] = []

    def open_network(**its_options: Any) -> KafkaNetClient:
        opened.append(KafkaNetClient(**its_options))
        return opened[-1]

    milliseconds = int(timeout * 1000)
    try:
        return build(**kafka.client_options(), bootstrap_timeout_ms=milliseconds, kafka_client=open_network, **options)
    except BaseException:
        for item in opened:
            with suppress(Exception):  # any error of a half-open client: the first error is the one to raise
                item.close()
        raise
