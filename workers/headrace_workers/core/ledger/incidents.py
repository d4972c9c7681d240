"""Incidents: failures that processes report until they are over, and processes that are killed again and again.
`headrace status` shows them.
"""

import os
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, and_, delete, func, make_url, or_, select, update

from headrace_schemas.errors import Unavailable
from headrace_workers.core.identity import process_name
from headrace_workers.core.sql.database import clock, connect, insert, now_ms, writing
from headrace_workers.core.tables import INCIDENTS
from headrace_workers.core.tables import PROCESS_STARTS as STARTS

_STALE_MS = 60_000  # a holder that has not reported for so long is gone, or has recovered
_MAX_REASON = 2_000


@dataclass(frozen=True, slots=True)
class Incident:
    """A failure that a process reports until it is over. `since` in ms since 1970. `mends_itself`: it may be over, and
    the next job will tell: it is no fault to act on. `is_over`: it is shown since it was lately; nothing is wrong now.
    """

    holder: str
    subject: str
    reason: str
    since: int
    mends_itself: bool = False
    is_over: bool = False


def tell(connection: Connection, holder: str, duty: str, incidents: Mapping[str, str]) -> None:
    """Replace the incidents of a holder's duty by these: a reason for each subject."""
    now = now_ms()
    named = {f"{duty} {subject}".rstrip()[:255]: reason[:_MAX_REASON] for subject, reason in incidents.items()}
    ours = and_(INCIDENTS.c.holder == holder, INCIDENTS.c.subject.startswith(duty, autoescape=True))
    connection.execute(delete(INCIDENTS).where(ours, INCIDENTS.c.subject.not_in(named)))
    for subject, reason in named.items():
        row = insert(connection, INCIDENTS).values(
            holder=holder, subject=subject, reason=reason, since=now, seen_at=now
        )
        connection.execute(
            row.on_conflict_do_update(
                index_elements=["holder", "subject"],
                set_={"reason": row.excluded.reason, "seen_at": row.excluded.seen_at},
            )
        )


def open_incidents(connection: Connection) -> list[Incident]:
    """Return the incidents that are not over, oldest first, except for incidents that nobody has reported for a
    minute."""
    rows = connection.execute(
        select(INCIDENTS)
        .where(INCIDENTS.c.seen_at > now_ms() - _STALE_MS)
        .order_by(INCIDENTS.c.since, INCIDENTS.c.subject)
    )
    return [Incident(row.holder, row.subject, row.reason, row.since) for row in rows]


def forget(connection: Connection) -> None:
    """Delete the incidents that nobody has reported for a minute."""
    connection.execute(delete(INCIDENTS).where(INCIDENTS.c.seen_at <= now_ms() - _STALE_MS))


# Starts of processes, kept so that a process that is killed again and again is named, as by a limit of its memory: it
# leaves no word in any log.
#
# A process notes its start, and removes the note when it ends by itself, with an error too. The next one of its kind on
# the same host finds the notes of those that were killed. A container that is started again keeps its host's name.

_WINDOW_MS = 30 * 60_000
_KILLS = 3  # in the window, until people are told: a machine may lose its power, and a person may kill
_STEADY_MS = 60_000  # the least time without a kill after which kills count as over
_SECONDS = 2  # that the note of a start may take
_KEPT_MS = 30 * 86_400_000  # notes of hosts that are gone


@contextmanager
def noted_start(ledger: str, what: str) -> Iterator[None]:
    """Note that this process runs while the body runs. `what` is its command, such as "worker --role judge".

    A ledger that does not answer goes without the note: no work depends on it.
    """
    name = process_name(what.split(maxsplit=1)[0])
    engine = connect(make_url(ledger).update_query_dict({"timeout": str(_SECONDS)}))
    try:
        with suppress(Unavailable), writing(engine) as tx:
            _note(tx, name, what[:255])
        engine.dispose()  # the body may fork, and takes long
        yield
    finally:
        with suppress(Unavailable), writing(engine) as tx:
            tx.execute(delete(STARTS).where(STARTS.c.name == name))
        engine.dispose()


def killed_again_and_again(connection: Connection) -> list[Incident]:
    """Return an incident for each command and host whose processes were killed at least three times in half an hour,
    unless none of them is to run any more. It is over once the last kill is longer ago than the mean time between two
    kills.
    """
    now = clock(connection)
    lately = STARTS.c.killed_at > now - _WINDOW_MS
    killed, last = func.count().filter(lately), func.max(STARTS.c.killed_at)
    first = func.min(STARTS.c.killed_at).filter(lately)
    rows = connection.execute(
        select(STARTS.c.what, STARTS.c.host, killed.label("killed"), first.label("first"), last.label("last"))
        .group_by(STARTS.c.what, STARTS.c.host)
        .having(killed >= _KILLS, func.count().filter(STARTS.c.killed_at.is_(None)) > 0)
        .order_by(STARTS.c.what, STARTS.c.host)
    )
    incidents = []
    for row in rows:
        over = now - row.last > max(_STEADY_MS, (row.last - row.first) / (row.killed - 1))
        reason = _reason(row.what, row.killed, (now - row.last) // 60_000 if over else None)
        incidents.append(Incident(row.host, f"headrace {row.what}", reason, row.first, is_over=over))
    return incidents


def memory_variable(what: str) -> str | None:
    """Return the variable that bounds the memory of a command in docker-compose.yml; None if it has several roles."""
    names = re.findall(r"--role (\w+)", what) or what.split()[:1]
    return f"HEADRACE_{names[0].upper()}_MEMORY" if len(names) == 1 else None


def _reason(what: str, kills: int, minutes: int | None) -> str:
    """Return what happened and what to do; `minutes` since the last kill if the process has been steady since."""
    compose = f" ({name} in the .env of the compose file)" if (name := memory_variable(what)) else ""
    killed = f"it was killed {kills} times in half an hour"
    remedy = f"its log does not say why, it needs more memory than it may have: raise the limit of its memory{compose}"
    if minutes is None:
        return f"{killed}, and started again. If {remedy}"
    return f"{killed}, the last time {minutes} min ago, and has run since. If that happens again and {remedy}"


def _note(tx: Connection, name: str, what: str) -> None:
    """Note this process, and the end of those of its kind that live no more on this host."""
    host, now = socket.gethostname()[:255], clock(tx)
    before = select(STARTS.c.name, STARTS.c.pid, STARTS.c.began).where(
        STARTS.c.host == host, STARTS.c.what == what, STARTS.c.killed_at.is_(None)
    )
    gone = [row.name for row in tx.execute(before) if _began(row.pid) != row.began]
    tx.execute(update(STARTS).where(STARTS.c.name.in_(gone)).values(killed_at=now))
    old = or_(STARTS.c.killed_at < now - _WINDOW_MS, STARTS.c.at < now - _KEPT_MS)
    tx.execute(delete(STARTS).where(old))
    pid = os.getpid()
    tx.execute(insert(tx, STARTS).values(name=name, what=what, host=host, pid=pid, began=_began(pid), at=now))


def _began(pid: int) -> int:
    """Return when a process that lives on this host began, in the kernel's ticks; 0 if there is none, or the kernel
    does not tell. A process id alone may be another process's by now: in a container it mostly is.
    """
    with suppress(OSError):
        state, *fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        return 0 if state in "XZ" else int(fields[18])
    return 0
