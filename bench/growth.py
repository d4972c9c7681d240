"""Growth: whether jobs cost the same when the ledger remembers many, and whether the bridge's memory stays."""

import time
from collections.abc import Sequence
from statistics import median

from bench.deployment import TWO_WORKERS, deployment
from bench.ends import Ends, Say
from bench.flow import ECHO, echo_jobs, make_home, run
from bench.report import Report, Row, report, row
from bench.services import services

NAME = "growth"
_SETTLE_SECONDS = 2.0
_SMALLEST_TIMES = 3  # the smallest run is short: the median of so many


def bench(say: Say, *, quick: bool = False, embedded: bool = False) -> Report:
    """1,000, 10,000 and 100,000 echo jobs (200, 400 and 800 when quick) on one ledger, one after the other."""
    sizes = (200, 400, 800) if quick else (1_000, 10_000, 100_000)
    rates: list[float] = []
    resident: list[float] = []
    with services(embedded=embedded) as there:
        home = make_home(there.folder, ECHO)
        with (
            deployment(there, home, [ECHO], TWO_WORKERS) as live,
            live.producer() as producer,
            Ends(live.kafka) as ends,
        ):
            run(producer, ends, list(echo_jobs(sizes[0])), say)  # warm
            for size in sizes:
                say(f"{size:,} jobs")
                times = _SMALLEST_TIMES if size == sizes[0] else 1
                rates.append(median(run(producer, ends, list(echo_jobs(size)), say).rate for _ in range(times)))
                time.sleep(_SETTLE_SECONDS)
                resident.append(_resident(live.pids["bridge"]))
        return report(NAME, there.stack, _rows(sizes, rates, resident))


def _rows(sizes: Sequence[int], rates: Sequence[float], resident: Sequence[float]) -> list[Row]:
    moved = max(abs(found / resident[0] - 1) for found in resident)
    change = f"jobs a second at {sizes[-1]:,} to those at {sizes[0]:,}"
    return [
        *(row(f"{size:,} jobs", rate, "jobs/s") for size, rate in zip(sizes, rates, strict=True)),
        *(row(f"bridge after {size:,} jobs, resident", rss, "MiB") for size, rss in zip(sizes, resident, strict=True)),
        row(change, rates[-1] / rates[0], "ratio", at_least=0.9),
        row("bridge's resident memory, largest change from the first", moved, "ratio", at_most=0.1),
    ]


def _resident(pid: int) -> float:
    import psutil

    return float(psutil.Process(pid).memory_info().rss / 2**20)
