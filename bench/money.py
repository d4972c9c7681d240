"""Money: what budgets cost the plumbing, in turns within one run, and whether the books balance at the end."""

from contextlib import closing
from statistics import median

from bench.deployment import TWO_WORKERS, deployment
from bench.ends import Ends, Say
from bench.flow import ECHO, echo_jobs, in_turn, make_home, run
from bench.report import Report, report, row
from bench.services import services
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.features.access.store.quotas import Quotas
from headrace_workers.models.catalogue import CATALOGUE_FILE

NAME = "money"
_PRICE = "[prices.echo]\ninput = 1.0\noutput = 2.0\n"
_TENANT = "default"
_TURNS = 5
_MOST_OVERHEAD = 0.03


def bench(say: Say, *, quick: bool = False, embedded: bool = False, count: int | None = None) -> Report:
    """Five turns of 2,000 echo jobs (one of 100 when quick): without a budget, and with one that reserves each call."""
    count, turns = (count or 100, 1) if quick else (count or 2_000, _TURNS)
    rates: dict[bool, list[float]] = {False: [], True: []}
    with services(embedded=embedded) as there:
        home = make_home(there.folder, ECHO)
        (home / CATALOGUE_FILE).write_text(_PRICE, encoding="utf-8")
        with (
            deployment(there, home, [ECHO], TWO_WORKERS) as live,
            live.producer() as producer,
            Ends(live.kafka) as ends,
            closing(Ledger.at(live.ledger)) as ledger,
        ):
            run(producer, ends, list(echo_jobs(min(count, 500))), say)
            spent = receipts = 0
            for turn in range(turns):
                for limited in in_turn((False, True), turn):
                    how = "within" if limited else "without"
                    say(f"turn {turn + 1} of {turns}: {count:,} echo jobs {how} a budget")
                    if limited:
                        ledger.of(Quotas).put(_TENANT, 10**15, "ever", unit="money")
                    flow = run(producer, ends, list(echo_jobs(count)), say, keep=True)
                    rates[limited].append(flow.rate)
                    if limited:
                        (budget,) = ledger.of(Quotas).find([_TENANT], unit="money")
                        spent += budget.used + budget.reserved
                        receipts += sum(result.cost.amount for result in flow.results.values() if result.cost)
                        ledger.of(Quotas).remove(_TENANT, unit="money")
    paired = [within / without for within, without in zip(rates[True], rates[False], strict=True)]
    return report(
        NAME,
        there.stack,
        [
            row("jobs without a budget, median", median(rates[False]), "jobs/s"),
            row("jobs within a budget, median", median(rates[True]), "jobs/s"),
            row("within to without, median of the turns", median(paired), "ratio", at_least=1 - _MOST_OVERHEAD),
            row("spent and reserved, less what receipts tell", float(spent - receipts), "micro-units", at_most=0.0),
        ],
    )
