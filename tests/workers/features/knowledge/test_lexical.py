import math
import threading
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace_workers.features.knowledge.lexical import K1, B, LexicalIndex, term_counts

WORDS = ["red", "green", "blue", "dark_red", "sky"]
CHUNK = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join)
CHANGE = st.dictionaries(st.sampled_from("abcdef"), st.lists(CHUNK, max_size=3), max_size=3)


def by_hand(documents: dict[str, list[tuple[str, str]]], query: str) -> dict[str, float]:
    """BM25 as the paper has it, chunk by chunk."""
    chunks = {id_: term_counts(text) for all_ in documents.values() for id_, text in all_}
    average = sum(sum(counts.values()) for counts in chunks.values()) / max(1, len(chunks))
    scores = {}
    for id_, counts in chunks.items():
        score = 0.0
        for term, times in term_counts(query).items():
            holding = sum(term in other for other in chunks.values())
            damped = K1 * (1 - B + B * sum(counts.values()) / average)
            idf = math.log(1 + (len(chunks) - holding + 0.5) / (holding + 0.5))
            score += times * idf * (K1 + 1) * counts[term] / (counts[term] + damped)
        if score:
            scores[id_] = score
    return scores


@settings(max_examples=150, deadline=None)
@given(st.lists(CHANGE, max_size=12), CHUNK, st.integers(1, 5))
def test_changes_leave_what_a_fresh_index_would_hold(changes: list[dict[str, list[str]]], query: str, k: int) -> None:
    index = LexicalIndex()
    documents: dict[str, list[tuple[str, str]]] = {}
    for change in changes:
        named = {doc: [(f"{doc}{place}", text) for place, text in enumerate(texts)] for doc, texts in change.items()}
        index.update(named)
        documents |= named
    expected = by_hand(documents, query)
    fresh = LexicalIndex()
    fresh.update(documents)
    match = index.search(query, k)
    assert match == fresh.search(query, k)
    assert len(index) == sum(map(len, documents.values()))
    assert len(match) == min(k, len(expected))
    for id_, score in match:
        assert math.isclose(score, expected[id_])
    assert match == sorted(match, key=lambda each: (-each[1], each[0]))
    least = match[-1][1] if match else 0.0
    assert all(score <= least + 1e-9 for id_, score in expected.items() if id_ not in dict(match))


def small() -> LexicalIndex:
    index = LexicalIndex()
    index.update({"a": [("a1", "the red sky"), ("a2", "a green field")], "b": [("b1", "the red field")]})
    return index


def test_a_changed_document_replaces_its_chunks() -> None:
    index = small()
    index.replace("a", [("a3", "blue")])
    assert [id_ for id_, _ in index.search("red green blue", 9)] == ["a3", "b1"]
    index.remove("a")
    index.remove("a")
    assert [id_ for id_, _ in index.search("red green blue", 9)] == ["b1"]


def test_only_some_documents() -> None:
    index = small()
    everything = dict(index.search("red", 9))
    assert index.search("red", 9, among={"b", "z"}) == [("b1", everything["b1"])]
    assert index.search("red", 9, among=set()) == []


def test_queries_of_any_length() -> None:
    index = small()
    assert index.search("", 9) == index.search("?!", 9) == index.search("zebra", 9) == index.search("red", 0) == []
    assert LexicalIndex().search("red", 9) == []
    long = " ".join(f"word{n}" for n in range(11_500)) + " green"
    assert len(long) > 100_000
    assert [id_ for id_, _ in index.search(long, 9)] == ["a2"]
    index.replace("c", [("c1", long), ("c2", long), ("c3", "zebra")])
    assert "c3" in dict(index.search(long + " zebra", 9))


def test_a_chunk_is_written_again_a_few_times_only() -> None:
    index = LexicalIndex()
    for n in range(300):
        index.replace(f"doc{n}", [(f"doc{n}", f"red word{n}")])
    assert len(index) == 300
    assert len(index._segments) <= 9


def test_what_went_takes_no_room() -> None:
    index = LexicalIndex()
    index.update({f"doc{n}": [(f"doc{n}", f"red word{n}")] for n in range(100)})
    for n in range(95):
        index.remove(f"doc{n}")
    assert len(index) == 5
    assert sum(len(segment.ids) for segment in index._segments) <= 10


def test_a_score_is_told_beside_the_most_that_there_could_be() -> None:
    index = LexicalIndex()
    index.update({"d": [("whole", "red sky " * 60), ("once", "red sky"), ("half", "red")], "e": [("none", "blue")]})
    shares = dict(index.look_up("red sky", 9).shares)
    assert shares["whole"] > shares["once"] > shares["half"] > 0
    assert 0.9 < shares["whole"] < 1
    assert dict(index.look_up("red sky pelican", 9).shares)["whole"] < 0.7
    assert index.look_up("pelican", 9).shares == LexicalIndex().look_up("red", 9).shares == []


class Yielding(dict[str, int]):
    def pop(self, key: str, default: int | None = None) -> int | None:  # type: ignore[override]
        number = super().pop(key, default)
        time.sleep(0.0005)
        return number


def test_a_search_sees_a_change_whole() -> None:
    index = LexicalIndex()
    index.update({f"d{n}": [(f"d{n}-0-x", "red sky"), (f"d{n}-0-y", "red field")] for n in range(4)})
    index._owners = Yielding(index._owners)
    wrong: list[object] = []
    done = threading.Event()

    def look(among: list[str] | None, documents: int) -> None:
        while not done.is_set():
            found = [id_.split("-") for id_, _ in index.search("red", 200, among=among)]
            versions = {(doc, version) for doc, version, _ in found}
            if not len(found) == 2 * len(versions) == 2 * documents:
                wrong.append(found)

    lookers = [threading.Thread(target=look, args=args) for args in ((None, 4), (["d1"], 1), (["d1", "d2"], 2))]
    for thread in lookers:
        thread.start()
    for version in range(1, 9):
        for n in range(4):
            index.replace(f"d{n}", [(f"d{n}-{version}-x", "red sky"), (f"d{n}-{version}-y", "red field")])
    done.set()
    for thread in lookers:
        thread.join()
    assert not wrong
