import tomllib
from typing import Any

import pytest

from headrace_workers.core.toml_file import Keys, line_of, to_toml

TEXT = """# one
name = "x"

[a]
b = 1 # with = in it
"c.d" = { e = 2, f = 3 }
g.h = 4
[a.i]  # a comment
b = [
  5,
]
[[list]]
b = 6
text = '''
[[list]]
b = 7'''
[list.inner]
[[list]]
b = 8
[[list.in]]
[[list.in]]
c = 9
"""


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        (("name",), 2),
        (("a", "b"), 5),
        (("a",), 4),
        (("a", "c.d"), 6),
        (("a", "c.d", "f"), 6),
        (("a", "g", "h"), 7),
        (("a", "i", "b"), 9),
        (("a", "i", "none"), 8),
        (("list", 0, "b"), 13),
        (("list", 0, "inner"), 17),
        (("list", 1, "b"), 19),
        (("list", 1, "in", 1, "c"), 22),
        (("list", 1, "in", 0, "c"), 20),
        (("none",), None),
    ],
)
def test_where_a_key_stands(keys: Keys, line: int | None) -> None:
    tomllib.loads(TEXT)
    assert line_of(TEXT, keys) == line


@pytest.mark.parametrize(
    "document",
    [
        {"a": 1, "b": True, "c": 0.5, "d": 1e300, "e": [], "f": {}, "g": ["x", 2], "h": -1e-9},
        {"text": 'a "b" \\ \n\t\r\x7f\u001f é \n"""\n', "one line": "a\tb", "": "empty", "a.b": "\n"},
        {"a": {"b": {"c": 1}, "d": 2}, "e": [{"f": 1, "g": [{"h": 1}, {}]}, {"f": {"i": "j"}}], "k": [{"l": 1}, 2]},
    ],
)
def test_reading_what_was_written_gives_the_document(document: dict[str, Any]) -> None:
    assert tomllib.loads(to_toml(document)) == document
