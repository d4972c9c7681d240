"""Event ids that were seen. An event may come more than once, with the same id: consumers drop the copies."""

from collections import OrderedDict

_REMEMBERED = 65_536  # event ids; a second copy that comes later than that many others is read twice


class SeenIds:
    """The last event ids, a bounded number."""

    def __init__(self, limit: int = _REMEMBERED) -> None:
        self._limit = limit
        self._ids: OrderedDict[str, None] = OrderedDict()

    def is_new(self, event_id: str) -> bool:
        """Return True if this id comes for the first time; it is remembered."""
        if event_id in self._ids:
            return False
        self._ids[event_id] = None
        if len(self._ids) > self._limit:
            self._ids.popitem(last=False)
        return True
