"""Questions whose answers may be served, kept in step with the ledger and saved on disk, so that a worker need not read
the whole ledger at its start.

Below `HEADRACE_HOME` a ledger and an embedder have a folder of their own, which all workers of that home share: each
may start from another's snapshot. A snapshot ends with a change of the ledger, its *mark*; see `changes.stands` for
when that still holds.
"""

import hashlib
import logging
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace_workers.core.ledger.change_feed import Mark, Position
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.log import Action, log
from headrace_workers.core.progress import Loop
from headrace_workers.features.cache.semantic.question_indexes import Entry, Known, Question, Shelf
from headrace_workers.features.cache.store.answers import Answers, Change
from headrace_workers.models.vectors import snapshot
from headrace_workers.models.vectors.snapshot import Bytes, NoSnapshot, SnapshotRefused

LEAST_CHANGES: Final = 1_000  # are followed before it is worth to save again,
_SHARE: Final = 10  # and this part of what is known,
_OLDEST: Final = 6 * 3_600.0  # or anything at all for so long (s): older changes are not kept for ever
_FORGOTTEN: Final = 7 * 86_400.0  # s without a save, after which a folder is another's no more
_GONE: Final = -1  # in the place of a text's length: it came or went while the rest was saved


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
        self._known.apply(
            Entry(change.entry_id, change.scope, change.question, change.vector, change.making) for change in changes
        )
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
            self._known.apply(Entry(row.id, row.scope, row.question, row.vector, making) for row in rows)
            last = rows[-1].id
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
