import gc
import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from headrace_workers.core.ledger.change_feed import BEFORE_ALL
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.features.knowledge.documents import Document
from headrace_workers.features.knowledge.intake import LONGEST_NAME, Intake
from headrace_workers.features.knowledge.lexical import Terms
from headrace_workers.features.knowledge.reading import FoundFiles, Loaded, Reader, find_files
from headrace_workers.features.knowledge.store.documents import FIRST, KnowledgeBases, NewChunk, NewDocument
from headrace_workers.testing import HashEmbedder

pytestmark = pytest.mark.integration


class Counting(HashEmbedder):
    """Notes what it embeds; stops as a person would after so many documents."""

    def __init__(self, name="hash", patience=1_000):
        super().__init__(name)
        self.texts = []
        self.patience = patience

    def embed(self, texts):
        if not self.patience:
            raise KeyboardInterrupt
        self.patience -= 1
        self.texts += texts
        return super().embed(texts)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.md").write_text("# Mills\n\nA mill by the river.\n\n## Wheels\n\nThey turn.\n")
    (folder / "b.txt").write_text("A clock in the hall.\n")
    (folder / "c.html").write_text("<h1>Bridges</h1><p>A bridge over the river.</p>")
    return folder


@pytest.fixture
def add(ledger):
    """Adds what paths name to the base `k` of `t`: what became of each document."""

    def add(*paths, embedder=None, tenant="t", into=ledger, attributes=None):
        embedder = embedder or HashEmbedder()
        with Reader() as reader:
            intake = Intake(into, reader, embedder, embedder.count_tokens, tenant, "k", attributes or {})
            return {taken.document: taken for taken in intake.take(list(find_files(map(str, paths))))}

    return add


def statuses(taken):
    """What became of each document, by the last part of its name."""
    return {Path(name).name: item.status for name, item in taken.items()}


def test_documents_are_cut_embedded_and_written(ledger, add, folder):
    assert statuses(add(folder)) == {"a.md": "added", "b.txt": "added", "c.html": "added"}
    rows = ledger.of(KnowledgeBases).chunks("t", "k", FIRST, 9)
    assert [(row.document, row.section) for row in rows] == [
        ("docs/a.md", "Mills"), ("docs/a.md", "Mills > Wheels"), ("docs/b.txt", ""), ("docs/c.html", "Bridges"),
    ]  # fmt: skip
    wheels = rows[1]
    assert (folder / "a.md").read_text()[wheels.start : wheels.stop] == wheels.text
    (expected,) = HashEmbedder().embed([f"{wheels.section}\n{wheels.text}"])
    np.testing.assert_array_equal(np.frombuffer(wheels.vector, np.float32), expected)
    assert wheels.terms == Terms.of(f"{wheels.section}\n{wheels.text}").to_bytes()
    documents = ledger.of(KnowledgeBases).documents("t", "k", "", 9)
    assert [(row.format, row.chunks) for row in documents] == [("markdown", 2), ("underlined", 1), ("markdown", 1)]
    assert documents[1].size == len("A clock in the hall.\n")


def test_an_unchanged_document_costs_nothing(ledger, add, folder):
    add(folder)
    (folder / "b.txt").write_text("A clock in the tower.\n")
    embedder = Counting()
    taken = add(folder, embedder=embedder)
    assert statuses(taken) == {"a.md": "unchanged", "b.txt": "replaced", "c.html": "unchanged"}
    assert embedder.texts == ["A clock in the tower."]
    assert [
        row.text for row in ledger.of(KnowledgeBases).chunks("t", "k", FIRST, 9) if row.document == "docs/b.txt"
    ] == embedder.texts
    assert len(ledger.of(KnowledgeBases).changed(BEFORE_ALL, 99)) == 4


def test_another_embedder_makes_all_anew(ledger, add, folder):
    add(folder)
    assert set(statuses(add(folder, embedder=Counting("other"))).values()) == {"replaced"}
    assert {row.embedder for row in ledger.of(KnowledgeBases).documents("t", "k", "", 9)} == {HashEmbedder("other").id}


