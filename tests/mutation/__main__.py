"""`python -m tests.mutation --sample 150 --seed 7`: break the code in many small ways, and see what the tests miss.

mutmut makes the mutants, and runs for each the tests that touch its function; those of the ledger's statements, which
it leaves out in part, are made here (sql.py). This draws a sample of all, and tells the share that the tests notice,
with its interval, and each survivor. Exit code 0 when that share is at least 0.9.
"""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.mutation.mutants import Mutants
from tests.mutation.report import Report
from tests.mutation.statements import Statements
from tests.mutation.tree import make_tree

TARGET = 0.9


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, default=150, help="mutants to try")
    parser.add_argument("--seed", type=int, default=None, help="which of them; printed when it is not given")
    parser.add_argument(
        "--processes", type=int, default=4, help="mutants tried side by side; tests wait more than they compute"
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="those whose name holds this, such as ledger.claim")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    seed = time.time_ns() % 100_000 if options.seed is None else options.seed
    folder = Path(tempfile.mkdtemp(prefix="headrace-mutation-"))
    folder.chmod(0o755)  # PostgreSQL runs as another user
    begun = time.monotonic()
    try:
        make_tree(folder)
        statements, mutants = Statements(folder, options.processes), Mutants(folder, options.processes)
        every = [name for name in [*mutants.make(), *statements.make()] if options.only in name]
        sample = mutants.draw(every, options.sample, seed)
        of_sql = [name for name in sample if name in statements]
        print(
            f"{len(every):,} mutants, of which {len(sample)} are tried, {len(of_sql)} of SQL; seed {seed}", flush=True
        )
        rest = [name for name in sample if name not in statements]
        verdicts = statements.run(of_sql) | (mutants.run(rest) if rest else {})

        def difference(name: str) -> str:
            return (statements if name in statements else mutants).difference(name)

        report = Report(verdicts, difference, len(every), time.monotonic() - begun)
        print(report)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if report.share >= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
