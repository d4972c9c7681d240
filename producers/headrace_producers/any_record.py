r"""Consumers that no record stops.

Brokers pass on every batch: batches packed by a codec that this client lacks, batches that a disk has spoilt,
header names that are not UTF-8. kafka-python raises for each of them, and then never gets past it: all that comes after
is read no more, and other partitions wait with it. The library has no setting for that, so this reaches into it: for
the one consumer that is given, and for no other of the process.

- Batches are unpacked by `codecs`.
- A header name that is not UTF-8 comes with each such byte as `\xff`.
- A batch, or the rest of one, that cannot be read comes as one record whose headers are `Unreadable` and whose value
  is the batch. One with a wrong checksum is fetched a second time before: the network may have done it.
"""

from collections.abc import Iterator
from typing import Any

from kafka import TopicPartition
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError
from kafka.record import MemoryRecords
from kafka.record.default_records import DefaultRecord, DefaultRecordBatch

from headrace_producers.codecs import CannotUnpack, unpack
from headrace_producers.kafka_internals import fetcher_of, not_as_expected
from headrace_schemas.errors import ConfigurationError

# A batch as brokers send it: one record with one header, whose name is the byte 0xFF.
SAMPLE = bytes.fromhex(
    "00000000000000000000003b0000000002ced4983c00000000000000000000000000000000000000000000"
    "ffffffffffffffffffffffffffff000000011200000001010202ff01"
)
_MOST_RECORDS = 1_000_000  # of one batch: a spoilt one may claim any number


class Unreadable(list[tuple[str, bytes]]):
    """The headers, none, of a record that stands for what cannot be read. Its offset is the last of those."""

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason


def read_any_record(consumer: Any) -> None:
    """Let this KafkaConsumer read records of every form.

    Call it before `poll`. Raises ConfigurationError when the installed kafka-python is not built as this expects.
    """
    try:
        fetcher = fetcher_of(consumer)
        fetcher.PartitionRecords = type("PartitionRecords", (_PartitionRecords,), {"_doubted": set()})
        sample = fetcher.PartitionRecords(0, TopicPartition("sample", 0), MemoryRecords(SAMPLE))
        headers = [record.headers for record in sample.take()]
    except ConfigurationError:
        raise
    except Exception as error:
        raise not_as_expected(error) from error
    if not isinstance(fetcher, Fetcher) or headers != [[(r"\xff", None)]]:
        raise not_as_expected(f"a sample is read as {headers}")


class _PartitionRecords(Fetcher.PartitionRecords):  # type: ignore[misc]  # the library has no types
    """The records that a fetch returned for one partition."""

    _doubted: set[tuple[TopicPartition, int]]  # batches whose checksum was wrong once

    def _unpack_records(self, partition: Any, records: Any, *deserializers: Any) -> Any:
        batches = _Batches(records, partition, self.fetch_offset, self._doubted)
        return super()._unpack_records(partition, batches, *deserializers)


class _Batches:
    """The batches of a fetch, in order, then None."""

    def __init__(self, records: Any, partition: Any, fetch_offset: int, doubted: set[Any]) -> None:
        self._records = records
        self._partition = partition
        self._fetch_offset = fetch_offset
        self._doubted = doubted

    def next_batch(self) -> Any:
        """Return the next one, or None."""
        batch = self._records.next_batch()
        # Older formats have no headers, and only clients of the year 2016 write them.
        if not isinstance(batch, DefaultRecordBatch):
            return batch
        place = (self._partition, batch.base_offset)
        if batch.validate_crc():
            self._doubted.discard(place)
            return _Batch(batch._buffer, self._fetch_offset)
        if place not in self._doubted:
            self._doubted.add(place)
            return None  # as if nothing more had come: it is fetched again
        return _SpoiltBatch(batch, self._fetch_offset)


class _Batch(DefaultRecordBatch):  # type: ignore[misc]  # the library has no types
    """A batch with a correct checksum. From its first unusual name on it is read the lenient way, which is slower."""

    _buffer: bytearray
    _pos: int
    _decompressed: bool

    def __init__(self, buffer: Any, fetch_offset: int) -> None:
        super().__init__(buffer)
        self._first_left = max(self.base_offset, fetch_offset)

    def validate_crc(self) -> bool:
        """Return True: the checksum was verified before."""
        return True

    def __iter__(self) -> Iterator[Any]:
        if self.compression_type and not self._decompressed:
            try:
                self._buffer = bytearray(unpack(self.compression_type, bytes(memoryview(self._buffer)[self._pos :])))
            except CannotUnpack as error:
                return iter([_stand_in(self, self._first_left, str(error))])
            self._pos = 0
        self._decompressed = True
        return self

    def __next__(self) -> Any:
        try:
            record = super().__next__()
        except CorruptRecordError as error:
            self._next_record_index, self._pos = self._num_records, len(self._buffer)  # nothing more of it
            return _stand_in(self, self._first_left, f"its records are not what they should be: {error}")
        self._first_left = max(self._first_left, record.offset + 1)
        return record

    next = __next__

    def _read_msg(self) -> Any:
        try:
            return super()._read_msg()
        except UnicodeDecodeError:
            self._buffer = _Lenient(self._buffer)
            return super()._read_msg()


class _SpoiltBatch:
    """Replacement of a batch whose checksum is wrong: none of its own fields can be trusted."""

    magic = 2
    is_control_batch = is_transactional = False
    leader_epoch = -1

    def __init__(self, batch: Any, fetch_offset: int) -> None:
        self.base_offset = batch.base_offset
        # Brokers know batches by their first offset: too near an end shows the same batch again, too far skips others.
        believed = batch.last_offset_delta if batch.last_offset_delta + 1 == batch.records_count <= _MOST_RECORDS else 0
        self.last_offset = max(batch.base_offset + max(0, believed), fetch_offset)
        self.next_offset = self.last_offset + 1
        self._buffer, self.first_timestamp = batch._buffer, 0
        self._record = _stand_in(self, max(self.base_offset, fetch_offset), "its checksum is wrong")

    def validate_crc(self) -> bool:
        """Return True: the replacement records of the batch are sound."""
        return True

    def has_producer_id(self) -> bool:
        """Return False: the replacement records have no producer."""
        return False

    def __iter__(self) -> Iterator[Any]:
        return iter([self._record])


def _stand_in(batch: Any, first: int, reason: str) -> Any:
    last = max(first, batch.last_offset)
    headers = Unreadable(f"the batch at offsets {first} to {last} cannot be read: {reason}")
    raw = bytes(batch._buffer)
    return DefaultRecord(len(raw), last, batch.first_timestamp, 0, None, raw, headers)


class _Lenient(bytearray):
    """Bytes of which every part decodes to text."""

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        return _Lenient(found) if isinstance(place, slice) else found

    def decode(self, encoding: str = "utf-8", errors: str = "backslashreplace") -> str:
        return super().decode(encoding, errors)
