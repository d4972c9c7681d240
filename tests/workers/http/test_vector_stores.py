import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI
from tests.workers.changed_settings import changed
from tests.workers.http.served import Gateway, served

from headrace_workers.core.sql import paging
from headrace_workers.features.knowledge.intake import Filling
from headrace_workers.features.knowledge.passage_search import SEARCHES_AT_A_TIME, PassageSearch
from headrace_workers.features.knowledge.reading import Reader
from headrace_workers.features.knowledge.store.documents import KnowledgeBases, NewChunk, NewDocument
from headrace_workers.features.knowledge.store.vector_stores import VectorStores
from headrace_workers.files.service import files_in
from headrace_workers.models.embedders.hashed import make_hash_embedder
from headrace_workers.runtime.settings import ModelSettings, Settings
from headrace_workers.testing import HashEmbedder

EMBEDDER = HashEmbedder()
MILL = b"# Mills\n\nA mill by the river.\n\n## Wheels\n\nThe wheel turns slowly.\n"


@dataclass
class Door:
    """A gateway, and what fills its stores: a recall worker's part, done when a test wants it."""

    gateway: Gateway
    filling: Filling

    def client(self, tenant: str = "default") -> OpenAI:
        return OpenAI(base_url=f"{self.gateway.url}/v1", api_key=self.gateway.key(tenant), max_retries=0)

    def file(self, data: bytes = MILL, name: str = "mill.md", tenant: str = "default") -> str:
        files = files_in(self.gateway.settings.home, self.gateway.settings, self.gateway.services.ledger)
        return str(files.add([data], tenant=tenant, purpose="assistants", name=name, keep=None).id)

    def fill(self) -> None:
        while self.filling.once():
            pass


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    with Reader() as reader:
        yield reader


@pytest.fixture
def door(settings: Settings, tmp_path: Path, reader: Reader) -> Iterator[Door]:
    """A gateway that knows an embedder without weights."""
    make_hash_embedder(tmp_path)
    with served(changed(settings, ModelSettings(embedder="hash")), connected=False) as gateway:
        ledger = gateway.services.ledger
        files = files_in(gateway.settings.home, gateway.settings, ledger)
        filling = Filling(ledger, files.head, reader, lambda: EMBEDDER)
        yield Door(gateway, filling)


@pytest.fixture
def client(door: Door) -> OpenAI:
    return door.client()