def test_another_tenants_base_of_the_name_is_another(ledger, add, folder):
    add(folder)
    assert set(statuses(add(folder, tenant="u")).values()) == {"added"}
    assert (
        len(ledger.of(KnowledgeBases).chunks("t", "k", FIRST, 9))
        == len(ledger.of(KnowledgeBases).chunks("u", "k", FIRST, 9))
        == 4
    )


def test_a_refused_file_stops_no_other(ledger, add, folder):
    add(folder)
    (folder / "b.txt").write_bytes(b"\xff\xfe\x00")
    (folder / "aa.md").write_text(" \n")
    (folder / "d.md").write_text("Another one.")
    taken = add(folder)
    assert statuses(taken) == {
        "a.md": "unchanged", "aa.md": "refused", "b.txt": "refused", "c.html": "unchanged", "d.md": "added",
    }  # fmt: skip
    assert taken["docs/aa.md"].reason == "docs/aa.md: it holds no text"
    assert [row.name for row in ledger.of(KnowledgeBases).documents("t", "k", "", 9)] == [
        "docs/a.md", "docs/b.txt", "docs/c.html", "docs/d.md",
    ]  # fmt: skip


def test_whoever_is_interrupted_goes_on(ledger, add, folder):
    with pytest.raises(KeyboardInterrupt):
        add(folder, embedder=Counting(patience=1))
    assert [row.name for row in ledger.of(KnowledgeBases).documents("t", "k", "", 9)] == ["docs/a.md"]
    assert len(ledger.of(KnowledgeBases).chunks("t", "k", FIRST, 9)) == 2
    embedder = Counting()
    assert statuses(add(folder, embedder=embedder)) == {"a.md": "unchanged", "b.txt": "added", "c.html": "added"}
    assert len(embedder.texts) == 2


class Watching(HashEmbedder):
    """Before each document, looks from another connection at how many are there already, and how many are in memory."""

    def __init__(self, url):
        super().__init__()
        self.ledger, self.there, self.held = Ledger.at(url), [], []
        self.before = of_documents()  # what an earlier test may have left

    def embed(self, texts):
        self.there.append(sum(base.documents for base in self.ledger.of(KnowledgeBases).bases("t")))
        if len(self.there) % 10 == 1:
            gc.collect()
            known = {id(item) for item in self.before}
            self.held.append(Counter(type(document) for document in of_documents() if id(document) not in known))
        return super().embed(texts)


OF_A_DOCUMENT = (Loaded, Document, NewDocument, NewChunk)  # whatever has its text


def of_documents():
    return [item for item in gc.get_objects() if isinstance(item, OF_A_DOCUMENT)]


