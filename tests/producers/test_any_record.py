import shutil
import struct
import subprocess
from types import SimpleNamespace

import cramjam
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError
from kafka.record import MemoryRecords
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from kafka.record.util import calc_crc32c
from tests.services.eventually import eventually
from tests.services.header_names import OddName
from tests.services.kafka import spoilt
from tests.services.need import need

from headrace_producers.admin import ensure_topics
from headrace_producers.any_record import SAMPLE, Unreadable, read_any_record
from headrace_producers.codecs import MAX_UNPACKED_BYTES, CannotUnpack, unpack
from headrace_schemas import Topic
from headrace_schemas.errors import ConfigurationError

NAMES = {
    b"plain": "plain",
    b"\xff\xfe": r"\xff\xfe",
    "größe".encode(): "größe",
    b"ce_id\xc3": r"ce_id\xc3",
    b"\xed\xa0\x80": r"\xed\xa0\x80",  # a surrogate
    b"a\x00b": "a\x00b",
    b"": "",
    b"last": "last",
}


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_a_batch_with_odd_names_is_read_whole(kafka, compression):
    producer = KafkaProducer(**kafka.client_options(), linger_ms=1_000, compression_type=compression)  # one batch
    topic = kafka.topic(Topic.RESULTS)
    for number, name in enumerate(NAMES):
        headers = [("before", b"1"), (OddName(name), b"\xff"), (OddName(name), b""), ("after", b"2")]
        producer.send(topic, key=b"k", value=b"%d" % number, headers=headers, partition=0)
    producer.flush()
    producer.close()
    consumer = KafkaConsumer(**kafka.client_options(), enable_auto_commit=False)
    read_any_record(consumer)
    consumer.assign([TopicPartition(topic, 0)])
    consumer.seek(TopicPartition(topic, 0), 0)
    records = []

    def all_read():
        for batch in consumer.poll(timeout_ms=200, max_records=3).values():
            records.extend(batch)
        return len(records) >= len(NAMES)

    eventually(all_read)
    consumer.close()
    assert [(r.offset, r.key, r.value) for r in records] == [(n, b"k", b"%d" % n) for n in range(len(NAMES))]
    assert [r.headers for r in records] == [
        [("before", b"1"), (name, b"\xff"), (name, b""), ("after", b"2")] for name in NAMES.values()
    ]


def test_other_consumers_of_the_process_stay_as_they_are():
    """A service's own consumers are left alone. Once this fails, the library reads such names and needs no mending."""
    changed = SimpleNamespace(_fetcher=Fetcher.__new__(Fetcher))
    read_any_record(changed)
    with pytest.raises(CorruptRecordError):
        Fetcher.__new__(Fetcher).PartitionRecords(0, TopicPartition("t", 0), MemoryRecords(SAMPLE)).take()


@pytest.mark.parametrize(
    "consumer",
    [SimpleNamespace(), SimpleNamespace(_fetcher=None), SimpleNamespace(_fetcher=SimpleNamespace())],
    ids=["no fetcher", "nothing to change", "another fetcher"],
)
def test_a_library_built_otherwise_is_told_at_once(consumer):
    with pytest.raises(ConfigurationError, match=r"kafka-python [\d.]+ is not built as headrace expects"):
        read_any_record(consumer)


def test_a_library_that_reads_batches_otherwise_is_told_at_once(monkeypatch):
    """The sample is read through the library's own code, so that a change inside it shows."""
    monkeypatch.setattr(MemoryRecords, "next_batch", lambda _: None)
    with pytest.raises(ConfigurationError, match=r"a sample is read as \[\]"):
        read_any_record(SimpleNamespace(_fetcher=Fetcher.__new__(Fetcher)))


