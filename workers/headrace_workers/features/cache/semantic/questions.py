"""Questions whose answers may be served or are being made: in memory, kept in step with the ledger, and saved on disk,
so that a worker need not read the whole ledger at its start.

Below `HEADRACE_HOME` a ledger and an embedder have a folder of their own, which all workers of that home share: each
may start from another's snapshot. A snapshot ends with a change of the ledger, its *mark*; see `changes.stands` for
when that still holds.
"""

import hashlib
import logging
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace_workers.core.ledger.change_feed import Mark, Position
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.log import Action, log
from headrace_workers.core.progress import Loop
from headrace_workers.features.cache.store.answers import Answers, Change
from headrace_workers.models.vectors import snapshot
from headrace_workers.models.vectors.snapshot import Bytes, NoSnapshot, SnapshotRefused
from headrace_workers.models.vectors.vector_index import State, VectorIndex
from headrace_workers.models.vectors.vectors import VectorRefused, read_vector

LEAST_CHANGES: Final = 1_000  # are followed before it is worth to save again,
_SHARE: Final = 10  # and this part of what is known,
_OLDEST: Final = 6 * 3_600.0  # or anything at all for so long (s): older changes are not kept for ever
_FORGOTTEN: Final = 7 * 86_400.0  # s without a save, after which a folder is another's no more
_GONE: Final = -1  # in the place of a text's length: it came or went while the rest was saved


class Neighbour(NamedTuple):
    """A known question near to another."""

    entry_id: int
    similarity: float
    question: str


class Question(NamedTuple):
    """A known question, and the scope in which it may be asked."""

    scope: str
    text: str


class Shelf:
    """Questions of one kind. One thread applies changes; any number look up meanwhile."""

    def __init__(self, dimensions: int) -> None:
        self.dimensions = dimensions
        self._scopes: dict[str, VectorIndex] = {}
        self._kept: dict[int, Question] = {}

    def __len__(self) -> int:
        """Return the number of questions."""
        return len(self._kept)

    def __contains__(self, entry_id: object) -> bool:
        """Return True if this entry's question is here."""
        return entry_id in self._kept

    def apply(self, entries: Iterable[Change]) -> None:
        """Take in what entries are now. One whose vector cannot be one of ours is left out, and the log says so."""
        coming: dict[str, dict[int, tuple[NDArray[np.float32], str]]] = defaultdict(dict)
        going: dict[str, list[int]] = defaultdict(list)
        for entry in {entry.entry_id: entry for entry in entries}.values():
            if (before := self._kept.pop(entry.entry_id, None)) is not None:
                going[before.scope].append(entry.entry_id)
            if entry.scope is not None and entry.question is not None and entry.vector is not None:
                vector = self._vector(entry.entry_id, entry.vector)
                if vector is not None:
                    coming[entry.scope][entry.entry_id] = vector, entry.question
        for scope in going.keys() | coming.keys():
            self._apply(scope, coming.get(scope, {}), going.get(scope, []))

    def nearest(self, scope: str, vector: NDArray[np.float32], count: int) -> list[Neighbour]:
        """The nearest questions of a scope, best first, `count` at most."""
        index = self._scopes.get(scope)
        if index is None:
            return []
        kept = self._kept
        return [
            Neighbour(entry_id, min(1.0, similarity), question.text)
            for entry_id, similarity in index.nearest(vector, count)
            if (question := kept.get(entry_id)) is not None
        ]

    @property
    def due(self) -> bool:
        """Return True if `compact` would do anything."""
        return any(index.due for index in list(self._scopes.values()))

    def compact(self) -> None:
        """Rebuild what is due; it may take seconds, and look-ups and changes go on."""
        for index in list(self._scopes.values()):
            if index.due:
                index.compact()

    def held(self) -> tuple[dict[str, State], dict[int, Question]]:
        """Return each scope's present vectors, and the questions; entries that come or go meanwhile may be in only one
        of the two."""
        states = {scope: index.state for scope, index in list(self._scopes.items())}
        return states, self._kept.copy()

    def put_back(self, indices: dict[str, VectorIndex], kept: dict[int, Question]) -> None:
        """Hold these in the place of all. Vectors without a question are taken out."""
        for index in indices.values():
            rows = index.state.rows
            index.remove([entry_id for entry_id in rows.ids[: rows.count][rows.alive].tolist() if entry_id not in kept])
        self._kept, self._scopes = kept, {scope: index for scope, index in indices.items() if len(index)}

    def _apply(self, scope: str, coming: dict[int, tuple[NDArray[np.float32], str]], going: Sequence[int]) -> None:
        index = self._scopes.get(scope) or self._scopes.setdefault(scope, VectorIndex(self.dimensions))
        for entry_id, (_, text) in coming.items():
            self._kept[entry_id] = Question(scope, text)
        index.apply(list(coming), [vector for vector, _ in coming.values()], going)
        if not len(index):
            del self._scopes[scope]

    def _vector(self, entry_id: int, written: bytes) -> NDArray[np.float32] | None:
        try:
            return read_vector("entry", entry_id, written, self.dimensions)
        except VectorRefused as error:
            log("recall", logging.WARNING, Action.ENTRY_LEFT_OUT, f"an answer is not found by likeness: {error}")
            return None


