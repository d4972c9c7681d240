"""The file of receipts: resumed, repaired, never mistaken."""

from pathlib import Path

import pytest
from tests.workers.cli.conftest import dead, job_id, result

from headrace_schemas.errors import ConfigurationError
from headrace_workers.cli.outfile import NotReceipts, ReceiptFile, read_receipts


def test_what_is_appended_reads_back(tmp_path: Path):
    """In order, with folders made on the way."""
    path = tmp_path / "a" / "out.jsonl"
    with ReceiptFile(path) as file:
        file.append([result(1, 2)])
        file.append([dead(2, 1)])
    assert list(read_receipts(path)) == [result(1, 2), dead(2, 1)]


def test_a_resumed_file_knows_its_jobs_and_writes_none_twice(tmp_path: Path):
    """A job that is there is passed over, even within one chunk."""
    path = tmp_path / "out.jsonl"
    with ReceiptFile(path) as file:
        file.append([result(1, 1)])
    with ReceiptFile(path) as file:
        assert file.job_ids == {job_id(1)}
        file.append([result(1, 1), result(2, 2), result(2, 2)])
    assert [receipt.line for receipt in read_receipts(path)] == [1, 2]


def test_a_torn_line_is_cut_wherever_it_was_torn(tmp_path: Path):
    """Killed after any byte of the second line: the first stays, and the second can be written again."""
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
    """A file that grew before its content was written has zeros at its end."""
    path = tmp_path / "out.jsonl"
    path.write_bytes(result(1, 1).to_json() + b"\n" + b"\x00" * 100)
    with ReceiptFile(path) as file:
        assert file.cut_bytes == 100


@pytest.mark.parametrize("content", [b"my notes", b"my notes\n", b'{"prompt":"x"}\n', b'{"prompt":"x"}'])
def test_another_file_is_left_as_it_is(tmp_path: Path, content: bytes):
    """A slip with -o destroys nothing."""
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(NotReceipts, match=r"notes.txt:1: it is no receipt"):
        ReceiptFile(path).open()
    assert path.read_bytes() == content


def test_two_runs_cannot_write_one_file(tmp_path: Path):
    """The second is told, and the first goes on."""
    path = tmp_path / "out.jsonl"
    with ReceiptFile(path) as first:
        with pytest.raises(ConfigurationError, match="another run"):
            ReceiptFile(path).open()
        first.append([result(1, 1)])
    with ReceiptFile(path) as file:
        assert file.job_ids == {job_id(1)}


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path):
    """A folder is no file."""
    with pytest.raises(ConfigurationError, match="cannot be written"):
        ReceiptFile(tmp_path).open()