def test_many_small_files_are_written_one_by_one_in_bounded_memory(ledger_url, ledger, add, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(31):
        (folder / f"{number:02}.md").write_text(f"# Mill {number}\n\n" + f"It turns {number} times. " * 100)
    watching = Watching(ledger_url)
    try:
        taken = add(folder, embedder=watching)
    finally:
        watching.ledger.close()
    assert set(statuses(taken).values()) == {"added"}
    assert watching.there == list(range(31))
    assert watching.held == [{Loaded: 1, Document: 1}] * 4  # those of the document that is being embedded


def test_two_files_of_one_name_do_not_replace_each_other(ledger, add, folder, tmp_path):
    other = tmp_path / "other" / "docs"
    other.mkdir(parents=True)
    (other / "b.txt").write_text("A clock elsewhere.")
    embedder = HashEmbedder()
    with Reader() as reader:
        intake = Intake(ledger, reader, embedder, embedder.count_tokens, "t", "k")
        taken = list(intake.take(find_files([str(folder), str(other), str(folder)])))
    assert [item.status for item in taken] == ["added"] * 3 + ["refused"] + ["unchanged"] * 3
    assert f"{folder / 'b.txt'} is called 'docs/b.txt', too" in taken[3].reason
    assert "hall" in ledger.of(KnowledgeBases).chunks("t", "k", FIRST, 9)[2].text


def test_a_name_that_no_index_takes_is_refused(ledger, folder):
    embedder = HashEmbedder()
    names = [("ä" * (LONGEST_NAME // 2)), ("ä" * (LONGEST_NAME // 2)) + "x"]
    with Reader() as reader:
        intake = Intake(ledger, reader, embedder, embedder.count_tokens, "t", "k")
        taken = list(intake.take([FoundFiles(folder / "a.md", name) for name in names]))
    assert [item.status for item in taken] == ["added", "refused"]


def test_two_who_add_at_once_make_one_base(ledger_url, ledger, add, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(20):
        (folder / f"{number:02}.md").write_text(f"# Mill {number}\n\nIt turns {number} times.\n")
    ledgers = [Ledger.at(ledger_url) for _ in range(2)]
    start = threading.Barrier(2)

    def run(into):
        start.wait()
        return statuses(add(folder, into=into))

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(run, ledgers)
    for item in ledgers:
        item.close()
    assert (
        len(ledger.of(KnowledgeBases).documents("t", "k", "", 99))
        == len(ledger.of(KnowledgeBases).chunks("t", "k", FIRST, 99))
        == 20
    )
    for name, status in one.items():
        assert sorted((status, other[name])) in (["added", "unchanged"], ["replaced", "unchanged"])
    assert len(ledger.of(KnowledgeBases).changed(BEFORE_ALL, 99)) == 20


def attributes_of(ledger):
    """Of each document, by the last part of its name."""
    return {
        Path(row.name).name: json.loads(row.attributes) for row in ledger.of(KnowledgeBases).documents("t", "k", "", 99)
    }


def test_documents_have_the_attributes_of_the_call_and_of_their_front_matter(ledger, add, folder):
    (folder / "a.md").write_text("---\nyear: 1976\nlanguage: fr\ntags: [x]\n---\n# Mills\n\nA mill.\n")
    (folder / "b.txt").write_text("---\nyear: 1976\n---\nA clock.\n")
    taken = add(folder, attributes={"language": "en"})
    assert attributes_of(ledger) == {
        "a.md": {"language": "en", "year": 1976}, "b.txt": {"language": "en"}, "c.html": {"language": "en"},
    }  # fmt: skip
    assert taken["docs/a.md"].passed_over == ("tags",)


def test_other_attributes_embed_nothing(ledger, add, folder):
    add(folder, attributes={"language": "en"})
    embedder = Counting()
    taken = add(folder, embedder=embedder, attributes={"language": "en"})
    assert set(statuses(taken).values()) == {"unchanged"}
    (folder / "a.md").write_text("---\nyear: 1976\n---\n# Mills\n\nA mill.\n")
    taken = add(folder, embedder=embedder)
    assert statuses(taken) == {"a.md": "replaced", "b.txt": "described", "c.html": "described"}
    assert attributes_of(ledger) == {"a.md": {"year": 1976}, "b.txt": {}, "c.html": {}}
    assert embedder.texts[1:] == ["Mills\n# Mills\n\nA mill."]
    assert set(statuses(add(folder, embedder=embedder)).values()) == {"unchanged"}


def test_there_are_sixteen_attributes_at_most(ledger, add, tmp_path):
    file = tmp_path / "a.md"
    file.write_text("---\n" + "".join(f"k{n}: {n}\n" for n in range(20)) + "---\ntext\n")
    (taken,) = add(file, attributes={"mine": True}).values()
    assert list(attributes_of(ledger)["a.md"]) == sorted(["mine", *(f"k{n}" for n in range(15))])
    assert taken.passed_over == tuple(f"k{n}" for n in range(15, 20))


def test_front_matter_that_cannot_be_read_keeps_no_document_out(ledger, add, tmp_path):
    file = tmp_path / "a.md"
    file.write_text("---\na: [1\n---\ntext\n")
    (taken,) = add(file).values()
    assert (taken.status, "no YAML" in taken.trouble) == ("added", True)
    assert attributes_of(ledger) == {"a.md": {}}
