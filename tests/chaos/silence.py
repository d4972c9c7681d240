"""How long nothing ended, and what had been struck meanwhile: whether the stream is live, not only safe."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

_SHOWN = 5
_WORTH = 1.0  # seconds: shorter ones are no silence


@dataclass(frozen=True, slots=True, order=True)
class Silence:
    """Seconds in which no job ended, and the faults of that time."""

    seconds: float
    faults: tuple[str, ...] = field(compare=False)


class Silences:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ended = 0
        self._since = clock()
        self._faults: list[str] = []
        self.found: list[Silence] = []

    def struck(self, fault: str) -> None:
        self._faults.append(fault)

    def see(self, ended: int) -> None:
        if ended == self._ended:
            return
        now = self._clock()
        if now - self._since >= _WORTH:
            self.found.append(Silence(now - self._since, tuple(self._faults)))
        self._ended, self._since, self._faults = ended, now, []

    def __str__(self) -> str:
        lines = ["the longest times in which no job ended"]
        lines += [
            f"  {silence.seconds:5.1f} s  {', '.join(silence.faults)}"
            for silence in sorted(self.found, reverse=True)[:_SHOWN]
        ]
        return "\n".join(lines if self.found else [f"no time above {_WORTH:g} s in which no job ended"])


def faults_table(counts: Counter[str]) -> str:
    return "\n".join(
        [f"faults: {counts.total()}", *(f"  {name:<34} {count:>6}" for name, count in sorted(counts.items()))]
    )
