import hashlib
from pathlib import Path

import pytest

from headrace_schemas.errors import ConfigurationError, HeadraceError
from headrace_workers.features.evals.plan import read_dataset


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


def test_the_same_rows_come_from_every_format(tmp_path: Path) -> None:
    text = '{"n": 1, "q": "a\\nb", "d": "x"}\n\n{"n": 2, "q": "c", "d": "y"}\n'
    lines = read_dataset(written(tmp_path, "a.jsonl", text), "n", "d")
    cells = read_dataset(written(tmp_path, "a.csv", '\ufeffn, q,d\r\n1,"a\nb",x\r\n\r\n2,c,y\r\n'), "n", "d")
    assert [(item.id, item.row["q"], item.cluster) for item in lines.items] == [("1", "a\nb", "x"), ("2", "c", "y")]
    assert [(item.id, item.row["q"], item.cluster) for item in cells.items] == [("1", "a\nb", "x"), ("2", "c", "y")]
    assert [item.line for item in lines.items] == [1, 3]
    assert [item.line for item in cells.items] == [2, 5]
    assert lines.digest == hashlib.sha256(text.encode()).hexdigest()


def test_without_an_id_items_are_called_by_their_lines(tmp_path: Path) -> None:
    """As people find them."""
    dataset = read_dataset(written(tmp_path, "a.jsonl", '\n{"q": "a"}\n'))
    assert [(item.id, item.cluster) for item in dataset.items] == [("2", None)]


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.jsonl", '{"n": 1}\n[1]\n{"n":\n{"n": 1}', r"3 rows are wrong.*\n.*a.jsonl:2: it must be a JSON object"),
        ("a.jsonl", '{"n": 1}\n{"n": 1}', "a.jsonl:2: `n` is '1' as in line 1: ids must differ"),
        ("a.jsonl", '{"m": 1, "o": 2}', "a.jsonl:1: it lacks `n`; it has `m`, `o`"),
        ("a.jsonl", '{"n": true}', "a.jsonl:1: `n` must be a text or a whole number"),
        ("a.jsonl", '{"n": "' + "x" * 201 + '"}', "more than 200 characters"),
        ("a.jsonl", "", "has no rows"),
        ("a.csv", "n\n1,2\n", "a.csv:2: it has 2 cells, and the first line names 1"),
        ("a.csv", "n,n\n1,2\n", "a.csv:1: the first line must name each column"),
        ("a.csv", 'n\n"1', "a.csv:2: it is no CSV"),
        ("a.txt", "n\n", "ends in .jsonl, .csv or .parquet, not in .txt"),
    ],
)
def test_what_does_not_do_is_named(tmp_path: Path, name: str, text: str, told: str) -> None:
    with pytest.raises(HeadraceError, match=told):
        read_dataset(written(tmp_path, name, text), "n")


def test_parquet_needs_a_library_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ConfigurationError, match="pip install pyarrow`, or save it as JSON lines"):
        read_dataset(written(tmp_path, "a.parquet", "PAR1"))
