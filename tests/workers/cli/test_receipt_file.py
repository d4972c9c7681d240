import os
import resource
from pathlib import Path

import pytest
from tests.workers.cli.conftest import dead, job_id, result

from headrace_schemas import Category, DeadLetter
from headrace_schemas.errors import ConfigurationError
from headrace_workers.cli.receipts import Receipt
from headrace_workers.cli.streams import OutputFailed, ReaderGone
from headrace_workers.features.batches.commands.receipt_file import NotReceipts, ReceiptFile, read_receipts


def test_what_is_appended_reads_back(tmp_path: Path):
    path = tmp_path / "a" / "out.jsonl"
    with ReceiptFile(path) as file:
        file.append([result(1, 2)])
        file.append([dead(2, 1)])
    assert list(read_receipts(path)) == [result(1, 2), dead(2, 1)]


def test_a_resumed_file_knows_its_jobs_and_writes_none_twice(tmp_path: Path):
    path = tmp_path / "out.jsonl"
    with ReceiptFile(path) as file:
        file.append([result(1, 1)])
    with ReceiptFile(path) as file:
        assert file.job_ids == {job_id(1)}
        file.append([result(1, 1), result(2, 2), result(2, 2)])
    assert [receipt.line for receipt in read_receipts(path)] == [1, 2]


def test_a_torn_line_is_cut_wherever_it_was_torn(tmp_path: Path):
    path = tmp_path / "out.jsonl"
    whole = result(1, 1).to_json() + b"\n"
    second = result(2, 2).to_json()
    for length in range(1, len(second) + 1, 7):
        path.write_bytes(whole + second[:length])
        with ReceiptFile(path) as file:
            assert (file.cut_bytes, file.job_ids) == (length, {job_id(1)})
            file.append([result(2, 2)])
        assert path.read_bytes() == whole + second + b"\n"


def test_zeros_of_a_power_cut_are_cut(tmp_path: Path):
    path = tmp_path / "out.jsonl"
    path.write_bytes(result(1, 1).to_json() + b"\n" + b"\x00" * 100)
    with ReceiptFile(path) as file:
        assert file.cut_bytes == 100


@pytest.mark.parametrize("content", [b"my notes", b"my notes\n", b'{"prompt":"x"}\n', b'{"prompt":"x"}'])
def test_another_file_is_left_as_it_is(tmp_path: Path, content: bytes):
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(NotReceipts, match=r"notes.txt:1: it is not a receipt"):
        ReceiptFile(path).open()
    assert path.read_bytes() == content


def test_two_runs_cannot_write_one_file(tmp_path: Path):
    path = tmp_path / "out.jsonl"
    with ReceiptFile(path) as first:
        with pytest.raises(ConfigurationError, match="another run"):
            ReceiptFile(path).open()
        first.append([result(1, 1)])
    with ReceiptFile(path) as file:
        assert file.job_ids == {job_id(1)}


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="cannot be written"):
        ReceiptFile(tmp_path).open()


def test_a_device_is_written_and_never_read():
    with ReceiptFile(Path("/dev/full")) as file:
        assert not file.keeps
        with pytest.raises(OutputFailed, match=r"/dev/full cannot be written: No space left on device"):
            file.append([result(1, 1)])
        assert file.job_ids == set()


def test_a_pipe_gets_receipts_until_nobody_reads_it(tmp_path: Path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with ReceiptFile(path) as file:
        file.append([result(1, 1), result(1, 1)])
        assert os.read(reader, 1 << 16) == result(1, 1).to_json() + b"\n"
        os.close(reader)
        with pytest.raises(ReaderGone):
            file.append([result(2, 2)])


def test_a_file_that_takes_no_more_says_so_and_can_be_gone_on_with(tmp_path: Path):
    path = tmp_path / "out.jsonl"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with ReceiptFile(path) as file:
        file.append([result(1, 1)])
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 50, before[1]))
        try:
            with pytest.raises(OutputFailed, match=r"out.jsonl cannot be written: File too large"):
                file.append([result(2, 2)])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert file.job_ids == {job_id(1)}
    with ReceiptFile(path) as file:
        assert (file.job_ids, file.cut_bytes) == ({job_id(1)}, 50)


def refusal(number, value=b"{}", **fields):
    size = fields.pop("size", len(value))
    event = DeadLetter(
        refers_to=job_id(number), category=Category.EXPIRED, reason="too late", stage="ingest",
        topic="jobs.generation", size=size, original=value.decode(), encoding="utf-8", truncated=size > len(value),
    )  # fmt: skip
    return Receipt(event, number)


def test_what_was_refused_may_have_a_later_receipt(tmp_path):
    path = tmp_path / "out.jsonl"
    with ReceiptFile(path) as file:
        file.append([refusal(1), result(2, 2), refusal(3), refusal(4)])
    with ReceiptFile(path) as file:
        assert file.refusals.keys() == {job_id(1), job_id(3), job_id(4)}
        for number in (1, 3):
            file.ask_again(job_id(number))
        file.append([result(1, 1), refusal(3, b"[]"), refusal(4, b"[]")])
        assert [r.line for r in read_receipts(path, file.outdated)] == [2, 4, 1, 3]
    with ReceiptFile(path) as file:
        assert file.refusals == {job_id(3): refusal(3, b"[]"), job_id(4): refusal(4)}
        assert file.job_ids == {job_id(number) for number in (1, 2, 3, 4)}
        assert [r.line for r in read_receipts(path, file.outdated)] == [2, 4, 1, 3]
        file.append([result(4, 4)])
    assert len(path.read_text().splitlines()) == 6
