"""Progress of a consumer group in each partition."""

from collections.abc import Collection

from headrace_producers.unread import Place


class Marks:
    """Offsets that were returned and finished. A record is finished when the next one is asked for, not before: after a
    crash it is returned again.
    """

    def __init__(self) -> None:
        self._handed: dict[Place, int] = {}
        self._done: dict[Place, int] = {}
        self._committed: dict[Place, int] = {}

    def returned(self, place: Place, offset: int) -> None:
        """Note that the record at this offset was returned or skipped."""
        self._handed[place] = offset + 1

    def finish(self) -> None:
        """Note that all records that were returned are finished."""
        self._done |= self._handed
        self._handed = {}

    def to_commit(self, owned: Collection[Place]) -> dict[Place, int]:
        """Return the next offset of each partition that is ours and went on since the last commit."""
        done = self._done.items()
        return {place: offset for place, offset in done if place in owned and offset != self._committed.get(place)}

    def committed(self, offsets: dict[Place, int]) -> None:
        """Note that the broker has stored these offsets."""
        self._committed |= offsets

    def forget(self, places: Collection[Place]) -> None:
        """Forget these partitions: they are read anew."""
        for place in places:
            for entry in (self._handed, self._done, self._committed):
                entry.pop(place, None)
