"""How far a group is done with each partition."""

from collections.abc import Collection

from headrace_producers.unread import Place


class Marks:
    """What was handed out is done with when the next is asked for, and not before: a crash then shows it again."""

    def __init__(self) -> None:
        self._handed: dict[Place, int] = {}
        self._done: dict[Place, int] = {}
        self._committed: dict[Place, int] = {}

    def hand_out(self, place: Place, offset: int) -> None:
        """The record at this offset is handed out, or passed over."""
        self._handed[place] = offset + 1

    def finish(self) -> None:
        """All that was handed out is done with."""
        self._done |= self._handed
        self._handed = {}

    def to_commit(self, owned: Collection[Place]) -> dict[Place, int]:
        """The next offset of each partition that is ours and went on since the last commit."""
        done = self._done.items()
        return {place: offset for place, offset in done if place in owned and offset != self._committed.get(place)}

    def committed(self, offsets: dict[Place, int]) -> None:
        """The broker has noted these."""
        self._committed |= offsets

    def forget(self, places: Collection[Place]) -> None:
        """These partitions begin anew."""
        for place in places:
            for each in (self._handed, self._done, self._committed):
                each.pop(place, None)
