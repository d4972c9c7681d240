"""The end of a process that has a run which hangs: a thread cannot be killed, and would keep its slot for ever.

The hung claim is left to its lease. So it counts as its worker's death: its group is tried again in halves, and a job
that hangs alone, too, is poison in the end. All else that is in hand has done nothing wrong, and is given back.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Final

from headrace_schemas.errors import Unavailable
from headrace_workers.core.log import Action, log
from headrace_workers.core.progress import STUCK_EXIT, stack_of
from headrace_workers.runtime.worker.runs import Run

_LAST_SECONDS: Final = 3.0  # for words, and for what is given back: the thread that hangs may hold any lock


def end_process(hung: Sequence[tuple[Run, float]], give_back: Callable[[], int], end: Callable[[int], object]) -> None:
    """Say what hangs, give back the rest if the ledger answers soon, and end."""
    last = threading.Thread(target=_part, args=(hung, give_back), name="parting", daemon=True)
    last.start()
    last.join(_LAST_SECONDS)
    end(STUCK_EXIT)


def _part(hung: Sequence[tuple[Run, float]], give_back: Callable[[], int]) -> None:
    for run, seconds in hung:
        _tell(run, seconds)
    try:
        steps = give_back()
    except Unavailable as error:
        log("worker", logging.WARNING, Action.UNAVAILABLE, f"could not give work back: {error}")
        return
    if steps:
        log("worker", logging.INFO, Action.GIVEN_BACK, "the other claims of this process were given back", steps=steps)


def _tell(run: Run, seconds: float) -> None:
    started = run.started
    log("worker", logging.ERROR, Action.HUNG,
        f"the stage {started.stage} hangs: it has run for {seconds:.0f} s, and may for {run.bound:.0f} s. This process "
        f"ends, to be started again; what hung is tried again in halves\n{stack_of(run.thread)}",
        claim=started.claim_id, stage=started.stage, queue=started.queue, tokens=started.tokens,
        steps=len(started.steps), seconds=round(seconds))  # fmt: skip
