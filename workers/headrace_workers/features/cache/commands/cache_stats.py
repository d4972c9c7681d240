"""`headrace cache stats`: how well recall does, and how often what likeness gives is wrong."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from headrace_workers.cli.connections import need_ledger
from headrace_workers.cli.durations import milliseconds, parse_time
from headrace_workers.cli.layout import Line
from headrace_workers.cli.options import JsonLinesOption, limit_option
from headrace_workers.cli.output import console, put_json, say, table
from headrace_workers.features.cache.commands.bound_views import (
    BOUND_COLUMNS,
    BOUND_RIGHT,
    GUARD_COLUMNS,
    GUARD_RIGHT,
    NEARLY_COLUMNS,
    NEARLY_RIGHT,
    bound_dict,
    bound_row,
    guard_dicts,
    guard_rows,
    nearly_row,
    off_lines,
    shadow_lines,
    whole_dict,
    whole_lines,
)

if TYPE_CHECKING:
    from headrace_workers.features.cache.semantic.scope_fit import Whole
    from headrace_workers.features.cache.store.standings import ScopeStanding


def stats(
    tenant: Annotated[str | None, typer.Option("--tenant", help="only of this tenant")] = None,
    since: Annotated[str | None, typer.Option("--since", help="10m, 2h, 3d, or an ISO 8601 time")] = None,
    scopes: Annotated[bool, typer.Option("--scopes", help="by scope, most hits first")] = False,
    limit: Annotated[int, limit_option("with --scopes: the number of scopes")] = 100,
    as_json: JsonLinesOption = False,
) -> None:
    """Show how many jobs asked the cache, the answers they got by tier, savings, size, and what audits found.

    The ledger knows a job for as long as HEADRACE_RETENTION says, and a given answer for at least 90 days. Audits are
    counted in full, whatever --since says. `at most` is the bound on wrong answers among the semantic hits, without
    undecided audits; beside it, undecided audits count as wrong. `itself` is how often the model contradicted itself
    when an audit asked it twice. Refusals are counted for the guard that alone refused (`several`: no guard alone); `in
    vain` is the 95 % interval of the share that would have been right. The last line is about all scopes together.

    Examples: `headrace cache stats --since 1d`, `headrace cache stats --scopes --tenant acme`
    """
    from headrace_workers.features.cache.commands import cache_views as views
    from headrace_workers.features.cache.store.answers import Answers
    from headrace_workers.features.cache.store.audits import Audits

    ledger = need_ledger()
    since_ms = milliseconds(parse_time(since, datetime.fromtimestamp(ledger.now() / 1000, UTC))) if since else None
    stand = ledger.of(Audits).standings(tenant)
    if not scopes:
        found, guards = ledger.of(Answers).counts(tenant, since_ms), ledger.of(Audits).by_guard(tenant)
        if as_json:
            error_bounds = {"bounds": [bound_dict(each) for each in stand], "together": whole_dict(_together(stand)),
                    "guards": guard_dicts(guards)}  # fmt: skip
            put_json({**views.counts_dict(found), **error_bounds})
            return
        for title, columns, rows in views.counts_tables(found):
            console(data=True).print(table(title, columns, rows, right=columns))
        _show_bounds(stand[:limit])
        if guards:
            title = "what a guard alone kept from being given, were it right or wrong"
            console(data=True).print(table(title, GUARD_COLUMNS, guard_rows(guards), right=GUARD_RIGHT))
        for line in whole_lines(_together(stand)):
            console(data=True).print(Line(line))
        return
    ranked = views.ranked(ledger.of(Answers).scopes(tenant, since_ms))
    bounds = {each.scope: bound_dict(each) for each in stand}
    if as_json:
        for name, kept in ranked[:limit]:
            put_json({**views.scope_dict(name, kept), "bound": bounds.get(name[1])})
    elif ranked:
        shown = [views.scope_row(name, kept) for name, kept in ranked[:limit]]
        console(data=True).print(table(None, views.SCOPE_COLUMNS, shown, right=views.SCOPE_RIGHT, whole=("scope",)))
        _show_bounds([each for each in stand if (each.tenant, each.scope) in dict(ranked[:limit])])
    else:
        say("no answer was given, and none is kept")
    if len(ranked) > limit:
        say(f"only the {limit} scopes with the most hits are shown: --limit shows more")


def _show_bounds(stand: list["ScopeStanding"]) -> None:
    """Print the results of audits by scope; nothing if there were none."""
    if stand:
        rows = [bound_row(each) for each in stand]
        shown = table("wrong answers among those by likeness", BOUND_COLUMNS, rows, right=BOUND_RIGHT, whole=("scope",))
        console(data=True).print(shown)
        if nearly := [row for each in stand if (row := nearly_row(each)) is not None]:
            title = "what was nearly given: right / wrong / unknown"
            console(data=True).print(table(title, NEARLY_COLUMNS, nearly, right=NEARLY_RIGHT, whole=("scope",)))
        for line in (*off_lines(stand), *shadow_lines(stand)):
            say(line)


def _together(stand: list["ScopeStanding"]) -> "Whole | None":
    from headrace_workers.features.cache.semantic.scope_fit import together

    return together(stand)
