"""Which files one process of a parallel run does."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.services import together
from tests.services.together import SETS, BySets, set_of

ROOT = Path(__file__).parents[1]


def test_what_is_named_is_there() -> None:
    """A file or folder that was renamed is renamed here, too."""
    for name in (*together._FOLDERS, *together._FILES):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("name", SETS)
def test_a_set_is_done_by_one_process(name: str) -> None:
    """Its files are one piece of work, and any other file is a piece of its own."""
    files = [path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_*.py")]
    mine = [file for file in files if set_of(file) == name]
    assert len(mine) > 5
    schedule = BySets(SimpleNamespace(getvalue=lambda _: ["popen"]))
    assert {schedule._split_scope(f"{file}::test_it[a::b]") for file in mine} == {name}
    assert schedule._split_scope("tests/test_together.py::test_it") == "tests/test_together.py"
