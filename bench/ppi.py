"""PPI: how often the corrected mean's interval holds the truth, and how wide it is, in worlds with a biased judge."""

from bench.ends import Say
from bench.ppi_worlds import FEW, NEAR, SHARES, WORLDS, found
from bench.report import Report, Row, report, row

NAME = "ppi"
SETS = 4_000
_QUICK = 50


def bench(say: Say, *, quick: bool = False, embedded: bool = False) -> Report:
    """4,000 seeded sets of each world; no service is needed, so `embedded` changes nothing."""
    sets, rows = _QUICK if quick else SETS, list[Row]()
    for world in (*WORLDS, *SHARES):
        say(f"{world.name}: {sets:,} sets")
        of = found(world, sets)
        rows += [
            row(f"{world.name}: truth in the interval, least", of.covered, "share", at_least=0.93),
            row(f"{world.name}: truth in the interval, most", of.covered, "share", at_most=0.97),
            row(f"{world.name}: truth in the judge's own interval", of.raw_covered, "share"),
            row(f"{world.name}: mean width", of.width),
            row(f"{world.name}: narrower than people alone", of.narrower, "share"),
        ]
    for world in (*NEAR, *FEW):
        say(f"{world.name}: {sets:,} sets")
        of = found(world, sets)
        rows += [
            row(f"{world.name}: truth in the interval", of.covered, "share", at_least=0.93),
            row(f"{world.name}: mean width", of.width),
            row(f"{world.name}: by people alone", of.alone, "share"),
        ]
    return report(NAME, "no service", rows)
