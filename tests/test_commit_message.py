from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest

_LOADER = SourceFileLoader("commit_message", str(Path(__file__).parents[1] / ".ci/commit-message"))
_SPEC = spec_from_loader("commit_message", _LOADER)
assert _SPEC
HOOK = module_from_spec(_SPEC)
_LOADER.exec_module(HOOK)


@pytest.mark.parametrize(
    "message",
    [
        "Release quota reservations when a job is refused",
        "Need one lock fewer\n\nBecause nobody else takes it.\n# a comment of git's\n",
        "Pass the clock in",
        "Bring back the bound",
        "Merge branch 'main' into other",
        "fixup! Pass the clock in",
        "Say " + "x" * (HOOK.LIMIT - 4),
    ],
)
def test_a_good_subject_passes(message: str) -> None:
    assert HOOK.trouble(message) is None


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("", "empty"),
        ("# only a comment\n", "empty"),
        ("Say " + "x" * (HOOK.LIMIT - 3), "73 characters; the limit is 72"),
        ("Pass the clock in.", "full stop"),
        ("Pass the clock in\nand more", "second line"),
        ("pass the clock in", "capital letter"),
        ("Passed the clock in", "imperative"),
        ("Passing the clock in", "imperative"),
        ("Adds a clock", "imperative"),
        ("What the last changes left doubled is one", "imperative"),
        ("3 clocks", "capital letter"),
    ],
)
def test_another_is_refused_with_the_reason(message: str, reason: str) -> None:
    assert reason in HOOK.trouble(message)
