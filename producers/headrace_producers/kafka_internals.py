"""The only module that reaches into kafka-python's private parts.

Each function says why no public API suffices. `tests/producers/test_kafka_internals.py` checks all of them against the
installed release: when it fails after an upgrade, mend the function here, and nothing else.

The classes of the library that headrace subclasses are not here: `any_record` has those that read records, `link` the
producer.
"""

from collections.abc import Callable
from typing import Any, Final

from headrace_schemas.errors import ConfigurationError

TESTED: Final = "3.0.12"
_FETCH_WAIT: Final = "fetch_max_wait_ms"


def not_as_expected(trouble: object) -> ConfigurationError:
    """Return the error for a kafka-python that is built otherwise."""
    from kafka.version import __version__

    return ConfigurationError(
        f"kafka-python {__version__} is not built as headrace expects ({trouble!r}): install kafka-python {TESTED}"
    )


def fetcher_of(consumer: Any) -> Any:
    """Return the fetcher of a KafkaConsumer. The library has no setting for how a fetch's answer is read."""
    return _part(consumer, "_fetcher")


def fetch_wait_ms(consumer: Any) -> int:
    """Return for how many milliseconds at most the next fetch may wait at the broker."""
    return int(fetcher_of(consumer).config[_FETCH_WAIT])


def set_fetch_wait_ms(consumer: Any, milliseconds: int) -> None:
    """Set that. The library takes it when a consumer is built, and looks at it before each fetch."""
    fetcher_of(consumer).config[_FETCH_WAIT] = milliseconds


def follow_fetches(
    consumer: Any,
    *,
    parse: Callable[[Callable[[Any], Any], Any], Any],
    handle: Callable[[Callable[..., Any], tuple[Any, ...]], Any],
) -> None:
    """Call `parse` and `handle` in the place of what reads a partition's part of a fetch, and of what handles a
    broker's answer to a fetch: each with the library's own function and what that is called with.

    The library raises for one partition what ends the poll of all, and passes over other errors in silence.
    """
    fetcher = fetcher_of(consumer)
    parse_own, handle_own = _part(fetcher, "_parse_fetched_data"), _part(fetcher, "_handle_fetch_response")
    fetcher._parse_fetched_data = lambda completed: parse(parse_own, completed)
    fetcher._handle_fetch_response = lambda *response: handle(handle_own, response)


def consumer_metadata(consumer: Any) -> Any:
    """Return the ClusterMetadata of a KafkaConsumer, which alone has the ids of topics. No method shows it."""
    return _part(consumer, "_cluster")


def producer_metadata(producer: Any) -> Any:
    """Return the ClusterMetadata of a KafkaProducer: what it knows, without asking. `partitions_for` asks and waits."""
    return _part(producer, "_metadata")


def ask_for_topic(producer: Any, topic: str, seconds: float) -> None:
    """Wait until a KafkaProducer knows this topic, or raise its KafkaTimeoutError after `seconds`.

    `partitions_for` does the same, but always waits for `max_block_ms`.
    """
    _part(producer, "_wait_on_metadata")(topic, seconds * 1000)


def metadata_is_newer(metadata: Any, moment: float) -> bool:
    """Return True if a broker has sent this metadata since `moment` (of `time.monotonic`)."""
    return bool(_part(metadata, "_last_successful_refresh_ms") > moment * 1000)


def mistrust_lost_ids(producer: Any) -> None:
    """Let a KafkaProducer fail when the broker does not know its id.

    A broker that was restarted without its log knows neither the client nor the partition. The library takes this for
    a log that was cut by retention, and tries the same again for ever.
    """
    sender = _part(producer, "_sender")
    _part(sender, "_is_retention_based_unknown_producer_id")
    sender._is_retention_based_unknown_producer_id = lambda *_: False


def abandon(producer: Any) -> None:
    """Close a KafkaProducer without waiting: what is not sent yet is not sent any more. It may be half built.

    Its own `close` waits for what cannot be delivered, and then raises, without having closed anything.
    """
    sender = getattr(producer, "_sender", None)
    if sender is not None:
        sender.force_close()
    _part(producer, "_unregister_cleanup")()
    producer._closed = True


def stop_sending(producer: Any, seconds: float) -> None:
    """End the thread of a KafkaProducer that sends, and wait `seconds` for it.

    After a flush that was not complete the library's `close` raises, and that thread goes on.
    """
    sender = _part(producer, "_sender")
    sender.force_close()
    sender.join(seconds)


def _part(owner: Any, name: str) -> Any:
    try:
        return getattr(owner, name)
    except AttributeError as error:
        raise not_as_expected(error) from error
