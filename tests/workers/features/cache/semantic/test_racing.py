"""Documents change while answers that rest on them are looked up, made and given, on each database."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count

import pytest
from tests.services.eventually import eventually

from headrace_schemas import Answer, Usage
from headrace_schemas.recall import CacheMode, CacheTier
from headrace_workers.core.ledger.change_feed import Follower
from headrace_workers.core.progress import Progress
from headrace_workers.core.sql.database import writing
from headrace_workers.features.cache.semantic.lookup import AnswerLookup, Lookup
from headrace_workers.features.cache.semantic.nearest import NearestQuestions
from headrace_workers.features.cache.semantic.questions import Known, Questions
from headrace_workers.features.cache.store.entries import Admit
from headrace_workers.features.knowledge.store.documents import KnowledgeBases, NewDocument
from headrace_workers.testing import HashEmbedder

WORDINGS = ("How do I reset the password of my account in {}?", "How do I reset my account's password in {}?")
PLACES = ("Lisbon", "Oslo", "Vienna", "Rome")
DOCUMENTS, ASKING, CHANGING = len(PLACES), 3, 2
NOWHERE = -1


class Race:
    """One document for each question. An answer names the version of its document that it was made from."""

    def __init__(self, ledger, asks) -> None:
        embedder = HashEmbedder()
        known = Known(embedder.dimensions)
        self.ledger, self.asks = ledger, asks
        self.cache = AnswerLookup(ledger, lambda alias: f"{alias}/1", NearestQuestions(embedder, known, 0.7))
        self.follower = Follower(Questions(ledger, known), Progress().loop("follow"))
        self.follower.once()
        self.over = threading.Event()
        self.numbers, self.looked = count(), count()
        self.served = dict.fromkeys(range(DOCUMENTS), 0)  # the newest version that was given of each document,
        self.tiers = set()
        self.now = {number: (1, self.put(number, 1)) for number in range(DOCUMENTS)}  # and what is written, with its id

    def put(self, number: int, version: int) -> int:
        """Write this version of a document; its id."""
        document = NewDocument(
            tenant="default", knowledge="docs", name=f"{number}.md", sha256=f"{version}", format="markdown", size=1,
            embedder="e", chunks=[],
        )  # fmt: skip
        return self.ledger.of(KnowledgeBases).put(document)

    def change(self, number: int, turn: int) -> None:
        """The document says something else from now on; now and then it is removed before, and is another then."""
        version, document_id = self.now[number]
        if turn % 5 == 4:
            self.ledger.of(KnowledgeBases).remove([document_id])
            self.now[number] = version + 1, NOWHERE
        self.now[number] = version + 1, self.put(number, version + 1)

    def caught_up(self, number: int) -> bool:
        """Whether what the document says now was given, or nobody asks any more."""
        return self.over.is_set() or self.served[number] >= self.now[number][0]

    def look(self) -> int:
        """Ask about each document, and answer what nobody answers from what was written before; how many are served."""
        written, turn = dict(self.now), next(self.looked)
        asked = [self.asking(WORDINGS[(turn + number) % 2].format(PLACES[number])) for number in written]
        served = 0
        for number, lookup in zip(written, self.cache.look_up(asked), strict=True):
            version, document_id = written[number]
            if lookup.decision == "hit":
                document, told = map(int, lookup.answer.text.split())
                assert document == number
                assert told >= version, f"{lookup.tier}: {told} was given when {version} had been written"
                self.served[number] = max(told, self.served[number])
                self.tiers.add(lookup.tier)
                served += 1
            elif lookup.leads is not None:
                with writing(self.ledger.engine) as tx:
                    used = ((document_id, f"{version}"),)
                    Admit(lookup.leads, answer(f"{number} {version}"), 1.0, 600_000, used).write(tx)
        return served

    def asking(self, question: str) -> Lookup:
        job = self.asks(question, cache="semantic")
        return Lookup(f"job-{next(self.numbers)}", job, CacheMode.SEMANTIC)


def answer(text: str) -> bytes:
    usage = Usage(prompt_tokens=1, completion_tokens=1)
    told = Answer(text=text, model="echo", quantization="none", finish_reason="stop", usage=usage)
    return told.model_dump_json().encode()


@pytest.mark.integration
@pytest.mark.parametrize(("changes", "looks"), [(40, 40), pytest.param(1_000, 2_250, marks=pytest.mark.luck)])
def test_nothing_stale_is_served_while_changes_and_look_ups_race(ledger, asks, changes, looks):
    """1,000 changes beside 9,000 look-ups and more: what was looked for after a change had ended rests on it.

    At each other turn a change waits until what it changes was served, so that there is something to be stale; else
    it comes while answers from what was written before it are still being made.
    """
    race = Race(ledger, asks)

    def change(first: int) -> None:
        for turn in range(changes // CHANGING):
            number = first + turn % 2
            if turn // 2 % 2:
                eventually(partial(race.caught_up, number))
            race.change(number, turn)

    def ask() -> int:
        served = rounds = 0
        while not race.over.is_set() or rounds < looks // ASKING:
            served, rounds = served + race.look(), rounds + 1
        return served

    def follow() -> None:
        while not race.over.is_set():
            race.follower.once()
            time.sleep(0.001)  # as a worker does, which is woken

    def until_over(work: Callable[..., object], *with_: object) -> object:
        try:
            return work(*with_)
        except BaseException:
            race.over.set()  # or the others would go on for ever
            raise

    with ThreadPoolExecutor(ASKING + CHANGING + 1) as pool:
        asking = [pool.submit(until_over, ask) for _ in range(ASKING)]
        changing = [pool.submit(until_over, change, 2 * first) for first in range(CHANGING)]
        following = pool.submit(until_over, follow)
        for future in changing:
            future.result()
        race.over.set()
        following.result()
        assert sum(future.result() for future in asking) >= changes // 4
    race.look()  # which makes what was withdrawn last
    for _ in WORDINGS:
        race.follower.once()
        assert race.look() == DOCUMENTS
    assert race.served == {number: version for number, (version, _) in race.now.items()}
    assert race.tiers >= {CacheTier.EXACT, CacheTier.SEMANTIC}
