"""Where claims are sent, without Redis."""

from headrace_schemas.errors import Unavailable


class Tasks:
    """A task queue in memory, which takes so many claims a queue and lane, or is away."""

    def __init__(self, *, waiting=0, away=False):
        self.sent, self.asked, self._waiting, self._away = [], 0, waiting, away

    def waiting(self, queues):
        self.asked += 1
        if self._away == "silent":
            raise Unavailable("Redis says nothing")
        return dict.fromkeys(queues, self._waiting)

    def send(self, claim, *, ahead=False):
        if self._away:
            raise Unavailable("Redis is away")
        self.sent.append(claim)
