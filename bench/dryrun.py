"""What `headrace batch submit --dry-run` foretells, against what came: `python -m bench.dryrun`.

Real prompts are answered once, in small batches. Then sub-batches are drawn at random: what some answers foretell
of others is held against the tokens and the seconds that those took. Each batch as it ran is foretold, too, from all
others: there the seconds are by the clock.
"""

import argparse
import json
import random
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from rich.console import Console

from bench.deployment import TWO_WORKERS, Deployment, deployment
from bench.ends import Say
from bench.flow import SMOLLM2, make_home, requests
from bench.report import Report, Row, report, row, show
from bench.services import services
from headrace_workers.core.job_defaults import Defaults
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.features.batches.commands.forecast import GENERATES, LEVEL, History, Interval
from headrace_workers.features.batches.new_batch import BatchOptions, submit
from headrace_workers.features.batches.store.transactions import Batches
from headrace_workers.files.object_store import Store
from headrace_workers.files.service import Files
from headrace_workers.files.store.stored import StoredFiles

NAME = "dryrun"
_LENGTHS = (24, 48, 64)  # longest answers, in turns
_KNOWN = 75  # answers that foretell
_SUB = (10, 60)  # lines of a sub-batch, at least and at most
_SEED = 20261126
_POLL_SECONDS = 0.2


class Line(NamedTuple):
    """A line that was answered: what the ledger says of its job, and which of the batches it was in."""

    row: Any
    batch: int


class Told(NamedTuple):
    """A forecast, and what came."""

    foretold: Interval
    came: float

    @property
    def held(self) -> bool:
        """Whether it lies within."""
        return self.foretold.low <= self.came <= self.foretold.high

    @property
    def width(self) -> float:
        """The interval's, to what came."""
        return (self.foretold.high - self.foretold.low) / self.came


def bench(say: Say, *, lines: int, batches: int, draws: int, embedded: bool = False) -> Report:
    """So many lines in so many batches, and draws from them."""
    with services(embedded=embedded) as there:
        home = make_home(there.folder, SMOLLM2)
        with deployment(there, home, [SMOLLM2], TWO_WORKERS) as live:
            found = _answered(live, home, lines, batches, say)
        rows = [*_resampled(found, draws), *_as_they_ran(found)]
        return report(NAME, there.stack, rows)


def _answered(live: Deployment, home: Path, lines: int, batches: int, say: Say) -> list[Line]:
    asked = [
        {"prompt": request["prompt"], "sampling": {"max_tokens": _LENGTHS[number % len(_LENGTHS)]}}
        for number, request in enumerate(requests(lines))
    ]
    random.Random(_SEED).shuffle(asked)
    ledger = Ledger.at(live.ledger)
    files = Files(ledger.of(StoredFiles), Store.at(str(home / "files")))
    wishes = BatchOptions(tenant="bench", defaults=Defaults(SMOLLM2, {"tenant": "bench", "lane": "batch"}))
    found: list[Line] = []
    known: set[bytes] = set()
    for number in range(batches):
        text = b"".join(json.dumps(entry).encode() + b"\n" for entry in asked[number::batches])
        file = files.add([text], tenant="bench", purpose="batch", name="bench.jsonl", keep=None, lines=True)
        batch, _ = submit(ledger, file, wishes, key=None)
        while ledger.of(Batches).batch(batch.id).ended_at is None:  # type: ignore[union-attr]
            time.sleep(_POLL_SECONDS)
        new = [row for row in ledger.of(Batches).lately(GENERATES, lines) if row.terminal not in known]
        known |= {row.terminal for row in new}
        found += [Line(row, number) for row in new]
        say(f"{len(found)} of {lines} answered")
    ledger.close()
    return found


def _resampled(lines: Sequence[Line], draws: int) -> list[Row]:
    dice = random.Random(_SEED)
    tokens, seconds = [], []
    parallel = _history(lines).parallel
    for _ in range(draws):
        drawn = dice.sample(lines, min(len(lines), _KNOWN + dice.randint(*_SUB)))
        history = History(_history(drawn[:_KNOWN]).ran, parallel)
        wanted, wrote, busy = _came(drawn[_KNOWN:])
        tokens.append(_told(history.tokens(SMOLLM2, wanted), wrote))
        seconds.append(_told(history.work(SMOLLM2, wanted), busy / parallel[SMOLLM2]))
    what = f"of {draws} sub-batches of {_SUB[0]} to {_SUB[1]} lines, foretold by {_KNOWN}"
    return [*_rows("tokens", what, tokens), *_rows("seconds of work", what, seconds)]


def _as_they_ran(lines: Sequence[Line]) -> list[Row]:
    tokens, seconds = [], []
    for number in sorted({line.batch for line in lines}):
        history = _history([line for line in lines if line.batch != number])
        mine = [line for line in lines if line.batch == number]
        wanted, wrote, _ = _came(mine)
        clock = (max(line.row.ended_at for line in mine) - min(line.row.started_at for line in mine)) / 1000
        tokens.append(_told(history.tokens(SMOLLM2, wanted), wrote))
        seconds.append(_told(history.seconds(SMOLLM2, wanted), clock))
    what = f"of {len(tokens)} batches as they ran, each foretold by all others"
    return [*_rows("tokens", what, tokens, aim=False), *_rows("seconds by the clock", what, seconds, aim=False)]


def _rows(of: str, what: str, told: Sequence[Told], *, aim: bool = True) -> list[Row]:
    held = sum(pair.held for pair in told) / len(told)
    return [
        row(f"{of}: within the interval, {what}", held, "share", at_least=LEVEL if aim else None),
        row(f"{of}: the interval's width to what came, median", median(pair.width for pair in told), "ratio"),
    ]


def _history(lines: Sequence[Line]) -> History:
    return History.of(line.row for line in lines)


def _came(lines: Sequence[Line]) -> tuple[Counter[int], float, float]:
    """How many lines may write so many tokens; what they wrote together; and the seconds of work."""
    ran = _history(lines).ran[SMOLLM2]
    wrote, busy = sum(item.wrote for item in ran), sum(item.busy_ms for item in ran) / 1000
    return Counter(item.wanted for item in ran), wrote, busy


def _told(foretold: Interval | None, came: float) -> Told:
    assert foretold is not None  # enough are known
    return Told(foretold, came)


def main() -> None:
    """Run it, and show what it found."""
    parser = argparse.ArgumentParser(prog="python -m bench.dryrun", description=__doc__)
    parser.add_argument("--lines", type=int, default=150, help="prompts that are answered")
    parser.add_argument("--batches", type=int, default=10, help="the batches in which they are")
    parser.add_argument("--draws", type=int, default=200, help="sub-batches that are drawn")
    parser.add_argument("--embedded", action="store_true", help="on the services of the embedded stack")
    options = parser.parse_args()
    progress = Console(stderr=True)
    found = bench(lambda text: progress.print(f"  {text}", markup=False, highlight=False), lines=options.lines,
                  batches=options.batches, draws=options.draws, embedded=options.embedded)  # fmt: skip
    show(found, Console())


if __name__ == "__main__":
    main()
