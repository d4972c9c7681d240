"""Telling the callers what became of their records: each once, and in time."""

import logging
from collections.abc import Callable
from threading import Thread

from headrace_producers.pending import PendingRecords, Settled
from headrace_schemas.errors import HeadraceError, Unavailable

OnDelivery = Callable[[str, HeadraceError | None], None]

_log = logging.getLogger(__name__)


class Teller(Thread):
    """The thread that calls `on_delivery`, and wakes `flush` and `close`. It ends when `pending` has ended.

    It never touches the client, so that nothing there can keep it from saying that a record's time is up.
    """

    def __init__(
        self, pending: PendingRecords, on_delivery: OnDelivery | None, at_end: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__(name="headrace-teller", daemon=True)
        self._at_end = at_end
        self._pending = pending
        self._on_delivery = on_delivery

    def run(self) -> None:
        """Tell until all has ended."""
        while settled := self._pending.settled():
            if self._on_delivery is not None:
                for item in settled:
                    self._tell(self._on_delivery, item)
            self._pending.forget(settled)
        self._at_end()

    def _tell(self, on_delivery: OnDelivery, each: Settled) -> None:
        error: HeadraceError | None = each.refused
        if error is None and each.failure is not None:
            error = Unavailable(f"job {each.job_id} was not confirmed: {each.failure}")
        try:
            on_delivery(each.job_id, error)
        except BaseException as mistake:  # even an exit asked for there must not leave the others untold
            _log.error("on_delivery failed for job %s: %s", each.job_id, type(mistake).__name__)
