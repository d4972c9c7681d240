"""Followers are woken by the bell. Here they would look by themselves after an hour, and nothing else wakes them."""

import socket
import threading
from contextlib import ExitStack, closing, suppress
from functools import partial
from uuid import uuid4

import pytest
from sqlalchemy import insert
from tests.services.eventually import eventually
from tests.services.proxy import close_listener
from tests.workers.core.ledger.conftest import tables_of

from headrace_workers.cli.connections import need_ledger
from headrace_workers.core.ledger import change_feed
from headrace_workers.core.ledger.change_feed import Follower
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.outage import KeepsGoing
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.progress import Progress
from headrace_workers.core.redis import RedisNames, redis_client
from headrace_workers.core.sql.database import writing
from headrace_workers.features.cache.semantic.questions import Keeping, Known, Questions
from headrace_workers.features.cache.store import entries
from headrace_workers.features.cache.tables import ENTRIES
from headrace_workers.features.knowledge.passage_search import PassageSearch
from headrace_workers.models.embedders.hashed import make_hash_embedder
from headrace_workers.runtime.bridge.bridge import Duty
from headrace_workers.runtime.settings import Settings
from headrace_workers.runtime.wire.hints import Hint, HintListener, Notifier
from headrace_workers.runtime.worker.parts import WorkerParts
from headrace_workers.runtime.worker.renew import Renewer
from headrace_workers.testing import HashEmbedder
from headrace_workers.wiring.build_bridge import build_bridge
from headrace_workers.wiring.build_gateway import build_gateway
from headrace_workers.wiring.build_worker import build_hands

AN_HOUR = 3_600.0
on_sqlite = pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)  # what is asked of it is the same on both


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request, tmp_path):
    """The URL of a ledger, on each database: what a follower sees, and when, is theirs."""
    yield from tables_of(request, tmp_path)


@pytest.fixture
def prefix(redis_server):
    """A prefix that nobody else has, with a client of the Redis."""
    with redis_client(redis_server.url) as client:
        yield f"woken{uuid4().hex}.", client


@pytest.fixture
def ledger(ledger_url, prefix):
    """A ledger that rings when what is followed has changed."""
    name, client = prefix
    with closing(Ledger.at(ledger_url)) as ledger:
        ledger.tell_of_changes(partial(Notifier(client, RedisNames(name).hints).notify, Hint.CHANGES))
        yield ledger


def live(tx, key):
    """An answer that likeness may find, as moderation admits it; the id of its entry."""
    embedder = HashEmbedder()
    (vector,) = embedder.embed([key])
    row = {"scope": "s", "key": key, "tenant": "a", "state": "live", "job_id": key, "lane": 0, "question": key,
           "vector": vector.tobytes(), "made_at": 1, "expires_at": 2**60}  # fmt: skip
    entry_id = tx.execute(insert(ENTRIES).values(row).returning(ENTRIES.c.id)).scalar_one()
    change_feed.note(tx, [entry_id], "entry")
    return entry_id


def is_heard(prefix, listeners=1):
    """Whether so many listen to the bell."""
    name, client = prefix
    ((_, count),) = client.pubsub_numsub(RedisNames(name).hints)
    return count == listeners


@pytest.fixture
def follower(ledger, ledger_url, redis_server, prefix):
    """A follower of another process's connections, with what it keeps and how often it looked."""
    known, looks = Known(HashEmbedder().dimensions), []

    class Counted(Questions):
        def changed(self, after, limit):
            looks.append(after)
            return super().changed(after, limit)

    with closing(Ledger.at(ledger_url)) as own, ExitStack() as stack:
        follower = Follower(Counted(own, known), Progress().loop("follow"), rest=AN_HOUR)
        heard = {Hint.CHANGES: follower.woken}
        ears = HintListener(redis_client(redis_server.url), RedisNames(prefix[0]).hints, heard, Progress().loop("ears"))
        for item in (ears, follower):
            item.start()
            stack.callback(item.stop)
        eventually(lambda: is_heard(prefix) and looks)
        yield known, looks


def test_an_answer_that_comes_or_dies_is_told(ledger, follower):
    known, _ = follower
    with writing(ledger.engine) as tx:
        entry_id = live(tx, "which river")
    eventually(lambda: entry_id in known.live)
    with writing(ledger.engine) as tx:
        entries.kill(tx, [entry_id], "wrong")
    eventually(lambda: entry_id not in known.live)


@pytest.mark.parametrize("ledger_url", ["postgresql"], indirect=True)
def test_what_an_older_writer_holds_back_is_looked_for_again(ledger, follower):
    """The bell rang for a change that nobody sees as long as that writer goes on, and it does not ring."""
    known, looks = follower
    with ledger.engine.connect() as older, older.begin():
        live(older, "an older one")
        with writing(ledger.engine) as tx:
            entry_id = live(tx, "a newer one")
        before = len(looks)
        eventually(lambda: len(looks) > before + 2)
        assert entry_id not in known.live
    eventually(lambda: entry_id in known.live)


