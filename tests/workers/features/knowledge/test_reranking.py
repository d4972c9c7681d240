"""The order of a search, put right by a model that reads passages with the question."""

import logging
import math
import threading
from collections.abc import Callable, Sequence

import pytest

from headrace_workers.features.knowledge.chunking import Chunk
from headrace_workers.features.knowledge.passages import Hit
from headrace_workers.features.knowledge.reranking import Reranking

LONG = 60.0  # s: no test waits for it


class Scripted:
    name = "scripted"

    def __init__(self, says: Callable[[str, Sequence[str]], Sequence[float]]) -> None:
        self._says = says
        self.asked: list[tuple[str, list[str]]] = []

    def scores(self, question: str, passages: Sequence[str]) -> list[float]:
        self.asked.append((question, list(passages)))
        return list(self._says(question, passages))


def hits(*texts: str) -> list[Hit]:
    return [Hit(Chunk(str(n), "d", "Part", (0, 1), text), 0.5, {}, {}, 1, "v") for n, text in enumerate(texts)]


def texts(found: Sequence[Hit]) -> list[str]:
    return [hit.chunk.text for hit in found]


def test_the_best_comes_first_and_those_alike_stay_as_they_were() -> None:
    reranker = Scripted(lambda _, passages: [float(len(passage) > 6) for passage in passages])
    found = hits("a", "bb", "c", "dd")
    assert texts(Reranking(reranker, LONG).order("q", found)) == ["bb", "dd", "a", "c"]
    assert reranker.asked == [("q", ["Part\na", "Part\nbb", "Part\nc", "Part\ndd"])]


def test_where_there_is_no_order_it_is_not_asked() -> None:
    reranker = Scripted(lambda _, passages: [1.0] * len(passages))
    assert Reranking(reranker, LONG).order("q", []) == []
    assert texts(Reranking(reranker, LONG).order("q", hits("a"))) == ["a"]
    assert reranker.asked == []


def _fails(_question: str, _passages: Sequence[str]) -> list[float]:
    raise RuntimeError("out of memory")


@pytest.mark.parametrize(
    ("says", "told"),
    [
        (_fails, "it fails: RuntimeError: out of memory"),
        (lambda _, passages: [0.1], "1 figures for 3 passages"),
        (lambda _, passages: [0.1, math.nan, 0.3], "some that are no numbers"),
    ],
)
def test_what_fails_leaves_the_order_of_the_search(
    says: Callable[[str, Sequence[str]], list[float]], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    reranker = Scripted(says)
    reranking = Reranking(reranker, LONG)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert texts(reranking.order("secret", hits("a", "b", "c"))) == ["a", "b", "c"]
    assert len(reranker.asked) == 2
    assert [record.action for record in caplog.records] == ["not_reranked"] * 2  # type: ignore[attr-defined]
    assert told in caplog.text
    assert "secret" not in caplog.text


def test_what_takes_too_long_is_not_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    go_on, running = threading.Event(), threading.Event()

    def slow(_question: str, passages: Sequence[str]) -> list[float]:
        running.set()
        assert go_on.wait(LONG)
        return [float(n) for n in range(len(passages))]

    reranker = Scripted(slow)
    reranking = Reranking(reranker, 0.05)
    with caplog.at_level(logging.WARNING):
        assert texts(reranking.order("q", hits("a", "b"))) == ["a", "b"]
    assert "more than 0.05 s for 2 passages" in caplog.text
    assert running.wait(LONG)
    assert texts(Reranking.order(reranking, "r", hits("a", "b"))) == ["a", "b"]
    assert [question for question, _ in reranker.asked] == ["q"]
    go_on.set()
    patient = Reranking(reranker, LONG)
    assert texts(patient.order("s", hits("a", "b"))) == ["b", "a"]


def test_threads_that_ask_at_once_get_each_its_own(caplog: pytest.LogCaptureFixture) -> None:
    inside = threading.Lock()

    def alone(question: str, passages: Sequence[str]) -> list[float]:
        assert inside.acquire(blocking=False)
        scores = [float(passage.endswith(question)) for passage in passages]
        inside.release()
        return scores

    reranking = Reranking(Scripted(alone), LONG)
    found: dict[str, list[str]] = {}

    def ask(question: str) -> None:
        found[question] = texts(reranking.order(question, hits("a", "b", "c", "d")))

    threads = [threading.Thread(target=ask, args=(question,)) for question in "abcd" * 8]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert {question: order[0] for question, order in found.items()} == {text: text for text in "abcd"}
    assert not caplog.records
