"""Length of the documentation: pages that are read from start to end stay short."""

import re

from tests.docs.pages import ROOT, pages, read

LIMITS = {"README.md": 900, "docs/explanation/architecture.md": 1_500}
USUAL = 2_000
# Pages in which things are looked up, and records of decisions.
UNLIMITED = ("docs/reference/", "docs/decisions/", "docs/configuration.md", "docs/figures.md", "CHANGELOG.md")


def test_pages_are_short() -> None:
    long = {
        page for page in pages() if not page.startswith(UNLIMITED) and len(read(page).split()) > LIMITS.get(page, USUAL)
    }
    assert long == set()


def test_each_decision_has_a_status_and_a_date() -> None:
    pages = {path for path in (ROOT / "docs" / "decisions").glob("*.md") if path.name != "README.md"}
    told = re.compile(r"\A# .+\n\nStatus: accepted on 20\d\d-\d\d-\d\d\.\n\n")
    assert [page.name for page in sorted(pages) if not told.match(page.read_text("utf-8"))] == []
