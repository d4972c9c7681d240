"""What moderation's own rules take from the plumbing: echo jobs with them and without, in turns."""

from contextlib import ExitStack
from statistics import mean

import psutil

from bench.deployment import TWO_WORKERS, Deployment, deployment
from bench.ends import Ends, Say
from bench.flow import ECHO, echo_jobs, in_turn, make_home, run
from bench.report import Report, report, row
from bench.services import services

NAME = "rules"
_WARM_UP = 500
_SIDES = {"with the rules": "headrace_workers", "without": "bench.without_rules"}


def bench(say: Say, *, quick: bool = False, embedded: bool = False) -> Report:
    """Four turns of 3,000 echo jobs on each side (two of 100 when quick), on a ledger and on processes of its own."""
    count, turns = (100, 2) if quick else (3_000, 4)
    jobs = list(echo_jobs(count))
    with services(embedded=embedded) as there, ExitStack() as stack:
        home = make_home(there.folder, ECHO)
        live = {
            name: stack.enter_context(deployment(there, home, [ECHO], TWO_WORKERS, module=module))
            for name, module in _SIDES.items()
        }
        ends = {name: stack.enter_context(Ends(of.kafka)) for name, of in live.items()}
        producers = {name: stack.enter_context(of.producer()) for name, of in live.items()}
        for name in live:
            run(producers[name], ends[name], jobs[:_WARM_UP], say)
        rates: dict[str, list[float]] = {name: [] for name in live}
        spent: dict[str, list[float]] = {name: [] for name in live}
        for turn in range(turns):
            for name, of in in_turn(live.items(), turn):
                say(f"turn {turn + 1} of {turns}: {count:,} echo jobs {name}")
                before = _seconds(of)
                rates[name].append(run(producers[name], ends[name], jobs, say).rate)
                spent[name].append((_seconds(of) - before) / count)
        with_rules, without = (mean(rates[name]) for name in _SIDES)
        rows = [row(f"{count:,} echo jobs {name}, mean of {turns}", mean(found), "jobs/s")
                for name, found in rates.items()]  # fmt: skip
        rows += [row(f"CPU of the worker that moderates and judges, {name}", 1000 * mean(found), "ms a job")
                 for name, found in spent.items()]  # fmt: skip
        rows.append(row("with the rules to without", with_rules / without, "ratio", at_least=0.97))
        return report(NAME, there.stack, rows)


def _seconds(of: Deployment) -> float:
    """CPU seconds of the process that moderates, until now."""
    times = psutil.Process(of.pids["moderate-judge"]).cpu_times()
    return float(times.user + times.system)
