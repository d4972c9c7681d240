"""Which pages are searched for which questions, and what is counted of them."""

from pathlib import Path

import pytest
from bench.kept import KeptVectors
from bench.retrieval import _page_of, by_faq, by_index, compared, halves, indexed, read, timed

from headrace_workers.features.knowledge.chunking import chunk
from headrace_workers.models.embedders.hashed import HashEmbedder

PAGES = {
    "library/mill.html": "<h1>Mills</h1><p>A mill by the river grinds corn.</p>",
    "library/clock.html": "<h1>Clocks</h1><p>A clock in the hall strikes at noon.</p>",
    "faq/general.html": "<h1>FAQ</h1><h2>Is it late?</h2><p>The ferry waits.</p><h2>Notes</h2><p>None.</p>",
    "genindex-M.html": '<table class="indextable"><tr><td><ul><li><a href="library/mill.html#a">grinding corn</a></li>'
    '<li><a href="library/away.html#a">away</a></li></ul></td></tr></table>',
    "search.html": "<p>Search</p>",
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name, html in PAGES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"<main>{html}</main>")
    return tmp_path


def count(text: str) -> int:
    return len(text.split())


@pytest.mark.integration
def test_pages_are_read_and_parts_of_them_are_the_same_each_time(home: Path) -> None:
    assert [page.name for page in read(home, 1)] == ["faq/general.html", "library/clock.html", "library/mill.html"]
    assert read(home, 2) == read(home, 2)
    assert {page.name for page in read(home, 2)} < {page.name for page in read(home, 1)}


def test_entries_are_asked_for_where_all_their_pages_are(home: Path) -> None:
    assert by_index(home, {"library/mill.html"}, 9) == {"grinding corn": frozenset({"library/mill.html"})}
    one, other = halves({str(n): frozenset({"p"}) for n in range(9)}, _page_of)
    assert (len(one.right), len(other.right), one.right.keys() & other.right.keys()) == (5, 4, set())


@pytest.mark.integration
def test_the_faq_is_asked_without_its_headings(home: Path) -> None:
    chunks = [item for page in read(home, 1) for item in chunk(page, count)]
    found, asked = by_faq(home, chunks, count)
    assert asked.right == {"Is it late?": frozenset({"faq/general.html#Is it late?"})}
    (answer,) = [item for item in found if item.document.startswith("faq/")]
    assert answer.indexed == "The ferry waits."


@pytest.mark.integration
def test_each_way_of_ranking_is_counted(home: Path, tmp_path: Path) -> None:
    embedder = KeptVectors(HashEmbedder(), tmp_path / "kept")
    chunks = [item for page in read(home, 1) for item in chunk(page, count)]
    sought, _ = halves({"grinding corn": frozenset({"library/mill.html"})}, _page_of)
    rows = {row.metric: row for row in compared("entries", indexed(chunks, embedder), sought, bound=True)}
    assert len(rows) == 8
    ours = rows["entries, headrace: nDCG@10"]
    assert (ours.value, ours.target, ours.holds) == (1.0, "≥ 1", True)
    assert rows["entries, BM25: recall@10"].target is None
    assert len(timed(chunks, embedder, HashEmbedder(), ["corn", "noon"])) == 6


def test_vectors_are_made_once(tmp_path: Path) -> None:
    asked: list[str] = []

    class Counting(HashEmbedder):
        def embed(self, texts):
            asked.extend(texts)
            return super().embed(texts)

    first = KeptVectors(Counting(), tmp_path).embed(["a b", "c", "a b"])
    assert (first == HashEmbedder().embed(["a b", "c", "a b"])).all()
    assert (KeptVectors(Counting(), tmp_path).embed(["c", "d"])[0] == first[1]).all()
    assert sorted(asked) == ["a b", "c", "d"]
