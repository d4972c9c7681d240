"""Saving what a recall worker knows, now and then, from a thread of its own: no look-up and no change waits for it."""

import logging
import threading
from typing import Final

from headrace_workers.core.log import Action, log
from headrace_workers.features.cache.semantic.questions import Questions
from headrace_workers.features.cache.semantic.saved import Saved

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
