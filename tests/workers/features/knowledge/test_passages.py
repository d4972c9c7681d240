from random import Random
from types import SimpleNamespace

import pytest
from pydantic import TypeAdapter

from headrace_schemas.attributes import Equality, Filter, matches
from headrace_workers.features.knowledge import passages
from headrace_workers.features.knowledge.lexical import Terms
from headrace_workers.features.knowledge.passages import VECTORS, WORDS, Passages
from headrace_workers.features.knowledge.store.documents import FIRST, KnowledgeBases, NewChunk, NewDocument, version_of
from headrace_workers.testing import HashEmbedder

EMBEDDER = HashEmbedder()
TEXTS = {
    "mill.md": ["A mill by the river grinds corn.", "Its wheel turns slowly."],
    "clock.md": ["A clock in the hall.", "It strikes at noon, and nobody listens."],
}


def put(ledger, texts=TEXTS, tenant="t", embedder=EMBEDDER, sha="1", vector=None, attributes=None, terms=None):
    """These documents, chunk by chunk; in the place of their vectors, this one. `attributes` are by name."""
    for name, chunks in texts.items():
        vectors = embedder.embed(chunks)
        new_chunks = [
            NewChunk(f"{name}{n}", "", 0, len(text), text, item.tobytes() if vector is None else vector, terms)
            for n, (text, item) in enumerate(zip(chunks, vectors, strict=True))
        ]
        document = NewDocument(
            tenant=tenant, knowledge="k", name=name, sha256=sha, format="markdown", size=1, embedder=embedder.id,
            chunks=new_chunks, attributes=(attributes or {}).get(name, {}),
        )  # fmt: skip
        ledger.of(KnowledgeBases).put(document)


@pytest.fixture
def base(ledger):
    """Two documents of two chunks each."""
    put(ledger)
    return Passages.of(ledger, "t", "k", EMBEDDER)


def test_the_best_comes_first_with_its_places_and_scores(base):
    best, *others = base.search("Where is the mill by the river?", 4)
    assert best.chunk.text == TEXTS["mill.md"][0]
    assert best.chunk.document == "mill.md"
    assert best.ranks == {WORDS: 1, VECTORS: 1}
    assert best.scores[WORDS] > 1 > best.scores[VECTORS] > 0.5
    assert best.scores[VECTORS] / 2 < best.score < 1
    assert [hit.score for hit in others] == sorted((hit.score for hit in others), reverse=True)
    silent = next(hit for hit in others if hit.chunk.text == TEXTS["mill.md"][1])
    assert set(silent.ranks) == set(silent.scores) == {VECTORS}


def test_what_a_leg_does_not_name_is_taken_for_no_worse_than_its_last(ledger, monkeypatch):
    monkeypatch.setattr(passages, "DEPTH", 2)
    random = Random(1)
    words = ["mill", "river", "corn", "wheel", "clock", "hall", "noon", "tower", "bell", "rope"]
    put(ledger, {f"{n}.md": [" ".join(random.choices(words, k=random.randint(2, 9)))] for n in range(40)})
    base = Passages.of(ledger, "t", "k", EMBEDDER)
    unnamed = 0
    for _ in range(60):
        query = " ".join(random.choices(words, k=2))
        (best,) = base.search(query, 1)
        deep = {hit.chunk.document: hit for hit in base.search(query, 40)}
        if best.chunk.document in deep and len(best.ranks) < len(deep[best.chunk.document].ranks):
            unnamed += 1
            assert best.score >= deep[best.chunk.document].score
    assert unnamed > 5


def test_each_leg_is_seen_by_itself(base):
    legs = base.legs("Where does the wheel turn?", 4)
    found = {leg: [base.chunk(id_) for id_, _ in item.found] for leg, item in legs.items()}
    assert found[WORDS][0].text == TEXTS["mill.md"][1]
    assert (len(found[WORDS]) < 4, len(found[VECTORS])) == (True, 4)
    assert all(0 < score < 1 for _, score in legs[WORDS].found)
    assert sorted(chunk.id for chunk in base.chunks) == sorted(chunk.id for chunk in found[VECTORS])


