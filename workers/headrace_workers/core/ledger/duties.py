"""Duties that one bridge at a time does, held by a lease of the database's clock."""

from sqlalchemy import Connection, delete, or_, update

from headrace_workers.core.sql.database import insert, now_ms
from headrace_workers.core.tables import DUTIES


def hold(connection: Connection, name: str, holder: str, lease_ms: int) -> bool:
    """Take or keep a duty; False while another holds it."""
    until = now_ms() + lease_ms
    kept = connection.execute(
        update(DUTIES)
        .where(DUTIES.c.name == name, or_(DUTIES.c.holder == holder, DUTIES.c.lease_until < now_ms()))
        .values(holder=holder, lease_until=until)
    ).rowcount
    if kept:
        return True
    taken = connection.execute(
        insert(connection, DUTIES)
        .on_conflict_do_nothing(index_elements=["name"])
        .values(name=name, holder=holder, lease_until=until)
        .returning(DUTIES.c.name)
    ).first()
    return taken is not None


def lay_down(connection: Connection, holder: str, name: str | None = None) -> None:
    """Give up a duty, or every one, so that another bridge need not wait for the lease."""
    given_up = delete(DUTIES).where(DUTIES.c.holder == holder)
    connection.execute(given_up if name is None else given_up.where(DUTIES.c.name == name))
