"""`headrace quality`: how far verdicts can be trusted, by what people say of some of them."""

from typing import Annotated, Any

import typer

from headrace_workers.cli.connections import need_ledger
from headrace_workers.cli.durations import parse_duration
from headrace_workers.cli.options import JsonLinesOption
from headrace_workers.cli.output import console, put, put_json, say
from headrace_workers.cli.pages import HtmlOption, refuse_unwritable, say_where, write_page
from headrace_workers.features.quality.assessment import assess, by_subject
from headrace_workers.features.quality.commands import quality_views as views
from headrace_workers.features.quality.commands.quality_views import quality_page
from headrace_workers.features.quality.store import Labels


def quality(
    tenant: Annotated[str | None, typer.Option("--tenant", help="only verdicts of this tenant")] = None,
    fresh: Annotated[str, typer.Option("--fresh", help="compare labels of this period with earlier ones")] = "7d",
    html: HtmlOption = None,
    as_json: JsonLinesOption = False,
) -> None:
    """Compare verdicts with people's labels, for each criterion and category.

    Shows agreement, precision and recall, the mean that people would give, the calibration of scores, and if verdicts
    have become worse. Where there is no number, there is a reason. `headrace review import` imports labels.

    Example: `headrace quality --tenant shop --html quality.html`
    """
    refuse_unwritable(html)
    patience_ms = int(parse_duration(fresh).total_seconds() * 1000)
    ledger = need_ledger()
    since = ledger.now() - patience_ms
    found: list[tuple[str, Any, Any]] = []
    strange: list[str] = []
    for name in sorted({row.tenant for row in ledger.of(Labels).counted(tenant)}):
        labels, verdicts, samples = ledger.of(Labels).with_verdicts(name)
        found += [(name, subject, assess(of, since)) for subject, of in by_subject(labels, verdicts, samples).items()]
        typed = [(row.kind, row.about) for row in labels if row.item is None]  # a queue asks by the names that it knows
        strange += views.strange(name, typed, verdicts)
    if html is not None:
        write_page(html, quality_page(found))
    if as_json:
        for pair in found:
            put_json(views.document(*pair))
    elif found:
        console(data=True).print(views.drawn(found))
        for pair in found:
            for line in views.words(*pair):
                put(line)
    else:
        say("there are no labels: `headrace review import FILE` imports them")
    for line in strange:
        say(line)
    say_where(html)
