"""Consumers that can read any header name.

Kafka wants header names in UTF-8, but brokers pass on whatever comes, and kafka-python decodes names strictly: one
record with another name makes `poll` fail and then never return, and keeps all that lies behind it from being read. The
library has no setting for it, so this reaches into it: for the one consumer that is given, and for no other of the
process.
"""

from typing import Any

from kafka import TopicPartition
from kafka.consumer.fetcher import Fetcher
from kafka.record import MemoryRecords
from kafka.record.default_records import DefaultRecordBatch
from kafka.version import __version__

from headrace_schemas.errors import ConfigurationError

# A batch as brokers send it: one record with one header, whose name is the byte 0xFF.
_SAMPLE = bytes.fromhex(
    "00000000000000000000003b0000000002ced4983c00000000000000000000000000000000000000000000"
    "ffffffffffffffffffffffffffff000000011200000001010202ff01"
)


def read_any_header_name(consumer: Any) -> None:
    r"""Let this KafkaConsumer read header names that are not UTF-8: each such byte comes as `\xff`.

    Call it before `poll`. Raises ConfigurationError when the installed kafka-python is not built as this expects.
    """
    try:
        fetcher = consumer._fetcher
        fetcher.PartitionRecords = _PartitionRecords
        sample = fetcher.PartitionRecords(0, TopicPartition("sample", 0), MemoryRecords(_SAMPLE))
        found = [record.headers for record in sample.take()]
    except Exception as error:
        raise ConfigurationError(_unknown(error)) from error
    if not isinstance(fetcher, Fetcher) or found != [[(r"\xff", None)]]:
        raise ConfigurationError(_unknown(f"a sample is read as {found}"))


def _unknown(trouble: object) -> str:
    return f"kafka-python {__version__} is not built as headrace expects ({trouble!r}): install kafka-python 3.0.12"


class _PartitionRecords(Fetcher.PartitionRecords):  # type: ignore[misc]  # the library has no types
    """What was fetched of one partition."""

    def _unpack_records(self, partition: Any, records: Any, *deserializers: Any) -> Any:
        return super()._unpack_records(partition, _Batches(records), *deserializers)


class _Batches:
    """The batches of a fetch, in order, then None."""

    def __init__(self, records: Any) -> None:
        self._records = records

    def next_batch(self) -> Any:
        batch = self._records.next_batch()
        # Older formats have no headers.
        return _Batch(batch._buffer) if isinstance(batch, DefaultRecordBatch) else batch


class _Batch(DefaultRecordBatch):  # type: ignore[misc]  # the library has no types
    """One batch. Only from its first odd name on is it read the lenient way, which is slower."""

    _buffer: bytearray

    def _read_msg(self) -> Any:
        try:
            return super()._read_msg()
        except UnicodeDecodeError:
            self._buffer = _Lenient(self._buffer)
            return super()._read_msg()


class _Lenient(bytearray):
    """Bytes of which every part decodes to text."""

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        return _Lenient(found) if isinstance(place, slice) else found

    def decode(self, encoding: str = "utf-8", errors: str = "backslashreplace") -> str:
        return super().decode(encoding, errors)
