"""An event may come more than once, always with the same id: who consumes drops what was there before."""

from collections import OrderedDict

_REMEMBERED = 65_536  # event ids; a second copy that comes later than that many others is read twice


class SeenIds:
    """The last ids that went by, bounded."""

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
