"""What docs/configuration.md says about the settings."""

import re
from collections.abc import Iterator
from pathlib import Path

from headrace_workers.wiring.settings_page import described, page

DOCS = Path(__file__).parents[3] / "docs"
SOURCES = Path(__file__).parents[3]


def _sources() -> Iterator[Path]:
    for folder in ("producers", "workers"):
        yield from sorted((SOURCES / folder).rglob("*.py"))


def test_the_page_of_settings_is_made_from_their_models():
    """`make configuration` writes it: a default or a text that was changed in one place only is found here."""
    assert (DOCS / "configuration.md").read_text() == page()


def test_every_variable_that_is_named_in_the_code_stands_on_the_page():
    """What is read, or named in an error, can be looked up; each is described once."""
    named = {name for path in _sources() for name in re.findall(r"HEADRACE_[A-Z_]+[A-Z]", path.read_text())}
    known = list(described())
    assert named - set(known) == set()
    assert len(known) == len(set(known))


def test_the_environment_is_read_in_one_module_of_each_package():
    """Else a variable could be read that nothing describes."""
    reads = [path for path in _sources() if re.search(r"\bos\.(environ|getenv)|from os import .*env", path.read_text())]
    assert [path.name for path in reads] == ["settings.py", "environment.py"]
