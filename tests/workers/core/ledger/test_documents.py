import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sqlalchemy import func, select

from headrace_workers.core.ledger import change_feed
from headrace_workers.core.ledger.change_feed import BEFORE_ALL
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.sql.database import writing
from headrace_workers.features.cache.store.answers import Answers
from headrace_workers.features.knowledge.store import documents
from headrace_workers.features.knowledge.store.documents import FIRST, ChunkAt, KnowledgeBases, NewChunk, NewDocument
from headrace_workers.features.knowledge.tables import CHUNKS, DOCUMENTS


def document(name="a.md", *, tenant="t", knowledge="k", sha="1", embedder="e", texts=("one", "two"), attributes=None):
    """A document with these chunks; all that was made from the same file is alike."""
    chunks = [
        NewChunk(f"{sha}{n}", "Part", n, n + len(words), words, np.full(2, n, np.float32).tobytes())
        for n, words in enumerate(texts)
    ]
    return NewDocument(
        tenant=tenant, knowledge=knowledge, name=name, sha256=sha, format="markdown", size=7, embedder=embedder,
        chunks=chunks, attributes=attributes or {},
    )  # fmt: skip


def texts_of(ledger, tenant="t", knowledge="k", document_id=None):
    """The texts of a base's chunks, in order, read in pages of two."""
    found, after = [], FIRST
    while rows := ledger.of(KnowledgeBases).chunks(tenant, knowledge, after, 2, document_id):
        found += [row.text for row in rows]
        after = ChunkAt(rows[-1].document_id, rows[-1].id)
    return found


def changed(ledger, after=BEFORE_ALL):
    return [(row.document_id, row.tenant, row.knowledge) for row in ledger.of(KnowledgeBases).changed(after, 99)]


def test_chunks_come_back_as_they_were(ledger):
    first = ledger.of(KnowledgeBases).put(document(texts=("one", "two", "three")))
    second = ledger.of(KnowledgeBases).put(document("b.md", sha="2", texts=("four",)))
    assert texts_of(ledger) == ["one", "two", "three", "four"]
    assert texts_of(ledger, document_id=second) == ["four"]
    row = ledger.of(KnowledgeBases).chunks("t", "k", FIRST, 9)[2]
    assert (row.document_id, row.document, row.embedder) == (first, "a.md", "e")
    assert (row.key, row.section, row.start, row.stop) == ("12", "Part", 2, 7)
    assert np.frombuffer(row.vector, np.float32).tolist() == [2.0, 2.0]


def test_a_changed_document_replaces_its_chunks_and_keeps_its_id(ledger):
    first = ledger.of(KnowledgeBases).put(document())
    ledger.of(KnowledgeBases).put(document("b.md", texts=("other",)))
    assert ledger.of(KnowledgeBases).put(document(sha="2", texts=("new",))) == first
    assert texts_of(ledger) == ["new", "other"]
    assert [(row.name, row.sha256, row.chunks) for row in ledger.of(KnowledgeBases).documents("t", "k", "", 9)] == [
        ("a.md", "2", 1), ("b.md", "1", 1),
    ]  # fmt: skip


def test_the_same_file_is_not_written_again(ledger):
    first = ledger.of(KnowledgeBases).put(document())
    before = ledger.of(KnowledgeBases).chunks("t", "k", FIRST, 9)
    assert ledger.of(KnowledgeBases).put(document()) is None
    assert ledger.of(KnowledgeBases).chunks("t", "k", FIRST, 9) == before
    assert len(changed(ledger)) == 1
    assert ledger.of(KnowledgeBases).put(document(embedder="f")) == first
    assert len(changed(ledger)) == 2


def test_a_document_without_chunks_is_one(ledger):
    ledger.of(KnowledgeBases).put(document())
    ledger.of(KnowledgeBases).put(document(sha="2", texts=()))
    assert texts_of(ledger) == []
    (base,) = ledger.of(KnowledgeBases).bases()
    assert (base.documents, base.chunks) == (1, 0)


def test_followers_see_each_change_of_a_document(ledger):
    first, second = ledger.of(KnowledgeBases).put(document()), ledger.of(KnowledgeBases).put(document("b.md"))
    assert changed(ledger) == [(first, "t", "k"), (second, "t", "k")]
    position = ledger.horizon()
    assert changed(ledger, position) == []
    ledger.of(KnowledgeBases).put(document("b.md", sha="2"))
    assert ledger.of(KnowledgeBases).remove([first, 77]) == 1
    assert changed(ledger, position) == [(second, "t", "k"), (first, None, None)]
    assert [row.document_id for row in ledger.of(KnowledgeBases).changed(BEFORE_ALL, 1)] == [first]
    assert ledger.of(Answers).changed(BEFORE_ALL, 99) == []
    with writing(ledger.engine) as tx:
        change_feed.note(tx, [first], "entry")
    assert [row.entry_id for row in ledger.of(Answers).changed(BEFORE_ALL, 99)] == [first]
    assert len(changed(ledger, position)) == 2


@pytest.mark.parametrize("ledger_url", ["postgresql"], indirect=True)
def test_a_slow_writer_of_documents_is_waited_for(ledger):
    slow = ledger.engine.connect()
    before = slow.begin()
    first = documents.put(slow, document())
    second = ledger.of(KnowledgeBases).put(document("b.md"))
    try:
        assert changed(ledger) == []
        before.commit()
    finally:
        slow.close()
    assert [item[0] for item in changed(ledger)] == [first, second]


