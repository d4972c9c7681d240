"""The long run: `python -m tests.chaos --jobs 5000 --every 1.0 --seed 7` kills something every second, then judges.

Exit code 0 when every rule holds, 1 on any violation or when work is left over.
"""

import argparse
import sys
import time
from pathlib import Path

from tests.chaos.deployment import NotQuiet
from tests.chaos.history import read_history
from tests.chaos.monkey import Monkey
from tests.chaos.rules import Tally, check
from tests.chaos.servers import Servers, own_folder
from tests.chaos.silence import Silences, faults_table
from tests.chaos.workload import Workload


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=5_000, help="jobs to publish")
    parser.add_argument("--every", type=float, default=1.0, help="seconds between two faults")
    parser.add_argument(
        "--minutes", type=float, default=None, help="of faults at most; what is left then runs in peace"
    )
    parser.add_argument("--seed", type=int, default=None, help="which random faults; printed when it is not given")
    parser.add_argument("--quiet-seconds", type=float, default=180.0, help="how long the rest may take without faults")
    parser.add_argument("--embedded", action="store_true", help="the embedded services, whatever the machine has")
    return parser.parse_args()


def run(options: argparse.Namespace, folder: Path) -> Tally:
    """Faults while jobs run, then the rest in peace, then the tally."""
    with Servers.found(folder, embedded=options.embedded) as servers:
        print(f"stack: {servers.name}; seed {options.seed}", flush=True)
        deployment = servers.deployment(folder)
        try:
            deployment.prepare()
            deployment.start()
            monkey = Monkey(servers, deployment, options.seed)
            workload = Workload(deployment, options.jobs)
            progress = Progress(options.jobs)
            silences = Silences()
            storm(progress, workload, monkey, silences, options)
            monkey.calm()
            workload.finish()
            deployment.wait_quiet(workload.ids, options.quiet_seconds)
            progress.end()
            print(faults_table(monkey.counts))
            print(silences)
            return check(
                read_history(
                    bootstrap=deployment.kafka,
                    prefix=deployment.prefix,
                    ledger=deployment.watched,
                    published=workload.ids,
                    forbidden=workload.forbidden,
                )
            )
        finally:
            deployment.close()


class Progress:
    """One line that is written over: how far the jobs are, and what was done to them last."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._since = time.monotonic()
        self._live = sys.stdout.isatty()
        self._shown_at = 0.0

    def show(self, published: int, ended: int, faults: int, last: str) -> None:
        """Show it; without a terminal only every ten seconds."""
        now = time.monotonic()
        if now - self._shown_at < (0.2 if self._live else 10):
            return
        self._shown_at = now
        done = f"published {published:,}  ended {ended:,} of {self._jobs:,}"
        line = f"{now - self._since:5.0f} s  {done}  faults {faults}  {last}"
        print(f"\r{line:<100.100}" if self._live else line, end="" if self._live else "\n", flush=True)

    def end(self) -> None:
        if self._live:
            print()


def storm(
    progress: Progress, workload: Workload, monkey: Monkey, silences: Silences, options: argparse.Namespace
) -> None:
    """A fault every so many seconds until all jobs have ended, or the faults' time is up."""
    due = time.monotonic() + options.every
    until = time.monotonic() + 60 * (options.minutes or float("inf"))
    while (ended := workload.step()) < workload.jobs and time.monotonic() < until:
        monkey.mend()
        silences.see(ended)
        if time.monotonic() >= due:
            monkey.strike()
            silences.struck(monkey.last)
            due = time.monotonic() + options.every
        progress.show(len(workload.ids), ended, monkey.struck, monkey.last)
        time.sleep(0.02)


def main() -> int:
    options = arguments()
    if options.seed is None:
        options.seed = time.time_ns() % 100_000
    try:
        with own_folder() as folder:
            tally = run(options, folder)
    except NotQuiet as error:
        print(f"\nwork was left over: {error}")
        return 1
    print(tally)
    print("every rule holds" if tally.holds else "RULES WERE VIOLATED")
    return 0 if tally.holds else 1


if __name__ == "__main__":
    sys.exit(main())
