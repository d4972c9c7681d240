"""`headrace quality`: how far verdicts can be trusted, by what people say of some of them."""

from typing import Annotated, Any

import typer

from headrace_workers.cli.durations import parse_duration
from headrace_workers.cli.html import HtmlOption, refuse_unwritable, say_where, write_page
from headrace_workers.cli.options import JsonLinesOption
from headrace_workers.cli.output import console, put, put_json, say


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command("quality")(quality)


def quality(
    tenant: Annotated[str | None, typer.Option("--tenant", help="whose verdicts; all by default")] = None,
    fresh: Annotated[str, typer.Option("--fresh", help="labels of this time are compared with those before")] = "7d",
    html: HtmlOption = None,
    as_json: JsonLinesOption = False,
) -> None:
    """For each criterion and category that people label: agreement, precision and recall, what people would say in the
    mean, whether scores mean what they say, and whether verdicts have become worse.

    `headrace labels import` takes labels in. Where there is no number, there is a reason.

    Example: `headrace quality --tenant shop --html quality.html`
    """
    from headrace_workers.cli.connections import need_ledger
    from headrace_workers.features.quality.assessment import assess
    from headrace_workers.features.quality.commands import quality_views as views
    from headrace_workers.features.quality.commands.quality_page import quality_page
    from headrace_workers.features.quality.labelled import by_subject
    from headrace_workers.features.quality.store.labels import Labels

    refuse_unwritable(html)
    patience_ms = int(parse_duration(fresh).total_seconds() * 1000)
    ledger = need_ledger()
    since = ledger.now() - patience_ms
    found: list[tuple[str, Any, Any]] = []
    strange: list[str] = []
    for name in sorted({row.tenant for row in ledger.of(Labels).counted(tenant)}):
        labels, verdicts = ledger.of(Labels).beside(name)
        found += [(name, subject, assess(of, since)) for subject, of in by_subject(labels, verdicts).items()]
        strange += views.strange(name, [(row.kind, row.about) for row in labels], verdicts)
    if html is not None:
        write_page(html, quality_page(found))
    if as_json:
        for each in found:
            put_json(views.document(*each))
    elif found:
        console(data=True).print(views.drawn(found))
        for each in found:
            for line in views.words(*each):
                put(line)
    else:
        say("there are no labels: `headrace labels import FILE` takes them in")
    for line in strange:
        say(line)
    say_where(html)
