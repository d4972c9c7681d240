"""What a run of mutants found, for people."""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_Z = 1.96  # 95 %
_NOTICED = ("killed", "timeout")


@dataclass(frozen=True, slots=True)
class Report:
    """Verdicts by mutant, how to show one's difference, how many mutants there are in all, and how long it took (s)."""

    verdicts: Mapping[str, str]
    difference: Callable[[str], str]
    every: int
    seconds: float

    @property
    def noticed(self) -> int:
        return sum(verdict in _NOTICED for verdict in self.verdicts.values())

    @property
    def tried(self) -> int:
        return sum(verdict != "not tried" for verdict in self.verdicts.values())

    @property
    def share(self) -> float:
        """The share of those tried that the tests noticed; 0 when none was tried."""
        return self.noticed / self.tried if self.tried else 0.0

    def __str__(self) -> str:
        low, high = wilson(self.noticed, self.tried)
        counts = ", ".join(f"{verdict} {count}" for verdict, count in sorted(Counter(self.verdicts.values()).items()))
        missed = [name for name, verdict in self.verdicts.items() if verdict not in _NOTICED]
        lines = [f"\n{name}: {self.verdicts[name]}\n{self.difference(name).strip()}" for name in missed]
        lines.append(
            f"\n{self.noticed} of {self.tried} mutants were noticed: {self.share:.1%} "
            f"(95 % interval {low:.1%} to {high:.1%}), of {self.every:,} in all; {self.seconds / 60:.1f} min; {counts}"
        )
        return "\n".join(lines)


def wilson(hits: int, total: int) -> tuple[float, float]:
    """Wilson's score interval of a share (1927), 95 %."""
    if total == 0:
        return 0.0, 1.0
    share, spread = hits / total, _Z**2 / total
    centre = (share + spread / 2) / (1 + spread)
    half = _Z * math.sqrt(share * (1 - share) / total + spread / (4 * total)) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)
