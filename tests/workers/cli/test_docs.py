"""What the pages in docs/ say about the command line and its settings."""

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import typer

from headrace_workers.runtime.settings import Settings
from headrace_workers.wiring.command_line import app

DOCS = Path(__file__).parents[3] / "docs"
SOURCES = Path(__file__).parents[3]


def test_every_command_stands_on_the_page():
    """With an example, and no example calls a command that is not there."""
    known = set(_commands(typer.main.get_command(app)))
    shown = set()
    for line in re.findall(r"^    (?:.*\| )?headrace (.*)$", (DOCS / "cli.md").read_text(), re.MULTILINE):
        words = line.split()
        calls = (" ".join(words[:length]) for length in (3, 2, 1))
        shown.add(next((call for call in calls if call in known), line))
    assert shown == known


def _commands(group: Any, within: str = "") -> Iterator[str]:
    """What may be called, groups of groups as well."""
    for name, command in group.commands.items():
        called = f"{within}{name}"
        if hasattr(command, "commands"):
            yield from _commands(command, f"{called} ")
        else:
            yield called


def test_every_variable_stands_in_the_table():
    """Those that the two settings modules read, and no others."""
    text = "".join(
        (SOURCES / path).read_text()
        for path in ("producers/headrace_producers/settings.py", "workers/headrace_workers/runtime/settings.py")
    )
    read = set(re.findall(r"HEADRACE_[A-Z_]+[A-Z]", text))
    read |= {f"HEADRACE_{field.name.upper()}" for field in fields(Settings)}
    read |= {f"HEADRACE_{name}" for name in ("TENANT", "SOURCE", "MODEL")}
    assert set(re.findall(r"`(HEADRACE_[A-Z_]+)`", (DOCS / "configuration.md").read_text())) == read


def test_the_defaults_in_the_table_are_those_in_the_code():
    """A number that was changed in one place only is found here."""
    page = (DOCS / "configuration.md").read_text()
    for field in fields(Settings):
        if isinstance(field.default, int | float):
            assert f"| `HEADRACE_{field.name.upper()}` | {field.default:.12g} |" in page
