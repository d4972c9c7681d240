"""`B >= A - 0.02`: a bound for CI on the primary criterion, kept only if the interval's lower end keeps it."""

import re
from dataclasses import dataclass
from typing import Final, Self

from headrace_workers.features.evals.analysis import compare_at_worst
from headrace_workers.features.evals.outcomes import Outcomes
from headrace_workers.features.evals.plan import Plan
from headrace_workers.features.evals.run_errors import WrongRun
from headrace_workers.features.evals.run_file import Run
from headrace_workers.features.quality.estimates import Undefined

_NAME: Final = r"[A-Za-z][A-Za-z0-9_.-]*"
_GATE: Final = re.compile(rf"\s*({_NAME})\s*>=\s*({_NAME})\s*(?:\s([+-])\s*(\d+(?:\.\d*)?|\.\d+))?\s*")


@dataclass(frozen=True, slots=True)
class Gate:
    """B is to be at least A + `by`, in the mean of the primary criterion. `b` and `a` are places of variants."""

    text: str
    b: int
    a: int
    by: float

    @classmethod
    def parse(cls, text: str, run: Run) -> Self:
        """Return the gate. Raise WrongRun for an invalid gate, or an unknown variant."""
        found = _GATE.fullmatch(text)
        names = [each.name for each in run.variants]
        if found is None:
            raise WrongRun(f"--gate is {text!r}; write it as 'B >= A - 0.02', with spaces around each sign")
        for name in found.group(1, 2):
            if name not in names:
                raise WrongRun(
                    f"--gate names {name!r}, and the variants are {', '.join(names)}: write it as 'B >= A - 0.02', "
                    "with spaces around each sign"
                )
        by = float(found[4] or 0.0) * (-1 if found[3] == "-" else 1)
        return cls(text.strip(), names.index(found[1]), names.index(found[2]), by)


@dataclass(frozen=True, slots=True)
class Passed:
    """The result of the gate, with the reason in words."""

    passed: bool
    words: str


def judge_gate(gate: Gate, plan: Plan, outcomes: Outcomes) -> Passed:
    """Return the result of the gate by the lower end of the interval of B − A over all items.

    A missing score counts against B. The gate does not pass before all jobs have ended.
    """
    if outcomes.missing:
        return Passed(
            False, f"gate {gate.text}: not passed: {outcomes.missing:,} of {plan.jobs:,} jobs have not ended yet"
        )
    found = compare_at_worst(plan, outcomes, gate.a, gate.b, plan.run.primary_place)
    if isinstance(found, Undefined):  # pragma: no cover - a dataset has items
        return Passed(False, f"gate {gate.text}: cannot tell: {found.reason}")
    seen = (
        f"{plan.run.primary}: {found.difference:.3g} ({found.interval.low:.3g} to {found.interval.high:.3g}) "
        f"with {plan.run.level:.0%}, missing scores count against it"
    )
    if found.interval.low >= gate.by:
        return Passed(True, f"gate {gate.text}: passed; {seen}")
    if found.interval.high < gate.by:
        return Passed(False, f"gate {gate.text}: not passed; {seen}")
    return Passed(False, f"gate {gate.text}: not passed: cannot tell; {seen}")
