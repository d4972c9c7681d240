"""Texts by which moderation is measured: harmless ones of our own, and files of others."""

from hashlib import sha256
from pathlib import Path

import pytest
from bench import foreign_package
from bench.moderation_texts import BENIGN, BORDERLINE

from headrace_schemas.errors import Unavailable


@pytest.mark.parametrize("templates", [BENIGN, BORDERLINE], ids=["benign", "borderline"])
def test_there_are_enough_and_each_is_another(templates) -> None:
    texts = [text for template in templates for text in template.texts]
    assert len(texts) >= 300
    assert len(set(texts)) == len(texts)
    assert len(templates) >= 20
    assert all(len(set(template.fills)) == len(template.fills) == 16 for template in templates)
    assert not any(text.count("  ") or "{" in text for text in texts)


def test_a_fetched_file_that_is_not_the_measured_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreign_package, "_CACHE", tmp_path)
    (tmp_path / "mails.jsonl").write_bytes(b"mails")
    address = "https://example.com/mails.jsonl"
    assert foreign_package.fetched(address, "mails.jsonl", sha256(b"mails").hexdigest()) == b"mails"
    with pytest.raises(Unavailable, match=r"mails\.jsonl is not the file that was measured"):
        foreign_package.fetched(address, "mails.jsonl", sha256(b"other mails").hexdigest())
