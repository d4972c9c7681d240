"""Assignment of partitions to bridges: each has a fair share of every topic, held by a lease of the database's clock.

A bridge signs in for a while, and again before that is over. Partitions whose reader has not are free. The places of a
topic are shared by number, so that every bridge works out the same: nobody needs to agree with anybody. Two that read
one place for a moment do no harm, since what is taken in twice is there once.
"""

from collections.abc import Collection, Iterable, Mapping
from itertools import groupby

from sqlalchemy import Connection, delete, select, update

from headrace_workers.core.ledger.positions import Place
from headrace_workers.core.sql.database import clock, insert
from headrace_workers.core.tables import POSITIONS, READERS


def share(connection: Connection, reader: str, places: Collection[Place], lease_ms: int) -> frozenset[Place]:
    """Return the places that this reader is to read until its lease ends: the places that it keeps, and free ones."""
    living = _sign_in(connection, reader, lease_ms)
    held = _held(connection, places)
    mine: set[Place] = set()
    for turn, (_, group) in enumerate(groupby(sorted(places), key=lambda place: place.topic)):
        of_topic = list(group)
        most = _fair(len(of_topic), living, reader, turn)
        kept = [place for place in of_topic if held[place] == reader]
        free = [place for place in of_topic if held[place] not in living]
        _hand(connection, kept[most:], reader, None)
        wanted = free[: max(0, most - len(kept))]
        mine.update(kept[:most], (place for place in wanted if _hand(connection, [place], held[place], reader)))
    return frozenset(mine)


def leave(connection: Connection, reader: str) -> None:
    """Release all places of this reader."""
    connection.execute(delete(READERS).where(READERS.c.name == reader))


def _sign_in(connection: Connection, reader: str, lease_ms: int) -> list[str]:
    """Return the readers that are there, this one among them, in their order."""
    now = clock(connection)
    written = insert(connection, READERS).values(name=reader, lease_until=now + lease_ms)
    connection.execute(
        written.on_conflict_do_update(index_elements=["name"], set_={"lease_until": written.excluded.lease_until})
    )
    connection.execute(delete(READERS).where(READERS.c.lease_until < now))
    return list(connection.execute(select(READERS.c.name).order_by(READERS.c.name)).scalars())


def _held(connection: Connection, places: Iterable[Place]) -> Mapping[Place, str | None]:
    """Return who reads each place, as far as anybody does."""
    wanted = {(place.topic, place.partition): place for place in places}
    holders = {(row.topic, row.partition): row.reader for row in connection.execute(select(POSITIONS))}
    new = [
        {"topic": place.topic, "partition": place.partition, "log": place.log, "next": 0}
        for key, place in sorted(wanted.items())
        if key not in holders
    ]
    if new:
        connection.execute(insert(connection, POSITIONS).on_conflict_do_nothing(), new)
    return {place: holders.get(key) for key, place in wanted.items()}


def _fair(places: int, living: list[str], reader: str, turn: int) -> int:
    """Return how many of a topic's places this reader may have. Places that cannot be shared evenly go to another
    reader in each topic.
    """
    whole, rest = divmod(places, len(living))
    return whole + ((living.index(reader) + turn) % len(living) < rest)


def _hand(connection: Connection, places: Iterable[Place], from_: str | None, to: str | None) -> int:
    """Hand places from one reader to another; how many, since others may have been quicker."""
    handed = 0
    for place in places:
        held = POSITIONS.c.reader.is_(None) if from_ is None else POSITIONS.c.reader == from_
        here = POSITIONS.c.topic == place.topic, POSITIONS.c.partition == place.partition
        handed += connection.execute(update(POSITIONS).where(*here, held).values(reader=to)).rowcount
    return handed