def test_what_is_rolled_back_tells_nobody(ledger):
    told = []
    ledger.tell_of_changes(lambda: told.append(1))
    with suppress(ZeroDivisionError), writing(ledger.engine) as tx:
        live(tx, "lost")
        raise ZeroDivisionError
    with writing(ledger.engine) as tx:
        tx.execute(ENTRIES.delete())
    assert told == []
    with writing(ledger.engine) as tx:
        live(tx, "there")
        assert told == []  # it is not committed yet
    assert told == [1]


@pytest.fixture
def deployment(ledger_url, redis_server, prefix, tmp_path, monkeypatch):
    """Settings, the environment of the command line, and what would follow: nothing of it runs."""
    started, heard = [], []
    monkeypatch.setattr(KeepsGoing, "start", lambda each: started.append(each) or each)
    monkeypatch.setattr(Keeping, "start", lambda _: None)
    monkeypatch.setattr(Renewer, "start", lambda _: None)
    monkeypatch.setattr(HintListener, "start", lambda ears: heard.append(ears) or ears._thread.start())
    for place in ("wiring.build_bridge.HINT_SECONDS", "wiring.build_worker.HINT_SECONDS",
                  "wiring.build_gateway.HINT_SECONDS", "cli.connections.REDIS_SECONDS"):  # fmt: skip
        monkeypatch.setattr(f"headrace_workers.{place}", 60.0)  # else a hint that Redis takes late is told nobody
    make_hash_embedder(tmp_path)
    env = {"HEADRACE_LEDGER": ledger_url, "HEADRACE_REDIS": redis_server.url, "HEADRACE_TOPIC_PREFIX": prefix[0],
           "HEADRACE_HOME": str(tmp_path), "HEADRACE_EMBEDDER": "hash", "HEADRACE_KAFKA": "none:1"}  # fmt: skip
    yield Settings.from_env(env), env, started
    for ears in heard:
        ears.stop()


@on_sqlite
def test_the_command_line_wakes_all_followers_of_a_recall_worker(deployment, prefix):
    settings, env, started = deployment
    with closing(Ledger.at(settings.ledger)) as own:
        parts = WorkerParts(
            name="w", settings=settings, pipeline=Pipeline(), ledger=own, progress=Progress(), model=None
        ).of_features()
        parts["cache"]()
        parts["retrieval"]().bases()
        followers = [item for item in started if isinstance(item, Follower)]
        assert len(followers) == 2
        eventually(lambda: is_heard(prefix))
        with closing(need_ledger(env)) as ledger, writing(ledger.engine) as tx:
            live(tx, "which river")
        eventually(lambda: all(follower.woken.is_set() for follower in followers))


@on_sqlite
@pytest.mark.parametrize("process", ["bridge", "worker", "gateway"])
def test_what_a_process_writes_is_told(deployment, prefix, process):
    settings, _, _ = deployment
    ledger = _ledger_of(process, settings)
    name, client = prefix
    with client.pubsub(ignore_subscribe_messages=True) as heard, closing(ledger):
        heard.subscribe(RedisNames(name).hints)
        eventually(lambda: is_heard(prefix))
        with writing(ledger.engine) as tx:
            live(tx, "which river")
        message = eventually(lambda: heard.get_message(timeout=0.1))
    assert message["data"] == b"changes"


def _ledger_of(process, settings):
    if process == "bridge":
        return build_bridge(settings, frozenset({Duty.REAP}), Progress())._ledger
    if process == "worker":
        return build_hands(settings, Pipeline(), frozenset({"embed"}), None, Progress()).runner._ledger
    return build_gateway(settings, Progress(), durable=True).ledger


@on_sqlite
def test_a_gateway_follows_documents_as_a_worker_does(deployment, prefix):
    """Its own ears hear it, which also tell whoever waits for ends of all else."""
    settings, env, started = deployment
    rang = []
    gateway = build_gateway(settings, Progress(), durable=True)
    gateway.of(PassageSearch).bases()
    deaf = gateway.hear(lambda: rang.append(1))
    (follower,) = started
    eventually(lambda: is_heard(prefix))
    with closing(need_ledger(env)) as ledger, writing(ledger.engine) as tx:
        live(tx, "which river")
    eventually(follower.woken.is_set)
    deaf()
    assert rang == []
    gateway.ledger.close()


@on_sqlite
def test_a_redis_that_is_away_is_asked_once_by_the_command_line(deployment):
    _, env, _ = deployment
    with socket.create_server(("127.0.0.1", 0)) as server:
        asked = []

        def hang_up():
            with suppress(OSError):
                while True:
                    asked.append(server.accept()[0].close())

        hanging_up = threading.Thread(target=hang_up, daemon=True)
        hanging_up.start()
        env = env | {"HEADRACE_REDIS": f"redis://127.0.0.1:{server.getsockname()[1]}/0"}
        with closing(need_ledger(env)) as ledger:
            for number in range(3):
                with writing(ledger.engine) as tx:
                    live(tx, f"river {number}")
        close_listener(server)
        hanging_up.join()
        assert len(asked) == 1
