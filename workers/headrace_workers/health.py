"""Whether a process is alive: it touches a file, and a check looks at the file's age and at the services it needs."""

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import text

from headrace_schemas.errors import Unavailable
from headrace_workers.ledger.database import connect, reading
from headrace_workers.settings import Settings

_BEAT_SECONDS = 5.0
_SILENCE_SECONDS = 30.0


def _file(process: str) -> Path:
    # Beside no data: one file a kind of process and user, in a container its own.
    return Path(tempfile.gettempdir()) / f"headrace-{os.getuid()}-{process}.alive"


@contextmanager
def alive(process: str) -> Iterator[None]:
    """Show signs of life while the body runs."""
    path, stop = _file(process), threading.Event()

    def beat() -> None:
        while True:
            path.touch()
            if stop.wait(_BEAT_SECONDS):
                return

    thread = threading.Thread(target=beat, name="alive", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        path.unlink(missing_ok=True)


def check(settings: Settings, process: str) -> None:
    """Return when all is well, else raise Unavailable with what is not."""
    try:
        silent = time.time() - _file(process).stat().st_mtime
    except FileNotFoundError:
        raise Unavailable(f"no {process} runs here") from None
    if silent > _SILENCE_SECONDS:
        raise Unavailable(f"the {process} has given no sign of life for {silent:.0f} s")
    with reading(connect(settings.ledger)) as tx:
        tx.execute(text("SELECT 1"))
