"""Links of the documentation: each leads to a file, and to a heading that is there."""

from functools import cache
from pathlib import Path

import pytest
from tests.docs.pages import ROOT, anchors, links, pages, read

GENERATED = ("docs/reference/cli.md", "docs/reference/events.md", "docs/reference/http.md")


@cache
def _anchors_of(page: Path) -> frozenset[str]:
    return frozenset(anchors(page.read_text("utf-8")))


@pytest.mark.parametrize("page", pages())
def test_links_lead_to_files_and_headings(page: str) -> None:
    wrong = []
    for link in links(read(page)):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        found = target.exists() and not link.startswith("/")
        if not found or (anchor and target.suffix == ".md" and anchor not in _anchors_of(target.resolve())):
            wrong.append(link)
    assert wrong == []


@pytest.mark.parametrize("page", GENERATED)
def test_headings_of_generated_pages_are_unique(page: str) -> None:
    """Two headings with the same anchor would send links to the first of them."""
    found = anchors(read(page))
    assert sorted({text for text in found if found.count(text) > 1}) == []


@pytest.mark.parametrize("page", [text for text in pages() if text.startswith("docs/")])
def test_a_page_begins_with_its_title(page: str) -> None:
    titles = [line for line in read(page).splitlines() if line.startswith("# ")]
    assert titles
    assert read(page).startswith("# ")
