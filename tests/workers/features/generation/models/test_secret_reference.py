"""References to secrets."""

from pathlib import Path

import pytest

from headrace_schemas.errors import ConfigurationError
from headrace_workers.features.generation.models.catalogue import SecretReference


def test_a_key_is_read_where_it_lies_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Environment variables and files are read at each use, without the line end that editors add."""
    monkeypatch.setenv("A_KEY", "one")
    by_name = SecretReference.parse("env:A_KEY")
    assert by_name.read() == "one"
    monkeypatch.setenv("A_KEY", "two")
    assert by_name.read() == "two"
    file = tmp_path / "key"
    file.write_text("three\n")
    by_file = SecretReference.parse(f"file:{file}")
    assert by_file.read() == "three"
    file.write_text("four\n")
    assert by_file.read() == "four"


@pytest.mark.parametrize(
    "text", ["sk-live-0123456789", "", "env:", "env:NOT A NAME", "file:", "file:relative/path", "vault:x", "ENV:KEY"]
)
def test_a_text_that_is_no_reference_is_refused_without_being_quoted(text: str) -> None:
    """A key that was pasted where a reference belongs does not appear in the error."""
    with pytest.raises(ValueError, match="must say where the key is") as caught:
        SecretReference.parse(text)
    assert "sk-live" not in str(caught.value)


def test_a_missing_key_names_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says which variable or file should hold the key; an empty one counts as missing."""
    monkeypatch.delenv("NO_KEY", raising=False)
    with pytest.raises(ConfigurationError, match="NO_KEY is not set"):
        SecretReference.parse("env:NO_KEY").read()
    file = tmp_path / "key"
    for content in (None, b"", b" \n", b"\xff\xfe"):
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(ConfigurationError, match="cannot be read, or is empty"):
            SecretReference.parse(f"file:{file}").read()


@pytest.mark.parametrize("key", ["two\nlines", "schlüssel", "tab\tinside"])
def test_a_key_that_no_header_can_carry_is_refused(tmp_path: Path, key: str) -> None:
    """A key with a line end would be a header of its own; the error does not show it."""
    file = tmp_path / "key"
    file.write_text(key)
    with pytest.raises(ConfigurationError, match="no HTTP header can carry") as caught:
        SecretReference.parse(f"file:{file}").read()
    assert key not in str(caught.value)


def test_a_reference_shows_the_place_and_never_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its text and its representation are safe to log."""
    monkeypatch.setenv("A_KEY", "very-secret")
    reference = SecretReference.parse("env:A_KEY")
    assert str(reference) == "env:A_KEY"
    assert "very-secret" not in f"{reference!r}{reference}"
