import pytest

from headrace_workers.models.structured.compiling import ALLOWANCE, FREE, CompileAllowance, FormatsTooSlow


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_a_tenant_with_slow_formats_is_told_when_to_come_again() -> None:
    clock = Clock()
    allowance = CompileAllowance(clock)
    for _ in range(12):
        allowance.use("slow", 1.0)

    with pytest.raises(FormatsTooSlow, match="again in 9 s"):
        allowance.check("slow")
    allowance.check("other")
    clock.now += 9.0
    allowance.check("slow")


def test_ordinary_formats_are_free() -> None:
    allowance = CompileAllowance(Clock())
    for _ in range(100_000):
        allowance.use("many", FREE)

    allowance.check("many")


def test_what_was_used_is_forgotten_evenly() -> None:
    clock = Clock()
    allowance = CompileAllowance(clock)
    for _ in range(3):
        allowance.use("slow", ALLOWANCE + FREE)
    clock.now += 119.0
    with pytest.raises(FormatsTooSlow):
        allowance.check("slow")
    clock.now += 2.0
    allowance.check("slow")
