"""Recall's fleet: how soon every worker knows of an answer, how soon one starts, and what it holds."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy import text as sql

from bench.ends import Say
from bench.lookup import question
from bench.report import Report, Row, percentile, report, row
from bench.services import Services, services
from bench.vectors import clustered
from headrace_workers.core.ledger import change_feed
from headrace_workers.core.ledger.change_feed import Follower
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.progress import Progress
from headrace_workers.core.redis import RedisNames, redis_client
from headrace_workers.core.sql.database import writing
from headrace_workers.features.cache.semantic.questions import Known, Questions, Reached, Saved
from headrace_workers.features.cache.store import entries
from headrace_workers.runtime.wire.hints import Hint, HintListener, Notifier

NAME = "fleet"
_DIMENSIONS = 384
_SCOPE = "bench"
_EMBEDDER = "bench/none/0"
_AT_ONCE = 1_000
_STARTS = 5
_LOOK = 0.002  # s between two looks whether all know
_LONGEST = 30.0  # s that a change is waited for

# In a process of its own, so that nothing else is in its memory: resident bytes before and after it has started.
_MEMORY = """
import sys
from pathlib import Path

import faiss
import psutil

from headrace_workers.features.cache.semantic.questions import Known
from headrace_workers.features.cache.semantic.questions import Saved