def test_what_a_large_file_says_is_read_a_part_at_a_time(
    door: Door, client: OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: list[int] = []
    texts = door.gateway.services.ledger.of(VectorStores).texts

    def counted(*args: int) -> paging.Part:
        part = texts(*args)
        parts.append(len(part.rows))
        return part

    monkeypatch.setattr(door.gateway.services.ledger.of(VectorStores), "texts", counted)
    monkeypatch.setattr(paging, "PART_BYTES", 60)
    sections = [f"## Wheel {number}\n\nIt turns slowly." for number in range(5)]
    store = client.vector_stores.create(name="Wheels", file_ids=[door.file("\n\n".join(sections).encode())])
    (file,) = client.vector_stores.files.list(store.id)
    assert client.vector_stores.files.content(file.id, vector_store_id=store.id).data == []
    door.fill()
    content = client.vector_stores.files.content(file.id, vector_store_id=store.id)
    assert [(entry.type, entry.text) for entry in content.data] == [("text", section) for section in sections]
    assert parts == [2, 2, 1]


def test_a_store_is_made_filled_searched_and_removed(door: Door, client: OpenAI) -> None:
    store = client.vector_stores.create(
        name="Handbook", file_ids=[door.file()], metadata={"team": "x"},
        expires_after={"anchor": "last_active_at", "days": 7}, chunking_strategy={"type": "auto"},
    )  # fmt: skip
    assert (store.name, store.metadata, store.status, store.file_counts.in_progress) == (
        "Handbook", {"team": "x"}, "in_progress", 1,
    )  # fmt: skip
    assert store.expires_at == pytest.approx(store.created_at + 7 * 86_400, abs=2)
    other = client.vector_stores.files.create(
        store.id, file_id=door.file(b"A clock in the hall strikes at noon.", "clock.txt"), attributes={"year": 2026}
    )
    assert (other.status, other.attributes, other.vector_store_id) == ("in_progress", {"year": 2026}, store.id)
    door.fill()
    filled = client.vector_stores.retrieve(store.id)
    assert (filled.status, filled.file_counts.completed, filled.file_counts.total) == ("completed", 2, 2)
    assert filled.usage_bytes > 80
    page = client.vector_stores.search(store.id, query="Where is the mill by the river?", max_num_results=2)
    best = page.data[0]
    assert (best.filename, best.content[0].text) == ("mill.md", "# Mills\n\nA mill by the river.")
    assert 0 < best.score <= 1
    assert len(page.data) == 2
    content = client.vector_stores.files.content(best.file_id, vector_store_id=store.id)
    assert [entry.text for entry in content.data] == [
        "# Mills\n\nA mill by the river.", "## Wheels\n\nThe wheel turns slowly.",
    ]  # fmt: skip
    assert client.vector_stores.files.delete(other.id, vector_store_id=store.id).deleted
    assert [file.id for file in client.vector_stores.files.list(store.id)] == [best.file_id]
    assert client.vector_stores.delete(store.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.vector_stores.retrieve(store.id)
    assert not door.gateway.services.ledger.of(KnowledgeBases).exists("default", store.id)


@pytest.mark.parametrize("together", [False, True], ids=["a file", "a batch"])
def test_the_client_is_told_when_to_look_again(
    door: Door, client: OpenAI, monkeypatch: pytest.MonkeyPatch, together: bool
) -> None:
    store = client.vector_stores.create()
    files = client.vector_stores.file_batches if together else client.vector_stores.files
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        door.fill()

    monkeypatch.setattr(files, "_sleep", sleep)
    made = files.create(store.id, **({"file_ids": [door.file()]} if together else {"file_id": door.file()}))
    assert files.poll(made.id, vector_store_id=store.id).status == "completed"
    assert slept == [0.5]
    ended = files.with_raw_response.retrieve(made.id, vector_store_id=store.id)
    assert "openai-poll-after-ms" not in ended.headers


def test_files_are_put_in_and_looked_at_together(door: Door, client: OpenAI) -> None:
    store = client.vector_stores.create()
    batches = client.vector_stores.file_batches
    ids = [door.file(f"The mill {name} by the river.".encode(), f"{name}.md") for name in "ab"]
    ids.append(door.file(b"\xff\xfe\x00", "noise.bin"))
    made = batches.create(store.id, file_ids=ids, attributes={"year": 2026})
    assert (made.status, made.file_counts.in_progress, made.file_counts.total) == ("in_progress", 3, 3)
    door.fill()
    ended = batches.poll(made.id, vector_store_id=store.id)
    counts = ended.file_counts
    assert (ended.status, counts.completed, counts.failed, counts.total) == ("completed", 2, 1, 3)
    listed = list(batches.list_files(made.id, vector_store_id=store.id, limit=1, order="asc"))
    assert {file.id for file in listed} == set(ids)
    assert [file.id for file in batches.list_files(made.id, vector_store_id=store.id)] == [file.id for file in listed][
        ::-1
    ]
    (failed,) = batches.list_files(made.id, vector_store_id=store.id, filter="failed")
    assert (failed.id, failed.attributes) == (ids[2], {"year": 2026})
    other = batches.create(store.id, files=[{"file_id": ids[0], "attributes": {"year": 1}}])
    assert (other.status, other.file_counts.completed) == ("completed", 1)
    assert client.vector_stores.files.retrieve(ids[0], vector_store_id=store.id).attributes == {"year": 1}
    stranger = door.client("stranger")
    for call in (batches.retrieve, batches.cancel, batches.list_files):
        foreign = getattr(stranger.vector_stores.file_batches, call.__name__)
        for client_call, batch_id in ((foreign, made.id), (call, "vsfb_x")):
            with pytest.raises(openai.NotFoundError):
                client_call(batch_id, vector_store_id=store.id)
    for wrong in ({}, {"file_ids": []}, {"file_ids": ids, "files": [{"file_id": ids[0]}]}):
        with pytest.raises(openai.BadRequestError):
            batches.create(store.id, **wrong)


def test_a_batch_of_files_is_cancelled(door: Door, client: OpenAI) -> None:
    store = client.vector_stores.create()
    batches = client.vector_stores.file_batches
    there, late = door.file(b"A mill by the river.", "a.md"), door.file(b"A clock in the hall.", "b.md")
    client.vector_stores.files.create(store.id, file_id=there)
    door.fill()
    made = batches.create(store.id, file_ids=[there, late])
    for _ in range(2):
        told = batches.cancel(made.id, vector_store_id=store.id)
        counts = told.file_counts
        assert (told.status, counts.completed, counts.cancelled, counts.total) == ("cancelled", 1, 1, 2)
    door.fill()
    assert [file.id for file in client.vector_stores.files.list(store.id)] == [there]
    ended = batches.create(store.id, file_ids=[there])
    assert batches.cancel(ended.id, vector_store_id=store.id).status == "completed"


def test_a_filter_says_which_files_are_searched(door: Door, client: OpenAI) -> None:
    store = client.vector_stores.create()
    ids = {}
    for name, attributes in {"a.md": {"year": 2025, "draft": True}, "b.md": {"year": 2026}, "c.md": {}}.items():
        ids[name] = door.file(f"The mill {name} by the river.".encode(), name)
        client.vector_stores.files.create(store.id, file_id=ids[name], attributes=attributes)
    door.fill()

    def found(filters: dict) -> set[str]:
        page = client.vector_stores.search(store.id, query="the mill by the river", filters=filters, max_num_results=50)
        return {entry.filename for entry in page.data}

    year = {"type": "gte", "key": "year", "value": 2026}
    assert found(year) == {"b.md"}
    assert found({"type": "or", "filters": [year, {"type": "eq", "key": "draft", "value": True}]}) == {"a.md", "b.md"}
    assert found({"type": "nin", "key": "year", "value": [2026]}) == {"a.md", "c.md"}
    changed = client.vector_stores.files.update(ids["c.md"], vector_store_id=store.id, attributes={"year": 2027})
    assert changed.attributes == {"year": 2027}
    follow(door)
    assert found(year) == {"b.md", "c.md"}
    client.vector_stores.files.update(ids["c.md"], vector_store_id=store.id, attributes=None)
    follow(door)
    assert found(year) == {"b.md"}


def follow(door: Door) -> None:
    """Forget what is in memory: following it is tested elsewhere."""
    door.gateway.services.of(PassageSearch).bases()._held.clear()  # type: ignore[attr-defined]


def test_several_queries_are_one_search(door: Door, client: OpenAI) -> None:
    store = client.vector_stores.create(file_ids=[door.file()])
    door.fill()
    page = client.vector_stores.search(store.id, query=["a mill by the river", "the wheel turns slowly", "a mill"])
    texts = [entry.content[0].text for entry in page.data]
    assert sorted(texts) == ["# Mills\n\nA mill by the river.", "## Wheels\n\nThe wheel turns slowly."]
    assert [entry.score for entry in page.data] == sorted((entry.score for entry in page.data), reverse=True)
    high = client.vector_stores.search(
        store.id, query="a mill by the river", ranking_options={"ranker": "none", "score_threshold": page.data[0].score}
    )
    assert len(high.data) <= 1
    assert client.vector_stores.search(client.vector_stores.create().id, query="mill").data == []


def test_what_can_be_no_document_fails_with_its_reason(door: Door, client: OpenAI) -> None:
    store = client.vector_stores.create()
    bad = door.file(b"\x7fELF\0", "x.txt")
    client.vector_stores.files.create(store.id, file_id=bad)
    assert client.vector_stores.files.content(bad, vector_store_id=store.id).data == []
    door.fill()
    file = client.vector_stores.files.poll(bad, vector_store_id=store.id)
    assert (file.status, file.last_error.code) == ("failed", "unsupported_file")
    assert "binary" in file.last_error.message
    assert [store_file.id for store_file in client.vector_stores.files.list(store.id, filter="failed")] == [bad]
    assert list(client.vector_stores.files.list(store.id, filter="completed")) == []
    assert list(client.vector_stores.files.list(store.id, filter="cancelled")) == []
    assert client.vector_stores.retrieve(store.id).file_counts.failed == 1


def test_what_is_said_of_a_store_changes(client: OpenAI) -> None:
    store = client.vector_stores.create(
        name="a", metadata={"k": "v"}, expires_after={"anchor": "last_active_at", "days": 1}
    )
    changed = client.vector_stores.update(store.id, name="b")
    assert (changed.name, changed.metadata, changed.expires_after.days) == ("b", {"k": "v"}, 1)
    changed = client.vector_stores.update(store.id, expires_after=None, metadata={})
    assert (changed.name, changed.metadata, changed.expires_after, changed.expires_at) == ("b", {}, None, None)


def test_a_base_of_the_command_line_is_a_store(door: Door, client: OpenAI) -> None:
    (vector,) = EMBEDDER.embed(["A mill by the river."])
    chunk = NewChunk("c", "", 0, 20, "A mill by the river.", vector.tobytes())
    door.gateway.services.ledger.of(KnowledgeBases).put(
        NewDocument(tenant="default", knowledge="handbook", name="docs/mill.md", sha256="1", format="markdown", size=20,
                    embedder=EMBEDDER.id, chunks=[chunk], attributes={"year": 1976})
    )  # fmt: skip
    assert [store.id for store in client.vector_stores.list()] == ["handbook"]
    (file,) = client.vector_stores.files.list("handbook")
    assert (file.status, file.attributes) == ("completed", {"year": 1976})
    (hit,) = client.vector_stores.search("handbook", query="mill").data
    assert (hit.file_id, hit.filename) == (file.id, "docs/mill.md")
    assert client.vector_stores.files.delete(file.id, vector_store_id="handbook").deleted
    assert list(client.vector_stores.list()) == []


def test_another_tenants_stores_and_files_are_not_there(door: Door, client: OpenAI) -> None:
    store = client.vector_stores.create(file_ids=[door.file()])
    door.fill()
    stranger = door.client("stranger")
    assert list(stranger.vector_stores.list()) == []
    (file,) = client.vector_stores.files.list(store.id)
    mine = stranger.vector_stores.create()
    for call in (
        lambda: stranger.vector_stores.retrieve(store.id),
        lambda: stranger.vector_stores.update(store.id, name="x"),
        lambda: stranger.vector_stores.delete(store.id),
        lambda: stranger.vector_stores.search(store.id, query="mill"),
        lambda: stranger.vector_stores.files.list(store.id),
        lambda: stranger.vector_stores.files.retrieve(file.id, vector_store_id=store.id),
        lambda: stranger.vector_stores.files.content(file.id, vector_store_id=store.id),
        lambda: stranger.vector_stores.files.update(file.id, vector_store_id=store.id, attributes={}),
        lambda: stranger.vector_stores.files.delete(file.id, vector_store_id=store.id),
        lambda: stranger.vector_stores.files.create(store.id, file_id=file.id),
        lambda: stranger.vector_stores.files.create(mine.id, file_id=file.id),
        lambda: stranger.vector_stores.create(file_ids=[file.id]),
    ):
        with pytest.raises(openai.NotFoundError):
            call()
    assert client.vector_stores.retrieve(store.id).file_counts.completed == 1


def test_without_an_embedder_files_and_searches_are_refused_with_the_command(door: Door, client: OpenAI) -> None:
    model = door.gateway.settings.home / "models" / "hash"
    store, file = client.vector_stores.create(name="a"), door.file()
    hidden = model.rename(model.with_name("hidden"))
    attempts = (
        lambda: client.vector_stores.create(file_ids=[file]),
        lambda: client.vector_stores.files.create(vector_store_id=store.id, file_id=file),
        lambda: client.vector_stores.file_batches.create(vector_store_id=store.id, file_ids=[file]),
        lambda: client.vector_stores.search(store.id, query="mill"),
    )
    for attempt in attempts:
        with pytest.raises(openai.InternalServerError, match="headrace models pull hash") as caught:
            attempt()
        assert (caught.value.status_code, caught.value.code) == (503, "no_embedder")
        assert caught.value.response.headers["x-should-retry"] == "false"
    hidden.rename(model)
    client.vector_stores.files.create(vector_store_id=store.id, file_id=file)
    door.fill()
    assert client.vector_stores.search(store.id, query="mill").data


def test_searches_of_one_tenant_are_bounded_and_leave_room_for_others(door: Door, client: OpenAI) -> None:
    """A search that nobody waits for any more still counts, since it has a thread; keys are looked up all the while."""
    begun, go_on = threading.Semaphore(0), threading.Event()
    other = door.client("other")
    theirs = other.vector_stores.create(name="theirs")
    ours = client.vector_stores.create(name="ours")
    bases = door.gateway.services.of(PassageSearch).bases()

    class Slow:
        def search(self, tenant: str, *rest: Any, **more: Any) -> Any:
            if tenant == "default":
                begun.release()
                assert go_on.wait(60)
            return bases.search(tenant, *rest, **more)

    door.gateway.services.of(PassageSearch).bases = Slow  # type: ignore[assignment,return-value]
    with ThreadPoolExecutor(SEARCHES_AT_A_TIME) as pool:
        held = [pool.submit(client.vector_stores.search, ours.id, query="a") for _ in range(SEARCHES_AT_A_TIME)]
        try:
            for _ in held:
                assert begun.acquire(timeout=60)
            with pytest.raises(openai.RateLimitError, match="4 searches under way") as caught:
                client.vector_stores.search(ours.id, query="a")
            assert caught.value.code == "too_many_requests"
            assert other.vector_stores.search(theirs.id, query="a").data == []
        finally:
            go_on.set()
        assert [future.result(60).data for future in held] == [[]] * SEARCHES_AT_A_TIME
    assert client.vector_stores.search(ours.id, query="a").data == []