def test_all_are_read_and_no_more_are_given_than_asked_for(ledger, base, monkeypatch):
    monkeypatch.setattr(passages, "AT_ONCE", 1)
    monkeypatch.setattr(passages, "TOGETHER", 1)
    again = Passages.of(ledger, "t", "k", EMBEDDER)
    assert len(again) == len(base) == 4
    assert again.search("the clock", 9) == base.search("the clock", 9)
    assert len(base.search("the clock", 2)) == 2


def test_vectors_of_another_embedder_are_not_compared(ledger):
    put(ledger)
    put(ledger, {"other.md": ["A mill by the river grinds flour."]}, embedder=HashEmbedder("other"))
    mixed = Passages.of(ledger, "t", "k", EMBEDDER)
    assert (len(mixed), mixed.without_vectors) == (5, 1)
    found = {hit.chunk.document: hit for hit in mixed.search("A mill by the river grinds flour", 9)}
    assert found["other.md"].ranks == {WORDS: 1}


def test_what_says_nearly_the_same_is_given_once(ledger):
    put(ledger, {"a.md": TEXTS["mill.md"][:1], "b.md": TEXTS["mill.md"][:1]})
    assert len(Passages.of(ledger, "t", "k", EMBEDDER).search("mill", 9)) == 1


@pytest.mark.parametrize("query", ["mill river " * 1_000, "\ud800 mill", "?", " " * 10_000, "mühle 水車"])
def test_any_query_is_answered(base, query):
    assert len(base.search(query, 5)) == 4


def test_a_row_is_all_that_is_needed():
    (vector,) = EMBEDDER.embed(["Guide\nmill"])
    row = SimpleNamespace(
        id=7, document_id=3, document="d", sha256="f", embedder=EMBEDDER.id, key="c", section="Guide", start=2, stop=6,
        text="mill", vector=vector.tobytes(), terms=None, attributes='{"a":1}', added_at=5,
    )  # fmt: skip
    (hit,) = Passages([row], EMBEDDER).search("guide", 1)
    assert (hit.chunk.id, hit.chunk.section, hit.chunk.span) == ("c", "Guide", (2, 6))
    assert (hit.document_id, hit.version, hit.attributes) == (3, version_of("f", '{"a":1}'), {"a": 1})
    assert hit.added_at == 5
    assert set(hit.ranks) == {WORDS, VECTORS}  # a section's words find its passages, too


def where(kind, key, value):
    return TypeAdapter(Filter).validate_python({"type": kind, "key": key, "value": value})


def many(ledger, count=300):
    """Documents of which one in thirty is German, and fits the query worse than all others."""
    texts = {f"{n:03}.md": [f"The mill by the river, number {n}, word{n}."] for n in range(count)}
    texts |= {f"{n:03}.md": [f"Weir {n} has a wheel of oak, word{n}."] for n in range(0, count, 30)}
    attributes = {name: {"language": "en", "number": int(name[:3])} for name in texts}
    attributes |= {f"{n:03}.md": {"language": "de", "number": n} for n in range(0, count, 30)}
    put(ledger, texts, attributes=attributes)
    return [f"{n:03}.md" for n in range(0, count, 30)]


@pytest.mark.integration
def test_no_passage_that_a_filter_lets_through_is_lost_behind_others(ledger):
    """Though hundreds that it does not let through fit better, and each leg looks at a hundred."""
    german = many(ledger)
    base = Passages.of(ledger, "t", "k", EMBEDDER)
    query = "Where is the mill by the river?"
    assert not {hit.chunk.document for hit in base.search(query, 20)} & set(german)
    hits = base.search(query, 20, where=where("eq", "language", "de"))
    assert sorted(hit.chunk.document for hit in hits) == german
    assert all(hit.attributes["language"] == "de" for hit in hits)
    alone = base.search(query, 40, where=where("lt", "number", 31))
    assert sorted(hit.chunk.document for hit in alone) == [f"{n:03}.md" for n in range(31)]


@pytest.mark.integration
def test_words_are_looked_for_among_what_a_filter_lets_through(ledger):
    """Each has its place there, though more than a hundred others say the word more often."""
    texts = {f"{n:03}.md": [f"mill mill mill, word{n}"] for n in range(150)}
    texts |= {
        f"de{n}.md": [f"A mill, and much else that is told at some length of the weir, part{n}."] for n in range(5)
    }
    put(ledger, texts, attributes={f"de{n}.md": {"language": "de"} for n in range(5)})
    hits = Passages.of(ledger, "t", "k", EMBEDDER).search("mill", 9, where=where("eq", "language", "de"))
    assert sorted(hit.ranks[WORDS] for hit in hits) == [1, 2, 3, 4, 5]


