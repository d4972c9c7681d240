"""Random faults, one after the other, from a seed; what was broken is mended a moment later, as a supervisor would."""

import random
import time
from collections import Counter
from contextlib import suppress

from kafka.errors import KafkaError
from tests.chaos.deployment import Deployment
from tests.chaos.faults import Fault, faults_of
from tests.chaos.servers import Servers

from headrace_schemas import HeadraceError

_AWAY = (KafkaError, HeadraceError)


class Monkey:
    """Strikes. Belongs to the thread that started the processes."""

    def __init__(self, servers: Servers, deployment: Deployment, seed: int) -> None:
        self._deployment = deployment
        self._faults = faults_of(servers, deployment)
        self._random = random.Random(seed)
        self._broken: dict[str, tuple[float, Fault]] = {}  # by target: when it is mended, and by what
        self.counts: Counter[str] = Counter()
        self.last = ""

    @property
    def struck(self) -> int:
        return self.counts.total()

    def strike(self) -> None:
        possible = [fault for fault in self._faults if fault.target not in self._broken]
        if not possible:
            return
        (fault,) = self._random.choices(possible, [fault.weight for fault in possible])
        with suppress(*_AWAY):  # another fault may keep this one from being made
            fault.strike()
            self.last = fault.name
            self.counts[fault.name] += 1
        self._broken[fault.target] = (time.monotonic() + fault.seconds, fault)

    def mend(self) -> None:
        now = time.monotonic()
        for target, (due, fault) in list(self._broken.items()):
            if now >= due:
                with suppress(*_AWAY):  # or from being mended, yet
                    fault.mend()
                    del self._broken[target]
        # Who ended by itself, because it was stuck, say.
        self._deployment.revive(but=self._broken)

    def calm(self) -> None:
        for _, fault in sorted(self._broken.values(), key=lambda broken: broken[1].target == "sizes"):
            fault.mend()
        self._broken.clear()
        self._deployment.revive()
