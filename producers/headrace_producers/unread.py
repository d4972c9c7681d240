"""Records that were fetched and not yet returned, bounded. Records without room stay in the log, and their offsets are
noted.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

T = TypeVar("T")

Place = tuple[str, int]  # topic and partition, as kafka-python's TopicPartition is one


@dataclass(frozen=True, slots=True)
class Item(Generic[T]):
    """A record: its position, its size in bytes and its content. Without a position its log is gone."""

    place: Place | None
    offset: int
    size: int
    content: T


class Unread(Generic[T]):
    """Items in the order in which they were fetched, each with a number.

    `left` tells for each place the first offset that was not kept: from there on it is to be fetched again.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._items: OrderedDict[int, Item[T]] = OrderedDict()
        self._bytes = 0
        self._last = 0
        self.left: dict[Place, int] = {}

    def add(self, item: Item[T], *, wanted: bool) -> None:
        """Keep an item. One that nobody wants now is kept only where there is room, and nothing before it was left."""
        if not wanted and item.place and (item.place in self.left or self._bytes + item.size > self._limit):
            self.left.setdefault(item.place, item.offset)
            return
        self._last += 1
        self._items[self._last] = item
        self._bytes += item.size

    def find(self, matches: Callable[[T], bool], after: int = 0) -> tuple[int, Item[T]] | None:
        """Return the first item after the number `after` that matches, with its number."""
        for number in range(max(after + 1, next(iter(self._items), self._last + 1)), self._last + 1):
            item = self._items.get(number)
            if item is not None and matches(item.content):
                return number, item
        return None

    def remove(self, number: int) -> None:
        """Remove a record, which was returned."""
        self._bytes -= self._items.pop(number).size

    def detach(self, places: Collection[Place]) -> None:
        """Keep the records of these partitions without a position, since their logs are gone."""
        for place in places:
            self.left.pop(place, None)
        for number, item in self._items.items():
            if item.place in places:
                self._items[number] = replace(item, place=None)

    def emptied(self) -> "Unread[T]":
        """Return an empty one of the same bound."""
        return Unread(self._limit)

    def take_left(self) -> dict[Place, int]:
        """Return `left` and empty it."""
        left, self.left = self.left, {}
        return left

    def __len__(self) -> int:
        return len(self._items)
