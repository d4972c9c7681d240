"""A policy that is followed: what its file says from now on is done from now on, unless that is wrong."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from headrace_schemas import HeadraceError
from headrace_workers.log import Action, log
from headrace_workers.moderation.moderator import no_embedder, with_policy
from headrace_workers.moderation.policy import Policy
from headrace_workers.moderation.policy_file import load_policy
from headrace_workers.ports import Detector, Embedder, Moderation

_EVERY: Final = 2.0  # seconds between two looks at the files

_Seen = tuple[tuple[int, int, int] | None, ...]


class WatchedModerator:
    """Moderates by the policy in a file as it stands now. Thread-safe where the detectors are.

    A file that is wrong changes nothing: the log says once what is wrong, and the last one that was right holds.
    """

    def __init__(
        self,
        path: Path,
        detectors: Sequence[Detector],
        embedder: Callable[[], Embedder] = no_embedder,
        *,
        every: float = _EVERY,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """ConfigurationError where the policy is wrong from the beginning."""
        self._path, self._detectors, self._embedder = path, detectors, embedder
        self._every, self._monotonic = every, monotonic
        self._looking = threading.Lock()
        self._files: tuple[Path, ...] = (path,)
        self._load()
        self._next = monotonic() + every

    def moderate(self, texts: Sequence[str], tenants: Sequence[str] | None = None) -> list[Moderation | HeadraceError]:
        """A verdict for each text by the policy of now: see `PolicyModerator`."""
        if self._monotonic() >= self._next and self._looking.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._looking.release()
        return self._moderator.moderate(texts, tenants)

    def _look(self) -> None:
        self._next = self._monotonic() + self._every
        if _states(self._files) == self._seen:
            return
        try:
            self._load()
        except HeadraceError as error:
            log("moderation", logging.ERROR, Action.POLICY_REFUSED, f"the policy of before holds: {error}")
            return
        log("moderation", logging.INFO, Action.POLICY_CHANGED, "outputs are moderated by another policy",
            path=str(self._path), version=self._policy.version)  # fmt: skip

    def _load(self) -> None:
        """Read all anew. What is seen of the files is so before they are read: a change meanwhile is the next one."""
        self._seen = _states(self._files)
        self._policy = policy = load_policy(self._path)
        if (files := (self._path, *_beside(policy))) != self._files:
            self._files, self._seen = files, _states(files)
            policy = load_policy(self._path)
        self._moderator = with_policy(self._detectors, policy, self._embedder)


def _beside(policy: Policy) -> list[Path]:
    heads = {policy.head} if policy.head else set()
    return sorted(heads | {path for each in (policy, *policy.tenants.values()) for path in each.blocklists})


def _states(files: Sequence[Path]) -> _Seen:
    """What tells one state of each file from another; None of one that is away."""
    return tuple(map(_state, files))


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
