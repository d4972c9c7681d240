import tomllib

import pytest

from headrace_workers.features.moderation.policy_file import line_of

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
        (("list", "b"), 13),
        (("none",), None),
    ],
)
def test_where_a_key_stands(keys: tuple[str, ...], line: int | None) -> None:
    """Or what is around it, where it stands in a table of one line, or nowhere."""
    tomllib.loads(TEXT)
    assert line_of(TEXT, keys) == line
