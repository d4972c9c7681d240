"""What CONTRIBUTING.md shows works: the examples of each section run as they stand, one after the other."""

import re
from pathlib import Path
from typing import Any

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import create_engine, inspect

from headrace_workers.core.tables import METADATA

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
EXAMPLES = {
    title: blocks
    for title, text in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    if (blocks := re.findall(r"```python\n(.*?)```", text, re.DOTALL))
}


def run(title: str) -> dict[str, Any]:
    """The names that a section's examples define."""
    namespace: dict[str, Any] = {"__name__": "example"}
    for block in EXAMPLES[title]:
        exec(compile(block, "CONTRIBUTING.md", "exec"), namespace)
    return namespace


@pytest.mark.parametrize("title", EXAMPLES)
def test_examples_run(title: str) -> None:
    """None raises; what they assert holds."""
    run(title)


def test_the_migration_goes_there_and_back() -> None:
    """The column is added to the tables that the ledger has, and taken away again."""
    example = run("Add a column to the ledger")
    engine = create_engine("sqlite://")
    METADATA.create_all(engine)
    before = {column["name"] for column in inspect(engine).get_columns("jobs")}
    with engine.begin() as connection, Operations.context(MigrationContext.configure(connection)):
        example["upgrade"]()
        assert {column["name"] for column in inspect(connection).get_columns("jobs")} == before | {"purpose"}
        example["downgrade"]()
        assert {column["name"] for column in inspect(connection).get_columns("jobs")} == before


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        *sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/**/*.md")),
    ],
)
def test_links_lead_somewhere(page: str) -> None:
    """Each file that the page points to is there."""
    links = re.findall(r"\]\(((?!http)[^)#]+)", (ROOT / page).read_text("utf-8"))
    assert [link for link in links if not (ROOT / page).parent.joinpath(link).exists()] == []


def test_a_jobs_way_can_be_followed() -> None:
    """Each file that it names has the function that stands beside it, and there are as many files as it says."""
    page = (ROOT / "docs/architecture.md").read_text("utf-8")
    way = page.split("## A job's way\n")[1].split("\n## ")[0]
    named = re.findall(r"\]\(\.\./(.+?)\) `(\w+)`", way)
    assert [(f, name) for f, name in named if f"def {name}(" not in (ROOT / f).read_text("utf-8")] == []
    assert re.findall(r"It names (\d+) files", way) == [str(len({f for f, _ in named}))]


def test_make_has_what_is_named() -> None:
    """Each `make …` of the page is a target."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert set(re.findall(r"(?:`|^    )make ([a-z]+)", PAGE, re.MULTILINE)) <= targets