def test_a_filter_changes_no_score(ledger):
    many(ledger, 90)
    base = Passages.of(ledger, "t", "k", EMBEDDER)
    query = "a wheel of oak by the river, word7"
    whole = {hit.chunk.id: hit for hit in base.search(query, 90)}
    for wanted in (where("eq", "language", "de"), where("gte", "number", 45), where("ne", "number", 7)):
        for hit in base.search(query, 90, where=wanted):
            assert hit.scores == whole[hit.chunk.id].scores
            assert hit.score == pytest.approx(whole[hit.chunk.id].score)


def test_what_a_filter_finds_is_what_a_base_of_those_documents_alone_would(ledger):
    many(ledger, 90)
    base = Passages.of(ledger, "t", "k", EMBEDDER)
    rows = ledger.of(KnowledgeBases).chunks("t", "k", FIRST, 999)
    for wanted in (where("in", "number", [3, 33, 60]), where("lte", "number", 5), where("eq", "language", "fr")):
        few = Passages(
            [row for row in rows if matches(wanted, {"number": int(row.document[:3]), "language": "en"})], EMBEDDER
        )
        hits = base.search("the wheel of the mill", 90, where=wanted)
        assert {hit.chunk.id for hit in hits} == {chunk.id for chunk in few.chunks}
        alone = {hit.chunk.id: hit.scores[VECTORS] for hit in few.search("the wheel of the mill", 90)}
        assert {hit.chunk.id: hit.scores[VECTORS] for hit in hits} == pytest.approx(alone)


def test_other_attributes_of_the_same_chunks_are_taken_in(ledger):
    put(ledger)
    base = Passages.of(ledger, "t", "k", EMBEDDER)
    (mill,) = [row for row in ledger.of(KnowledgeBases).documents("t", "k", "", 9) if row.name == "mill.md"]
    before = base.search("mill", 1)[0]
    wanted = where("eq", "kind", "building")
    assert base.search("mill", 9, where=wanted) == []
    for attributes, expected in (({"kind": "building"}, 2), ({"kind": 5}, 0), ({}, 0)):
        assert ledger.of(KnowledgeBases).describe(mill.id, "1", attributes)
        base.update({mill.id: ledger.of(KnowledgeBases).chunks("t", "k", FIRST, 99, mill.id)})
        assert len(base.search("mill", 9, where=wanted)) == expected
        now = base.search("mill", 1)[0]
        assert (now.attributes, now.scores) == (attributes, before.scores)
        assert (now.version == before.version) == (attributes == {})


def test_a_passage_that_changes_while_it_is_searched_is_let_through_by_what_it_is_then(ledger, monkeypatch):
    """What was let through a moment ago, and would not be now, is not given."""
    put(ledger, attributes={"mill.md": {"kind": "building"}})
    base = Passages.of(ledger, "t", "k", EMBEDDER)
    let_through = base._let_through

    def meanwhile(wanted):
        found = let_through(wanted)
        (mill,) = [row for row in ledger.of(KnowledgeBases).documents("t", "k", "", 9) if row.name == "mill.md"]
        ledger.of(KnowledgeBases).describe(mill.id, "1", {})
        base.update({mill.id: ledger.of(KnowledgeBases).chunks("t", "k", FIRST, 99, mill.id)})
        return found

    monkeypatch.setattr(base, "_let_through", meanwhile)
    assert base.search("mill", 9, where=Equality(type="eq", key="kind", value="building")) == []


@pytest.mark.parametrize("terms", [None, b"", b"\xff" * 30, Terms.of("something else").to_bytes()])
def test_terms_that_the_ledger_does_not_have_are_counted(ledger, terms):
    """Passages of before there were any, or that were counted otherwise, are found by their words all the same."""
    put(ledger, terms=terms)
    (best, *_) = Passages.of(ledger, "t", "k", EMBEDDER).search("the mill by the river", 9)
    known = terms is None or Terms.from_bytes(terms) is None
    assert (WORDS in best.ranks) == known  # those that it does have are believed
