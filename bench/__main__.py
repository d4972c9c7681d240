"""`python -m bench [NAME …]`: run benches, show their tables, write their JSON."""

import argparse
import importlib
import sys
from pathlib import Path

from rich.console import Console

from bench.report import show, write
from headrace_schemas import HeadraceError

NAMES = (
    "efficiency",
    "llama-server",
    "prefix",
    "plumbing",
    "money",
    "applications",
    "fairness",
    "latency",
    "recovery",
    "fallback",
    "growth",
    "memory",
    "wrong-hits",
    "lookup",
    "burst",
    "retrieval",
    "relevance-floor",
    "saving",
    "embedding",
    "batch",
    "fleet",
    "webhooks",
    "gateway",
    "ppi",
    "review-estimates",
    "review",
    "console",
    "evaluation",
    "groundedness",
    "moderation",
    "injection",
    "pii",
    "rules",
    "judge",
    "decisions",
    "structured",
    "fidelity",
    "remote",
    "scaling",
    "lookup-large",
)
LARGE = frozenset({"lookup-large"})  # run when they are named: they take much memory
RESULTS = Path(__file__).parent / "results"


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 0 when all ran, whether or not their targets hold; 1 when one could not be run."""
    options = _parse(arguments)
    console, progress = Console(), Console(stderr=True)
    failed = []
    for name in options.names or [name for name in NAMES if name not in LARGE]:
        progress.print(f"[bold]{name}[/]")
        try:
            module = importlib.import_module(f"bench.{name.replace('-', '_')}")
            found = module.bench(lambda text: progress.print(f"  {text}", markup=False, highlight=False),
                                 quick=options.quick, embedded=options.embedded)  # fmt: skip
        except HeadraceError as error:
            told = "; ".join([str(error), *getattr(error, "__notes__", ())])
            progress.print(f"  {name} could not be run: {told}", style="red", markup=False)
            failed.append(name)
            continue
        show(found, console)
        if options.results:
            progress.print(f"  written: {write(found, options.results).name}", highlight=False)
    return 1 if failed else 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure headrace on this machine.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all when absent, but for {', '.join(LARGE)}"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs; writes nothing")
    parser.add_argument("--embedded", action="store_true", help="the embedded services, whatever the machine has")
    parser.add_argument("--results", type=Path, metavar="DIR", help="where JSON goes (bench/results)")
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.names) - set(NAMES)):
        parser.error(f"no bench is called {unknown[0]}; there are {', '.join(NAMES)}")
    if options.results is None and not options.quick:
        options.results = RESULTS
    return options


if __name__ == "__main__":
    sys.exit(main())