class Known:
    """All that a worker knows of one ledger's questions. One thread applies changes; any number look up meanwhile."""

    def __init__(self, dimensions: int) -> None:
        self.dimensions = dimensions
        self.live = Shelf(dimensions)  # entries with an answer
        self.making = Shelf(dimensions)  # entries whose answer is being made
        self.followed = 0  # the number of the last change that is in it

    def __len__(self) -> int:
        """Return the number of questions that have an answer."""
        return len(self.live)

    def apply(self, entries: Sequence[Change]) -> None:
        """Take in what entries are now."""
        # Add it before it is removed elsewhere: an entry must be found at every moment.
        self.live.apply(_gone(entry) if entry.making else entry for entry in entries)
        self.making.apply(entry if entry.making else _gone(entry) for entry in entries)

    def clear(self) -> None:
        """Forget all."""
        self.live, self.making, self.followed = Shelf(self.dimensions), Shelf(self.dimensions), 0

    @property
    def due(self) -> bool:
        """Return True if `compact` would do anything."""
        return self.live.due or self.making.due

    def compact(self) -> None:
        """Rebuild what is due; it may take seconds, and look-ups and changes go on."""
        self.live.compact()
        self.making.compact()


def _gone(entry: Change) -> Change:
    return Change(entry.entry_id, None, None, None)


class Reached(NamedTuple):
    """Questions that have an answer, and the last change that is in them for sure: later ones may be."""

    mark: Mark
    live: Shelf


