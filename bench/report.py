"""What a bench found: a table for people, JSON for `bench/results/`."""

import json
import math
import operator
import os
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

_BOUNDS = {"≥": operator.ge, "≤": operator.le}


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `target` is a bound such as "≥ 0.9", and `holds` whether the value keeps it; None without one.

    A figure that could not be had has the value None, and its metric says why.
    """

    metric: str
    value: float | None
    unit: str = ""
    target: str | None = None
    holds: bool | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """One bench on one machine. `date` is UTC; `stack` names the services that it ran on."""

    name: str
    date: str
    machine: str
    stack: str
    rows: tuple[Row, ...]


def row(metric: str, value: float | None, unit: str = "", *, at_least: float | None = None,
        at_most: float | None = None) -> Row:  # fmt: skip
    """A figure, rounded for reading, and whether it keeps its bound: the bound is checked before rounding."""
    if at_least is not None and at_most is not None:
        raise ValueError("give at_least or at_most, not both")
    sign, bound = ("≥", at_least) if at_least is not None else ("≤", at_most)
    rounded = None if value is None else _rounded(value)
    if bound is None:
        return Row(metric, rounded, unit)
    holds = None if value is None else bool(_BOUNDS[sign](value, bound))
    return Row(metric, rounded, unit, f"{sign} {bound:g}", holds)


def skipped(metric: str, reason: str) -> Row:
    """A figure that could not be had here."""
    return Row(f"{metric}: skipped, {reason}", None)


def report(name: str, stack: str, rows: list[Row]) -> Report:
    """The rows with where and when."""
    return Report(name, datetime.now(UTC).isoformat(timespec="seconds"), machine(), stack, tuple(rows))


def write(found: Report, folder: Path) -> Path:
    """`<folder>/<name>.json`, whole or not at all; the path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{found.name}.json"
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(asdict(found), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    draft.replace(path)
    return path


def show(found: Report, console: Console) -> None:
    """The table."""
    table = Table(title=f"{found.name}: {found.stack}", caption=found.machine, title_justify="left")
    table.add_column("metric", overflow="fold")
    for name in ("value", "unit", "target"):
        table.add_column(name, justify="right" if name == "value" else "left", no_wrap=True)
    table.add_column("holds")
    for row in found.rows:
        value = "–" if row.value is None else f"{row.value:,g}" if abs(row.value) < 1000 else f"{row.value:,.0f}"
        holds = "" if row.holds is None else "[green]yes[/]" if row.holds else "[red]no[/]"
        table.add_row(row.metric, value, row.unit, row.target or "", holds)
    console.print(table)


def machine() -> str:
    """Processor, cores that may be used, memory, system and Python: what absolute figures depend on."""
    from headrace_workers.core.machine import available_cores

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    python = f"Python {platform.python_version()}"
    return f"{_processor()}, {available_cores()} cores, {memory:.0f} GiB, {platform.system()}, {python}"


def percentile(values: list[float], percent: float) -> float:
    """The smallest value that at least `percent` of all do not exceed (nearest rank): no value is invented."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _rounded(value: float) -> float:
    if abs(value) >= 1000:
        return round(value)
    return float(f"{value:.3g}")
