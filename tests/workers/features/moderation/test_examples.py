import json
from pathlib import Path

import pytest

from headrace_schemas.errors import ConfigurationError
from headrace_workers.features.moderation import head_training
from headrace_workers.features.moderation.head_training import read_examples


def line(**changes: object) -> str:
    return json.dumps({"text": "a", "source": "s", "labels": {"hate": True}} | changes)


def test_examples_are_read_in_order_from_all_files(tmp_path: Path) -> None:
    """Empty lines are passed over; benign is a no to all, and what is not named is unknown."""
    (tmp_path / "one").write_text(line() + "\n\n")
    (tmp_path / "two").write_text(line(text="b", labels={}, benign=True))
    one, two = read_examples([tmp_path / "one", tmp_path / "two"])
    assert (one.label("hate"), one.label("violence"), one.licence) == (True, None, "not stated")
    assert (two.text, two.label("hate"), two.label("violence")) == ("b", False, False)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("{", "line 2: "),
        (line(source=""), "line 2: source"),
        (line(text=""), "line 2: text"),
        (line(labels={"email": True}), "line 2: .*'email' is none that is learnt; those are harassment, "),
        (line(benign=True), "line 2: .*it is benign, and labelled otherwise"),
        (line(labels={}), "line 2: .*it has neither labels nor benign: true"),
        (line(label="x"), "line 2: label"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, bad: str, why: str) -> None:
    """With its file, its number and the reason."""
    (tmp_path / "data").write_text(f"{line()}\n{bad}\n")
    with pytest.raises(ConfigurationError, match="data, " + why):
        list(read_examples([tmp_path / "data"]))


def test_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a line, and of all of them."""
    (tmp_path / "data").write_text(f"{line()}\n{line()}\n")
    monkeypatch.setattr(head_training, "MAX_EXAMPLES", 1)
    with pytest.raises(ConfigurationError, match="line 2: more than 1 examples"):
        list(read_examples([tmp_path / "data"]))
    monkeypatch.setattr(head_training, "_LONGEST", 10)
    with pytest.raises(ConfigurationError, match="line 1 has more than 10 bytes"):
        list(read_examples([tmp_path / "data"]))
    with pytest.raises(ConfigurationError, match="none cannot be read"):
        list(read_examples([tmp_path / "none"]))
