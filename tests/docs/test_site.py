"""The documentation as a site: it has all pages, and a browser needs nothing from elsewhere to show them."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.docs.pages import DOCS, ROOT
from tests.services.need import need

REQUESTS = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("link", "href")}


class Fetched(HTMLParser):
    """Reader of the addresses that a browser asks for when it shows a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the addresses of a tag, but for links that a reader may follow."""
        if dict(attrs).get("rel") not in ("canonical", "prev", "next"):
            self.found += [value for name, value in attrs if value and (tag, name) in REQUESTS]


def build(root: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """Build the site of a folder, as `make docs` does."""
    need(importlib.util.find_spec("mkdocs"), "MkDocs is needed: make docs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = build(ROOT, folder)
    assert built.returncode == 0, built.stderr
    return folder


def test_a_broken_anchor_fails_the_build(tmp_path: Path) -> None:
    shutil.copytree(DOCS, tmp_path / "docs")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    with (tmp_path / "docs/glossary.md").open("a", encoding="utf-8") as page:
        page.write("\nSee [figures](figures.md#nowhere).\n")
    built = build(tmp_path, tmp_path / "site")
    assert built.returncode != 0
    assert "'glossary.md' contains a link 'figures.md#nowhere'" in built.stderr


def test_every_page_is_built_and_can_be_searched(site: Path) -> None:
    index = json.loads((site / "search/search_index.json").read_text("utf-8"))
    searched = {entry["location"].partition("#")[0] for entry in index["docs"]}
    expected = {str(path.relative_to(DOCS).with_suffix(".html")) for path in DOCS.rglob("*.md")}
    expected = {re.sub(r"README\.html$", "index.html", page) for page in expected}
    assert expected - searched == set()
    assert [page for page in sorted(expected) if not (site / page).is_file()] == []


def test_pages_need_nothing_from_elsewhere(site: Path) -> None:
    found = {}
    for path in site.rglob("*.html"):
        reader = Fetched()
        reader.feed(path.read_text("utf-8"))
        assert reader.found
        if outside := [text for text in reader.found if re.match(r"(https?:)?//", text)]:
            found[path.name] = outside
    for path in site.rglob("*.css"):
        if outside := re.findall(r"(?:url\(|@import\s)['\"]?((?:https?:)?//[^)'\"]+)", path.read_text("utf-8")):
            found[path.name] = outside
    assert found == {}


def test_links_to_source_files_do_not_break(site: Path) -> None:
    broken = {}
    for path in site.rglob("*.html"):
        links = re.findall(r"<a [^>]*href=\"(?!https?:|mailto:|#)([^\"#]+)", path.read_text("utf-8"))
        if path.name != "404.html" and (wrong := [link for link in links if not (path.parent / link).exists()]):
            broken[path.name] = wrong
    assert broken == {}