class Saved:
    """The snapshots of one ledger and embedder below `root`. One thread at a time; any number of processes."""

    def __init__(self, root: Path, ledger: str, embedder: str) -> None:
        self._root = root
        self._whose = {"ledger": ledger, "embedder": embedder}
        self.folder = root / hashlib.sha256(f"{ledger} {embedder}".encode()).hexdigest()[:16]

    def load(self, known: Known) -> Mark | None:
        """Put back what was saved, in the place of what has an answer; its mark. None, with a line, if that fails."""
        try:
            saved = snapshot.load(self.folder, known.dimensions)
            mark = _mark(self.folder, saved.meta, self._whose)
            kept = _questions(self.folder, {name: index.state.rows.ids for name, index in saved.indices.items()},
                              {name: index.state.rows.count for name, index in saved.indices.items()},
                              saved.extra)  # fmt: skip
        except NoSnapshot:
            return None
        except SnapshotRefused as error:
            dropped(str(error))
            return None
        known.live.put_back(saved.indices, kept)
        return mark

    def save(self, reached: Reached) -> bool:
        """Write what is known; whether it was done. OSError if that fails."""
        mark, (states, kept) = reached.mark, reached.live.held()
        ids = [entry_id for state in states.values() for entry_id in state.rows.ids[: state.rows.count].tolist()]
        texts = [kept[entry_id].text.encode() if entry_id in kept else None for entry_id in ids]
        extra = {
            "texts": np.frombuffer(b"".join(text for text in texts if text is not None), np.uint8),
            "lengths": _bytes(np.array([_GONE if text is None else len(text) for text in texts], "<i4")),
        }
        meta = {**self._whose, **{name: str(value) for name, value in mark._asdict().items()}}
        done = snapshot.save(states, reached.live.dimensions, self.folder, meta, extra)
        self._forget_others()
        return done

    def is_due(self, reached: Reached) -> bool:
        """Return True if the snapshot on disk is old enough to be replaced, whichever process wrote it."""
        try:
            there = snapshot.meta(self.folder)
            behind = reached.mark.number - _mark(self.folder, there, self._whose).number
            age = time.time() - (self.folder / snapshot.MANIFEST).stat().st_mtime
        except (SnapshotRefused, OSError):
            return True
        return not 0 <= behind < max(LEAST_CHANGES, len(reached.live) // _SHARE) or (behind > 0 and age > _OLDEST)

    def _forget_others(self) -> None:
        """Remove what was kept of ledgers and embedders that nobody uses any more."""
        for folder in self._root.iterdir():
            manifest = folder / snapshot.MANIFEST
            if folder == self.folder or not manifest.is_file():
                continue
            if time.time() - manifest.stat().st_mtime > _FORGOTTEN:
                shutil.rmtree(folder, ignore_errors=True)


def dropped(why: str) -> None:
    """Say that a snapshot is not used."""
    log("recall", logging.WARNING, Action.SNAPSHOT_DROPPED, f"all answers are read from the ledger: {why}")


def _mark(folder: Path, meta: Mapping[str, str], whose: Mapping[str, str]) -> Mark:
    for name, mine in whose.items():
        if meta.get(name) != mine:
            raise SnapshotRefused(f"snapshot {folder} is of another {name}: {meta.get(name)}, not {mine}")
    try:
        return Mark(*(int(meta[name]) for name in Mark._fields))
    except (KeyError, ValueError) as error:
        raise SnapshotRefused(f"snapshot {folder} does not say up to which change it goes") from error


def _questions(
    folder: Path, ids: Mapping[str, NDArray[np.int64]], counts: Mapping[str, int], beside: Mapping[str, Bytes]
) -> dict[int, Question]:
    try:
        written, lengths = beside["texts"].tobytes(), beside["lengths"].view("<i4").tolist()
        if len(lengths) != sum(counts.values()) or sum(max(0, size) for size in lengths) != len(written):
            raise ValueError("their lengths do not fit")
        kept, at, row = {}, 0, 0
        for scope, count in counts.items():
            for entry_id, length in zip(ids[scope][:count].tolist(), lengths[row : row + count], strict=True):
                if length != _GONE:
                    kept[entry_id] = Question(scope, written[at : at + length].decode())
                    at += length
            row += count
    except (KeyError, ValueError) as error:
        raise SnapshotRefused(f"snapshot {folder}, its questions: {error}") from error
    return kept


def _bytes(numbers: NDArray[np.int32]) -> Bytes:
    return numbers.view(np.uint8)


_AT_ONCE = 1_000


class Questions:
    """The follower that keeps `known` up to date. It begins with what was `saved`, if that is still valid."""

    def __init__(self, ledger: Ledger, known: Known, saved: Saved | None = None) -> None:
        self._ledger = ledger
        self._known = known
        self._saved = saved
        self._reached: Reached | None = None
        self._rebuilding: threading.Thread | None = None

    @property
    def reached(self) -> Reached | None:
        """Return the state and its last change; None while it is being read, or if nothing has changed yet."""
        return self._reached

    def begin(self, loop: Loop) -> Position:
        """Start from what was saved, or else read all that there is.

        Later changes are followed from the position that was read before.
        """
        self._known.clear()
        self._reached = None
        mark = self._from_disk()
        position = mark.position if mark is not None else self._ledger.horizon()
        if mark is None:
            mark = self._ledger.of(Answers).mark(position)
            self._read(loop, making=False)
        self._read(loop, making=True)
        self._is_at(mark)
        return position

    def changed(self, after: Position, limit: int) -> Sequence[Change]:
        """Return the changes of answers after a position, in order."""
        return self._ledger.of(Answers).changed(after, limit)

    def take_in(self, changes: Sequence[Change], _loop: Loop) -> None:
        """Know what these entries are now."""
        self._known.apply(changes)
        self._is_at(changes[-1].mark)

    def tidy(self) -> None:
        """Rebuild what is due, beside: it takes seconds for 100,000 questions, and changes are not to wait for it."""
        if self._known.due and (self._rebuilding is None or not self._rebuilding.is_alive()):
            self._rebuilding = threading.Thread(target=self._known.compact, name="rebuild", daemon=True)
            self._rebuilding.start()

    def idle(self) -> bool:
        """Never: any question may be asked next."""
        return False

    def holds(self) -> bool:
        """Return True if the ledger still has the last change that is in here."""
        return self._reached is not None and self._ledger.of(Answers).stands(self._reached.mark)

    def _from_disk(self) -> Mark | None:
        mark = None if self._saved is None else self._saved.load(self._known)
        if mark is None or self._ledger.of(Answers).stands(mark):
            return mark
        dropped(f"the ledger does not hold the change {mark.number} any more, with which the snapshot ends")
        self._known.clear()
        return None

    def _read(self, loop: Loop, *, making: bool) -> None:
        last = 0
        while rows := self._ledger.of(Answers).snapshot(last, _AT_ONCE, making=making):
            self._known.apply(rows)
            last = rows[-1].entry_id
            loop.beat()

    def _is_at(self, mark: Mark | None) -> None:
        self._reached = None if mark is None else Reached(mark, self._known.live)
        self._known.followed = 0 if mark is None else mark.number


_EVERY: Final = 60.0  # s between two looks whether that is due


class Keeping:
    """Writes snapshots while a follower goes on."""

    def __init__(self, saved: Saved, follows: Questions) -> None:
        self._saved = saved
        self._follows = follows
        self._failed = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keep", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Save no more, and wait until that is so."""
        self._stop.set()
        self._thread.join()

    def once(self) -> bool:
        """Save where that is due; whether it was done. A disk that is full costs a log line and nothing else."""
        reached = self._follows.reached
        if reached is None or not self._saved.is_due(reached):
            return False
        try:
            done = self._saved.save(reached)
        except OSError as error:
            if not self._failed:
                log("recall", logging.WARNING, Action.NOT_SAVED,
                    f"the next start reads all answers from the ledger: {error}")  # fmt: skip
            self._failed = True
            return False
        self._failed = False
        return done

    def _run(self) -> None:
        while not self._stop.wait(_EVERY):
            self.once()