before = psutil.Process().memory_info().rss
known = Known(int(sys.argv[4]))
assert Saved(Path(sys.argv[1]), sys.argv[2], sys.argv[3]).load(known) is not None
known.compact()
print(psutil.Process().memory_info().rss - before, len(known))
"""


def bench(say: Say, *, quick: bool = False, embedded: bool = False) -> Report:
    """100,000 answers, four workers, 100 answers that come and 100 that die (2,000, two and 10 when quick)."""
    size, workers, changed = (2_000, 2, 10) if quick else (100_000, 4, 100)
    with services(embedded=embedded) as there:
        url = there.new_ledger()
        say(f"{size:,} answers are written to the ledger")
        with _opened(url) as ledger:
            fill(ledger, size)
            folder = there.folder / "recall"
            rows = starts(ledger, folder, say)
            rows += [_memory(ledger, folder, size)]
            rows += _converge(there, url, workers, changed, say)
        return report(NAME, there.stack, rows)


def fill(ledger: Ledger, size: int) -> None:
    """So many answers that likeness may find, each with the change that tells of it."""
    vectors = clustered(size, _DIMENSIONS)
    for start in range(0, size, _AT_ONCE):
        numbers = range(start, min(size, start + _AT_ONCE))
        with writing(ledger.engine) as tx:
            _write(tx, {number: vectors[number].tobytes() for number in numbers})


def starts(ledger: Ledger, folder: Path, say: Say) -> list[Row]:
    """From the whole ledger, and from a snapshot, in turns."""
    saved = Saved(folder, ledger.identity, _EMBEDDER)
    say("a worker starts from the ledger, and saves what it knows")
    took, known, reached = _start(ledger, None)
    known.compact()
    began = time.perf_counter()
    assert saved.save(reached)
    save = time.perf_counter() - began
    quick = []
    for turn in range(_STARTS):
        say(f"start {turn + 1} of {_STARTS} from the snapshot")
        quick.append(_start(ledger, saved)[0])
    size = sum(path.stat().st_size for path in saved.folder.iterdir())
    of = f"{len(known):,} answers"
    return [
        row(f"start from the ledger, {of}", took, "s"),
        row(f"start from a snapshot, {of}, p50 of {_STARTS}", percentile(quick, 50), "s", at_most=2.0),
        row(f"start from a snapshot to start from the ledger, {of}", percentile(quick, 50) / took, "ratio"),
        row(f"writing a snapshot, {of}, beside look-ups", save, "s"),
        row(f"snapshot on disk, {of}", size / 2**20, "MiB"),
    ]


def converge(ledger: Ledger, all_known: Sequence[Known], count: int) -> tuple[list[float], list[float]]:
    """Seconds from the commit of an answer until all know it, and from that of its end until all have forgotten it."""
    came, went = [], []
    first = 10_000_000
    vectors = clustered(count, _DIMENSIONS, seed=9)
    for number in range(count):
        with writing(ledger.engine) as tx:
            (entry_id,) = _write(tx, {first + number: vectors[number].tobytes()})
        came.append(_until(partial(_known, all_known, entry_id, len(all_known))))
        with writing(ledger.engine) as tx:
            entries.kill(tx, [entry_id], "bench")
        went.append(_until(partial(_known, all_known, entry_id, 0)))
    return came, went


def _converge(there: Services, url: str, workers: int, count: int, say: Say) -> list[Row]:
    say(f"{workers} workers follow, each with connections of its own, while {count} answers come and die")
    with ExitStack() as stack:
        channel = RedisNames(there.new_prefix()).hints
        all_known = [stack.enter_context(_following(there, url, channel, number)) for number in range(workers)]
        mine = stack.enter_context(_opened(url))
        client = stack.enter_context(redis_client(there.redis))
        mine.tell_of_changes(partial(Notifier(client, channel).notify, Hint.CHANGES))
        _until(lambda: all(len(known) for known in all_known))
        _until(lambda: client.pubsub_numsub(channel)[0][1] == workers)
        came, went = converge(mine, all_known, count)
    of = f"{workers} workers, {count} times"
    return [
        found
        for name, took in (("an answer is known", came), ("a dead answer is forgotten", went))
        for found in (
            row(f"{name} by all of {of}, p50", percentile(took, 50), "s"),
            row(f"{name} by all of {of}, longest", max(took), "s", at_most=1.0),
        )
    ]


@contextmanager
def _following(there: Services, url: str, channel: str, number: int) -> Iterator[Known]:
    """What a worker knows, which follows the ledger and is woken by the bell."""
    with _opened(url) as ledger, ExitStack() as stack:
        known = Known(_DIMENSIONS)
        saved = Saved(there.folder / "recall", ledger.identity, _EMBEDDER)
        follower = Follower(Questions(ledger, known, saved), Progress().loop(f"follow {number}"))
        heard = {Hint.CHANGES: follower.woken}
        for item in (
            HintListener(redis_client(there.redis), channel, heard, Progress().loop(f"ears {number}")),
            follower,
        ):
            item.start()
            stack.callback(item.stop)
        yield known


def _memory(ledger: Ledger, folder: Path, size: int) -> Row:
    command = [sys.executable, "-c", _MEMORY, str(folder), ledger.identity, _EMBEDDER, str(_DIMENSIONS)]
    completed_process = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    held, count = map(int, completed_process.stdout.split())
    assert count == size
    return row("memory of 100,000 answers after a start from a snapshot", held / count * 100_000 / 2**20, "MiB")


def _start(ledger: Ledger, saved: Saved | None) -> tuple[float, Known, Reached]:
    known = Known(_DIMENSIONS)
    questions = Questions(ledger, known, saved)
    follower = Follower(questions, Progress().loop("follow"))
    began = time.perf_counter()
    follower.once()
    took = time.perf_counter() - began
    assert questions.reached is not None
    return took, known, questions.reached


def _until(done: Callable[[], bool]) -> float:
    """Seconds until that is so."""
    began = time.perf_counter()
    while not done():
        if time.perf_counter() - began > _LONGEST:
            raise RuntimeError(f"a change was not followed within {_LONGEST:g} s")
        time.sleep(_LOOK)
    return time.perf_counter() - began


@contextmanager
def _opened(url: str) -> Iterator[Ledger]:
    ledger = Ledger.at(url)
    try:
        yield ledger
    finally:
        ledger.close()


def _known(all_known: Sequence[Known], entry_id: int, by: int) -> bool:
    """Whether so many of these know the entry."""
    return sum(entry_id in known.live for known in all_known) == by


def _write(tx: Connection, vectors: Mapping[int, bytes]) -> list[int]:
    """Live answers with these vectors, each with the change that tells of it; their ids."""
    keys = [{"scope": _SCOPE, "key": str(number), "question": question(number), "vector": vector, "answer": b"x" * 500}
            for number, vector in vectors.items()]  # fmt: skip
    last = tx.execute(sql("SELECT coalesce(max(id), 0) FROM entries")).scalar_one()
    tx.execute(
        sql(
            "INSERT INTO entries"
            " (scope, key, tenant, state, job_id, lane, question, vector, answer, made_at, expires_at) VALUES"
            " (:scope, :key, 'default', 'live', :key, 0, :question, :vector, :answer, 0, 99999999999999)"
        ),
        keys,
    )
    ids = list(tx.execute(sql("SELECT id FROM entries WHERE id > :last ORDER BY id"), {"last": last}).scalars())
    change_feed.note(tx, ids, "entry")
    return ids