def test_what_is_removed_is_gone(ledger):
    """With its chunks; its id is never given again, and nothing else is touched."""
    first, second = (
        ledger.of(KnowledgeBases).put(document()),
        ledger.of(KnowledgeBases).put(document("b.md", texts=("left",))),
    )
    assert ledger.of(KnowledgeBases).remove([first]) == 1
    assert ledger.of(KnowledgeBases).remove([first]) == 0
    assert ledger.of(KnowledgeBases).remove([]) == 0
    assert ledger.read(select(CHUNKS.c.text)) == [("left",)]
    ledger.of(KnowledgeBases).remove([second])
    assert ledger.of(KnowledgeBases).bases() == []
    assert ledger.of(KnowledgeBases).put(document()) not in (first, second)


def test_tenants_and_bases_are_apart(ledger):
    for tenant, knowledge in (("t", "k"), ("t", "l"), ("u", "k")):
        assert ledger.of(KnowledgeBases).put(
            document(tenant=tenant, knowledge=knowledge, texts=(f"{tenant}{knowledge}",))
        )
    assert texts_of(ledger) == ["tk"]
    assert texts_of(ledger, "u", "k") == ["uk"]
    assert texts_of(ledger, "u", "l") == []
    (mine,) = ledger.of(KnowledgeBases).documents("t", "k", "", 9)
    assert texts_of(ledger, "u", "k", mine.id) == []
    assert ledger.of(KnowledgeBases).documents("u", "l", "", 9) == []
    assert [(row.tenant, row.knowledge) for row in ledger.of(KnowledgeBases).bases()] == [
        ("t", "k"),
        ("t", "l"),
        ("u", "k"),
    ]
    assert [(row.tenant, row.knowledge) for row in ledger.of(KnowledgeBases).bases("u")] == [("u", "k")]


def test_bases_are_counted(ledger):
    ledger.of(KnowledgeBases).put(document())
    ledger.of(KnowledgeBases).put(document("b.md", embedder="f"))
    (base,) = ledger.of(KnowledgeBases).bases()
    assert (base.documents, base.chunks, base.size, base.embedders) == (2, 4, 14, 2)
    assert base.embedder in ("e", "f")
    assert 0 <= ledger.now() - base.changed_at < 60_000


def test_documents_come_in_pages(ledger):
    for name in ("c", "a", "b"):
        ledger.of(KnowledgeBases).put(document(name))
    assert [row.name for row in ledger.of(KnowledgeBases).documents("t", "k", "", 2)] == ["a", "b"]
    assert [row.name for row in ledger.of(KnowledgeBases).documents("t", "k", "b", 2)] == ["c"]


def test_many_writers_of_one_document_leave_one(ledger_url, ledger):
    """With the chunks of a single one of them, whoever else removes it at the same time."""
    ledgers = [Ledger.at(ledger_url) for _ in range(4)]
    start = threading.Barrier(4)

    def write(number):
        start.wait()
        for turn in range(5):
            sha = f"{number}.{turn}"
            written = ledgers[number].of(KnowledgeBases).put(document(sha=sha, texts=[f"{sha} {n}" for n in range(6)]))
            if number == 3:
                ledgers[number].of(KnowledgeBases).remove([written])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    for item in ledgers:
        item.close()
    ledger.of(KnowledgeBases).put(document("other"))
    rows = ledger.read(select(DOCUMENTS.c.name, DOCUMENTS.c.sha256, DOCUMENTS.c.id))
    for row in rows:
        chunks = ledger.of(KnowledgeBases).chunks("t", "k", FIRST, 99, row.id)
        assert {chunk.key[: len(row.sha256)] for chunk in chunks} == {row.sha256}
    counted = ledger.read(select(func.count()).select_from(CHUNKS))
    assert counted == [(sum(6 if row.name == "a.md" else 2 for row in rows),)]
    assert len(rows) <= 2


def test_other_attributes_change_a_document_and_nothing_of_its_chunks(ledger):
    first = ledger.of(KnowledgeBases).put(document(attributes={"year": 2026, "language": "en"}))
    rows = ledger.of(KnowledgeBases).chunks("t", "k", FIRST, 9)
    assert rows[0].attributes == '{"language":"en","year":2026}'
    assert ledger.of(KnowledgeBases).put(document(attributes={"language": "en", "year": 2026})) is None
    assert not ledger.of(KnowledgeBases).describe(first, "1", {"year": 2026, "language": "en"})
    assert ledger.of(KnowledgeBases).describe(first, "1", {"language": "de"})
    assert [row.id for row in ledger.of(KnowledgeBases).chunks("t", "k", FIRST, 9)] == [row.id for row in rows]
    assert ledger.of(KnowledgeBases).chunks("t", "k", FIRST, 9)[0].attributes == '{"language":"de"}'
    assert changed(ledger) == [(first, "t", "k")] * 2


def test_a_document_that_is_another_by_now_is_not_described(ledger):
    first = ledger.of(KnowledgeBases).put(document(sha="2"))
    assert not ledger.of(KnowledgeBases).describe(first, "1", {"year": 2026})
    assert not ledger.of(KnowledgeBases).describe(first + 1, "2", {"year": 2026})
    assert ledger.of(KnowledgeBases).put(document(sha="2", attributes={"year": 2026})) == first
    assert len(changed(ledger)) == 2