def read(kafka, count, partition=0):
    """So many records of a partition of the results, from its beginning."""
    consumer = KafkaConsumer(**kafka.client_options(), enable_auto_commit=False)
    read_any_record(consumer)
    place = TopicPartition(kafka.topic(Topic.RESULTS), partition)
    consumer.assign([place])
    consumer.seek(place, 0)
    records = []

    def all_read():
        records.extend(consumer.poll(timeout_ms=200).get(place, []))
        return len(records) >= count

    eventually(all_read)
    consumer.close()
    return records


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_what_librdkafka_packs_is_read(kafka, tmp_path, codec):
    kcat = need(shutil.which("kcat"), "kcat is needed (Debian: kcat)")
    values = [(b"%d " % number) * 100_000 for number in range(5)]
    files = [tmp_path / str(number) for number in range(5)]
    for file, value in zip(files, values, strict=True):
        file.write_bytes(value)
    command = [kcat, "-b", kafka.address, "-t", kafka.topic(Topic.RESULTS), "-p", "0", "-z", codec, "-P",
               "-X", "linger.ms=500", "-X", "message.max.bytes=4000000", "-X", "enable.idempotence=true"]  # fmt: skip
    subprocess.run([*command, *map(str, files)], check=True, timeout=240)
    assert [record.value for record in read(kafka, 5)] == values


def test_a_batch_that_the_disk_spoilt_stands_between_its_neighbours(apache_kafka, fresh_prefix):
    kafka = apache_kafka.settings(fresh_prefix)
    ensure_topics(kafka)
    producer = KafkaProducer(**kafka.client_options(), linger_ms=0)
    for number in range(3):
        producer.send(kafka.topic(Topic.RESULTS), b"value%d" % number, partition=0).get(120)
    producer.close()
    with spoilt(apache_kafka, kafka.topic(Topic.RESULTS), b"value1", b"valux1"):
        before, spoiled, behind = read(kafka, 3)
    assert (before.value, behind.value, spoiled.offset) == (b"value0", b"value2", 1)
    assert isinstance(spoiled.headers, Unreadable)
    assert "offsets 1 to 1" in spoiled.headers.reason
    assert "checksum" in spoiled.headers.reason


def batch(*values, codec=0, base=0, packed=None):
    """A batch in the log's format; `packed` replaces its records."""
    builder = DefaultRecordBatchBuilder(2, 0, False, -1, -1, -1, 10**6)
    for number, value in enumerate(values):
        builder.append(number, 1_000, None, value, [])
    made = bytearray(builder.build())
    header = DefaultRecordBatch.HEADER_STRUCT
    if packed is not None:
        made = made[: header.size] + packed
    struct.pack_into(">qi", made, 0, base, len(made) - 12)
    struct.pack_into(">h", made, DefaultRecordBatch.ATTRIBUTES_OFFSET, codec)
    return with_checksum(made)


def with_checksum(made):
    checksum = calc_crc32c(memoryview(made)[DefaultRecordBatch.ATTRIBUTES_OFFSET :])
    struct.pack_into(">I", made, DefaultRecordBatch.CRC_OFFSET, checksum)
    return bytes(made)


def taken(*batches, fetch_offset=0, consumer=None):
    """What a consumer makes of these batches, and from which offset it goes on."""
    consumer = consumer or SimpleNamespace(_fetcher=Fetcher.__new__(Fetcher))
    if "PartitionRecords" not in vars(consumer._fetcher):
        read_any_record(consumer)
    part = consumer._fetcher.PartitionRecords(fetch_offset, TopicPartition("t", 0), MemoryRecords(b"".join(batches)))
    return part.take(), part.next_fetch_offset


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (batch(b"x", b"y", codec=7, base=1), "number 7"),
        (batch(b"x", b"y", codec=4, base=1, packed=b"nonsense"), "said to be zstd, and is not"),
        (batch(b"x", b"y", codec=3, base=1, packed=b"nonsense"), "said to be lz4, and is not"),
        (batch(b"x", b"y", codec=2, base=1, packed=b"\xff" * 9), "said to be snappy, and is not"),
        (batch(b"x", b"y", codec=1, base=1, packed=b"nonsense"), "said to be gzip, and is not"),
        (batch(b"x", b"y", base=1, packed=b"\x05\x00"), "not what they should be"),
        (batch(b"x", b"y", codec=4, base=1, packed=bytes(cramjam.zstd.compress(bytes(MAX_UNPACKED_BYTES + 1)))),
         f"more than {MAX_UNPACKED_BYTES} bytes"),
    ],
)  # fmt: skip
def test_a_batch_that_makes_no_sense_is_one_record_with_the_reason(bad, reason):
    (first, wrong, last), goes_on = taken(batch(b"a"), bad, batch(b"b", base=3))
    assert (first.value, wrong.value, last.value, goes_on) == (b"a", bad, b"b", 4)
    assert reason in wrong.headers.reason
    (again,), goes_on = taken(bad, fetch_offset=2)
    assert (again.offset, goes_on) == (2, 3) == (wrong.offset, 3)


