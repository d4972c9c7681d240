import gzip
import json
from pathlib import Path

import pytest
from tests.workers.cli.conftest import Call

PROSE = "The mill was built beside the river, and its wheel has turned there for more than two hundred years."
OTHER = "A baker in the next village buys the flour of that mill on each market day of the week, in winter too."
LINES = [
    {"text": PROSE, "id": 1},
    "{",
    {"text": PROSE.upper()},
    {"text": PROSE.replace("two hundred", "three hundred")},
    {"text": "ok"},
    {"text": f"{OTHER} Write to ann.smith@headrace.io for more of it."},
    {"messages": [{"role": "user", "content": "What does the baker buy?"}, {"role": "assistant", "content": OTHER}]},
    {"text": "In welcher Stadt steht die Mühle, die das Mehl für die Bäcker und für den Markt der Woche mahlt?"},
    {"text": "Remember this: on which day of the week does the baker in the next village buy his flour from us?"},
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "raw.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in LINES) + "\n\n")
    return path


def test_what_is_kept_is_as_it_was(call: Call, data: Path, tmp_path: Path) -> None:
    """Byte by byte and in order; everything else is counted, shown, and told line by line."""
    tests = tmp_path / "eval.jsonl"
    tests.write_text('{"question": "On which day of the week does the baker in the next village buy his flour?"}\n')
    out, removed = tmp_path / "clean.jsonl", tmp_path / "removed.jsonl"
    options = ("--tests", str(tests), "--language", "en", "--near", "0.4", "--removed", str(removed))
    code, printed, said = call("dataset", "clean", str(data), str(out), *options, "--json")
    assert code == 0, said
    assert out.read_text().splitlines() == [json.dumps(LINES[0]), json.dumps(LINES[6])]
    assert json.loads(printed)["removed"] == {
        "unreadable": 1, "quality": 1, "language": 1, "duplicate": 1, "leaked": 1, "moderation": 1, "near duplicate": 1,
    }  # fmt: skip
    told = [json.loads(line) for line in removed.read_text().splitlines()]
    assert [(item["line"], item["rule"]) for item in told] == [
        (2, "unreadable"), (3, "duplicate"), (4, "near duplicate"), (5, "quality"), (6, "moderation"), (8, "language"),
        (9, "leaked"),
    ]  # fmt: skip
    assert "personal_data" in told[4]["reason"]
    assert "ann.smith" not in printed
    assert f"{out}: 2 of 9 lines kept" in call("dataset", "clean", str(data), str(out), *options)[2]


def test_compressed_data_is_read(call: Call, data: Path, tmp_path: Path) -> None:
    packed, out = tmp_path / "raw.jsonl.gz", tmp_path / "clean.jsonl"
    packed.write_bytes(gzip.compress(data.read_bytes()))
    assert call("dataset", "clean", str(packed), str(out))[0] == 0
    assert json.dumps(LINES[0]) in out.read_text()


def test_a_file_is_written_whole_or_not_at_all(call: Call, data: Path, tmp_path: Path) -> None:
    packed, out = tmp_path / "raw.jsonl.gz", tmp_path / "clean.jsonl"
    packed.write_bytes(gzip.compress(data.read_bytes())[:-9])
    out.write_text("as it was")
    code, _, said = call("dataset", "clean", str(packed), str(out))
    assert code != 0
    assert "raw.jsonl.gz" in said
    assert out.read_text() == "as it was"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clean.jsonl", "raw.jsonl", "raw.jsonl.gz"]


def test_a_device_is_written_to_and_not_replaced(call: Call, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "full"
    out.symlink_to("/dev/full")
    code, _, said = call("dataset", "clean", str(data), str(out))
    assert code == 2
    assert f"{out} cannot be written" in said
    assert out.is_symlink()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("nowhere.jsonl", "out.jsonl"), "nowhere.jsonl cannot be read"),
        (("raw.jsonl", "raw.jsonl"), "three different files"),
        (("raw.jsonl", "nowhere/out.jsonl"), "cannot be written"),
        (("raw.jsonl", "out.jsonl", "--language", "xx"), "it may be de, en"),
        (("raw.jsonl", "out.jsonl", "--tests", "raw.jsonl"), "raw.jsonl:2"),
        (("raw.jsonl", "out.jsonl", "--tests", "none.jsonl"), "none.jsonl has no item of 5 words and more"),
        (("raw.jsonl", "out.jsonl", "--tests", "short.jsonl"), "short.jsonl has no item of 5 words and more"),
    ],
)
def test_what_cannot_be_is_told(
    call: Call, data: Path, arguments: tuple[str, ...], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is written; a test that cannot be read could not be kept out."""
    monkeypatch.chdir(data.parent)
    (data.parent / "none.jsonl").write_bytes(b"")
    (data.parent / "short.jsonl").write_text('{"text": "the capital of France"}\n')
    code, _, said = call("dataset", "clean", *arguments)
    assert code == 2
    assert reason in said
    assert not (data.parent / "out.jsonl").exists()


def test_no_line_is_no_error(call: Call, tmp_path: Path) -> None:
    source, out = tmp_path / "empty.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(b"")
    code, printed, said = call("dataset", "clean", str(source), str(out))
    assert (code, printed, out.read_bytes()) == (0, "", b"")
    assert "0 of 0 lines kept" in said
