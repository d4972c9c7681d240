"""Consumers that hear soon of what comes, on a broker that answers a waiting fetch late.

The embedded broker looks for new records in the middle of a fetch's wait and at its end, and not as they come: with the
library's 500 ms each is read up to 250 ms late. A wait that is always short costs both sides CPU all day. So it is
short while there is something to hear, and grows while there is not: a record comes late only where none came for long.
kafka-python has no setting for that; it looks at this one before each fetch.
"""

from typing import Any, Final

from headrace_producers.kafka_internals import fetch_wait_ms, set_fetch_wait_ms
from headrace_producers.settings import KafkaSettings

_SHORTEST: Final = 20
_LONGEST: Final = 500


def attend(consumer: Any, kafka: KafkaSettings) -> None:
    """Let this KafkaConsumer be attentive, where its broker is the embedded one; call it before `poll`."""
    if kafka.groups:  # any other broker answers at once
        return
    poll = consumer.poll
    set_fetch_wait_ms(consumer, _SHORTEST)

    def attentively(*args: Any, **options: Any) -> Any:
        found = poll(*args, **options)
        set_fetch_wait_ms(consumer, _SHORTEST if found else min(_LONGEST, 2 * fetch_wait_ms(consumer)))
        return found

    consumer.poll = attentively