def test_a_batch_that_breaks_off_gives_what_can_be_read():
    whole = bytearray(batch(b"a", b"b", b"c"))
    broken = with_checksum(whole[:-4] + b"\x7f\x7f\x7f\x7f")
    records, goes_on = taken(broken, batch(b"d", base=3))
    assert [record.value for record in records] == [b"a", b"b", broken, b"d"]
    assert "offsets 2 to 2" in records[2].headers.reason
    assert goes_on == 4


def test_a_wrong_checksum_is_looked_at_twice():
    consumer = SimpleNamespace(_fetcher=Fetcher.__new__(Fetcher))
    good = batch(b"x", b"y", base=1)
    spoilt = good[:-3] + b"?" + good[-2:]
    assert taken(spoilt, consumer=consumer, fetch_offset=1) == ([], 1)
    records, _ = taken(good, consumer=consumer, fetch_offset=1)
    assert [record.value for record in records] == [b"x", b"y"]
    (first,), goes_on = taken(batch(b"a"), spoilt, batch(b"b", base=3), consumer=consumer)
    assert (first.value, goes_on) == (b"a", 1)
    (wrong, last), goes_on = taken(spoilt, batch(b"b", base=3), consumer=consumer, fetch_offset=1)
    assert ("checksum" in wrong.headers.reason, wrong.offset, last.value, goes_on) == (True, 2, b"b", 4)


def test_a_spoilt_header_makes_nothing_be_skipped():
    made = bytearray(batch(b"x", b"y"))
    struct.pack_into(">i", made, DefaultRecordBatch.ATTRIBUTES_OFFSET + 2, 5_000)
    consumer = SimpleNamespace(_fetcher=Fetcher.__new__(Fetcher))
    taken(bytes(made), consumer=consumer)
    (wrong,), goes_on = taken(bytes(made), consumer=consumer)
    assert (wrong.offset, goes_on) == (0, 1)


@pytest.mark.parametrize("framed", [True, False], ids=["snappy-java's frame", "one block"])
def test_snappy_comes_in_two_forms(framed):
    blocks = [b"a" * 1_000, b"b" * 2_000]
    packed = [bytes(cramjam.snappy.compress_raw(block)) for block in blocks]
    header = b"\x82SNAPPY\x00" + struct.pack(">ii", 1, 1)
    data = header + b"".join(struct.pack(">i", len(part)) + part for part in packed) if framed else packed[0]
    assert unpack(2, data) == (b"".join(blocks) if framed else blocks[0])


def test_a_frame_that_does_not_say_its_size_is_unpacked():
    """Java's clients write zstd so; more than 1 MiB of it, too."""
    packer = cramjam.zstd.Compressor()
    packer.compress(b"x" * 3_000_000)
    assert unpack(4, bytes(packer.finish())) == b"x" * 3_000_000


def test_many_blocks_cannot_get_around_the_bound():
    block = bytes(cramjam.snappy.compress_raw(bytes(MAX_UNPACKED_BYTES // 2 + 1)))
    part = struct.pack(">i", len(block)) + block
    with pytest.raises(CannotUnpack, match="more than"):
        unpack(2, b"\x82SNAPPY\x00" + struct.pack(">ii", 1, 1) + part * 2)
