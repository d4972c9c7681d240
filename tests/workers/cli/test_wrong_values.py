"""Commands of the doors with values that are empty, huge, negative or no text: told in words, and nothing is done."""

from pathlib import Path

import pytest
from tests.workers.cli.conftest import Call

from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.features.access.store.keys import ApiKeys
from headrace_workers.features.access.store.quotas import Quotas
from headrace_workers.features.webhooks.store.webhooks import Webhooks

HUGE = "9" * 30
LONG = "x" * 5_000
TORN = "\udcff"  # as Python hands a byte on that is no text
NO_TENANT = "cannot name a tenant"
NOT_TEXT = "is not UTF-8, and names nothing"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("batch", "submit", "x", "--max-tokens", "-1"), "'--max-tokens': must be at least 1"),
        (("batch", "submit", "x", "--max-tokens", HUGE), "'--max-tokens': must be at most 100000000000000"),
        (("batch", "submit", "x", "--max-tokens", "few"), "'--max-tokens': must be a whole number"),
        (("batch", "submit", "x", "--answer-tokens", HUGE), "'--answer-tokens': must be at most 32768"),
        (("batch", "submit", ""), "FILE is empty"),
        (("batch", "status", "--limit", HUGE), "must be at most 10000000"),
        (("batch", "status", "--tenant", TORN), NOT_TEXT),
        (("batch", "status", TORN), NOT_TEXT),
        (("webhooks", "add", "https://shop.example/", "--tenant", ""), NO_TENANT),
        (("webhooks", "add", "https://shop.example/", "--tenant", LONG), NO_TENANT),
        (("webhooks", "add", "https://shop.example/", "--name", TORN), NOT_TEXT),
        (("webhooks", "list", "--limit", "0"), "must be at least 1"),
        (("webhooks", "secret", "--tenant", "a b"), NO_TENANT),
        (("webhooks", "rotate", "we_1", "--overlap", "99999d"), "--overlap is '99999d'; it must be 0 or more"),
        (("webhooks", "deliveries", TORN), NOT_TEXT),
        (("webhooks", "deliveries", "--limit", HUGE), "must be at most 10000000"),
        (("keys", "create", "x", "--tenant", ""), NO_TENANT),
        (("review", "import", "labels.jsonl", "--tenant", ""), NO_TENANT),
        (("keys", "create", LONG), "the name has more than 256 characters"),
        (("keys", "create", TORN), NOT_TEXT),
        (("keys", "create", "x", "--expires", "0"), "--expires is '0'; it must be more than 0"),
        (("keys", "create", "x", "--expires", "99999d"), "at most 36500d"),
        (("keys", "list", "--limit", HUGE), "must be at most 10000000"),
        (("keys", "revoke", TORN), NOT_TEXT),
        (("limits", "set", "shop", "--tokens", "-1"), "'--tokens': must be at least 0"),
        (("limits", "set", "shop", "--tokens", HUGE), "'--tokens': must be at most 100000000000000"),
        (("limits", "list", "--after", TORN), NOT_TEXT),
        (("gateway", "--port", "70000"), "'--port': must be at most 65535"),
        (("gateway", "--host", ""), "--host is empty: name an address, or 0.0.0.0 for all"),
    ],
    ids=lambda each: " ".join(each)[:40].encode("ascii", "replace").decode() if isinstance(each, tuple) else "",
)
def test_it_is_told_in_words(call: Call, ledger: Ledger, arguments: tuple[str, ...], words: str):
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert words in " ".join(err.split())
    assert ledger.of(ApiKeys).listed() == []
    assert ledger.of(Webhooks).endpoints(None, 10) == []
    assert ledger.of(Quotas).find() == []


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"x" * 100_000], ids=["empty", "no text", "large"])
def test_a_file_without_a_secret_is_refused(call: Call, ledger: Ledger, tmp_path: Path, content: bytes):
    """Another secret than the receiver's would be worse."""
    file = tmp_path / "secret"
    file.write_bytes(content)
    code, out, err = call("webhooks", "add", "https://shop.example/", "--secret-file", str(file))
    assert (code, out) == (2, "")
    assert "no secret of Standard Webhooks" in err
    assert ledger.of(Webhooks).endpoints(None, 10) == []


def test_a_file_whose_name_is_no_text_is_read(call: Call, ledger: Ledger, tmp_path: Path):
    file = tmp_path / f"{TORN}.jsonl"
    file.write_text('{"prompt": "Name three rivers."}\n')
    code, out, _ = call("batch", "submit", str(file))
    assert (code, out[:6]) == (0, "batch_")
