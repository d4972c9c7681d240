"""Receipts as lines."""

import json

import pytest
from tests.workers.cli.conftest import cancelled, dead, result

from headrace_schemas.errors import InvalidRecord
from headrace_workers.cli.receipts import LINE_START, Receipt


@pytest.mark.parametrize("receipt", [result(1, 7), dead(2, 8), dead(None), cancelled(3, 9)])
def test_a_line_reads_back_as_the_same(receipt: Receipt):
    """Nothing is lost or added on the way through a file."""
    assert Receipt.from_json(receipt.to_json()) == receipt


def test_a_line_is_the_event_with_two_keys_more():
    """A program reads the fields of the contract, where it came from and what it is."""
    fields = json.loads(result(1, 7).to_json())
    assert (fields["line"], fields["type"], fields["status"]) == (7, "headrace.result.v1", "completed")
    assert result(1, 7).to_json().startswith(LINE_START)


@pytest.mark.parametrize(
    "text", [b"{}", b"[]", b"7", b"{", b'{"type": 3}', b'{"type":"headrace.output.v1"}', b'{"type":"x","line":"1"}']
)
def test_what_is_no_receipt_is_refused(text: bytes):
    """Another file is not taken for ours."""
    with pytest.raises(InvalidRecord):
        Receipt.from_json(text)


def test_a_blocked_result_is_an_answer_and_a_death_is_none():
    """Exit codes hang on this."""
    assert result(1, status="blocked", text=None).answered
    assert not dead(1).answered
    assert not cancelled(1).answered
