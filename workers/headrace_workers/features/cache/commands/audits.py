"""`headrace cache stats`, `label`, `serve` and `reopen`: how often the cache is wrong, and what people say of it."""

import getpass
import sys
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import typer

from headrace_schemas.errors import ConfigurationError
from headrace_workers.cli.connections import need_ledger
from headrace_workers.cli.durations import milliseconds, parse_time
from headrace_workers.cli.options import JsonLinesOption, OneJsonOption, limit_option
from headrace_workers.cli.output import Line, be_sure, console, flush, put_json, put_list, say, table
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.features.cache.commands import views
from headrace_workers.features.cache.semantic.scope_limits import Whole, together
from headrace_workers.features.cache.store.answers import Answers
from headrace_workers.features.cache.store.audits import Audits, ScopeStanding

_Word = Literal["clean", "wrong"]
_WORDS: dict[str, _Word] = {"c": "clean", "clean": "clean", "w": "wrong", "wrong": "wrong"}
_HEX = frozenset("0123456789abcdef")


def label(
    audit: Annotated[str | None, typer.Argument(metavar="[AUDIT]", help="as the list shows it")] = None,
    verdict: Annotated[str | None, typer.Argument(metavar="[clean|wrong]", help="the label")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="only of this tenant")] = None,
    scope: Annotated[str | None, typer.Option("--scope", help="only of this scope, or its beginning")] = None,
    limit: Annotated[int, limit_option("the number of audits, oldest first")] = 100,
    keep: Annotated[bool, typer.Option("--keep", help="let a wrong answer be given again")] = False,
    by: Annotated[
        str | None, typer.Option("--by", help="your name for the label; by default your name on this machine")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON lines, and do not ask")] = False,
) -> None:
    """Label audited answers that a comparison could not decide as right or wrong.

    On a terminal, each answer is shown beside a fresh one, and you are asked; elsewhere they are listed. With AUDIT and
    a label, that audit gets this label, whatever it had. `clean`: the given answer is right for the question. `wrong`:
    it is not; it is never given again, unless you use --keep. `headrace cache wrong` lists the jobs that were given it
    and sends them again. Answers that were not given, because of a guard, come last: their labels show how often guards
    err. Exit code 1: there is no such audit, or it waits for its fresh answer.

    Examples: `headrace review audits`, `headrace review audits 7d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00 wrong`
    """
    ledger, who = need_ledger(), by or getpass.getuser()
    if audit is not None:
        _label_one(ledger, audit, verdict, who, keep, as_json)
        return
    rows = ledger.of(Audits).unknown(tenant, _scope(scope), limit + 1)
    if rows and sys.stdin.isatty() and not as_json:
        _ask(ledger, rows[:limit], who, keep)
        return
    put_list(
        list(map(views.audit_dict, rows)), views.AUDIT, "no audit waits for a person", as_json=as_json, limit=limit,
        which="oldest", right=("similarity",), whole=("audit",),
    )  # fmt: skip
    if rows and not as_json:
        say("label an audit with `headrace review audits AUDIT clean|wrong`")


def serve(
    scope: Annotated[
        str, typer.Argument(metavar="SCOPE", help="the scope or its beginning, as in `headrace cache stats`")
    ],
    stop: Annotated[
        bool, typer.Option("--stop", help="put the scope back into shadow, if its bound is not shown")
    ] = False,
    by: Annotated[str | None, typer.Option("--by", help="your name; by default your name on this machine")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
    as_json: OneJsonOption = False,
) -> None:
    """Let a scope in shadow serve by likeness before its bound is shown, or turn a scope on again that is off.

    The audits of a scope that was off start over. First find out what was wrong: `headrace cache stats` has the
    figures. A higher HEADRACE_SIMILARITY requires more similarity.

    A new scope serves only the same requests. It audits each answer that it would serve by likeness, and begins to
    serve by itself when the audits show its bound. Until then nobody knows how many of these answers are wrong. Exit
    code 1: you said no, or nothing changed.

    Example: `headrace cache serve 3fa9c1d2`
    """
    ledger = need_ledger()
    standings = ledger.of(Audits).standings(scope=_scope(scope))
    if len(standings) > 1:
        raise ConfigurationError(f"{len(standings)} scopes begin with {scope}: type more of the scope")
    if standings and not stop and ledger.of(Audits).reopen(standings[0].scope):
        if as_json:
            put_json({"scope": standings[0].scope, "changed": True, "by": None})
        say(f"{scope}: its semantic tier is on again")
        return
    if standings and not stop:
        say(
            f"{standings[0].sentence} Until its bound is shown nobody knows how many of its answers by likeness are "
            "wrong."
        )
        if not yes:
            be_sure("Serve them?", "the scope stays in shadow")
    who = None if stop else by or getpass.getuser()
    changed = bool(standings) and ledger.of(Audits).serve(standings[0].scope, who)
    if as_json:
        put_json({"scope": standings[0].scope if standings else None, "changed": changed, "by": who})
    if not standings:
        say(f"{scope}: no audited scope begins with this; `headrace cache stats` shows them")
    elif not changed:
        say(f"{scope}: nothing changed")
    else:
        say(f"{scope}: {'in shadow until its bound is shown' if stop else 'it serves by likeness'}")
    raise typer.Exit(0 if changed else 1)


def _label_one(ledger: Ledger, audit: str, verdict: str | None, who: str, keep: bool, as_json: bool) -> None:
    word = _WORDS.get(verdict or "")
    if word is None:
        raise ConfigurationError(f"the label of {audit} must be `clean` or `wrong`, not {verdict or 'nothing'}")
    before = ledger.of(Audits).label(audit, word, who, kill=not keep)
    if before is None:
        say(f"{audit}: the ledger knows no such audit")
    elif before.label is None:
        say(f"{audit}: it waits for its fresh answer; then it gets a label, or is listed here")
    else:
        if as_json:
            put_json({"audit": audit, "label": word, "before": before.label, "by": who})
        say(_row_text(before, word, keep))
        return
    raise typer.Exit(1)


def _ask(ledger: Ledger, rows: list[Any], who: str, keep: bool) -> None:
    """Ask about one audit after the other, until there is none left or the person stops."""
    done = 0
    for row in rows:
        shown = console(data=True)
        shown.print(table(f"audit {row.id}", ("asked", ""), views.audit_facts(row)))
        shown.print(table(None, ("served", "made afresh"), [(row.served or "(forgotten)", row.fresh or "(none)")]))
        flush()
        answer = typer.prompt("Was the served one right? [c]lean, [w]rong, [s]kip, [q]uit", err=True).strip().lower()
        if answer in ("q", "quit"):
            break
        if (word := _WORDS.get(answer)) is None:
            continue
        ledger.of(Audits).label(row.id, word, who, kill=not keep)
        done += 1
        say(_row_text(row, word, keep))
    say(f"{done} labelled")


def _row_text(row: Any, word: _Word, keep: bool) -> str:
    if word == "clean" or keep or row.kind != "hit":
        return f"{row.id}: {word}"
    return (
        f"{row.id}: wrong; answer {row.entry_id} is given to nobody any more, and `headrace cache wrong {row.job_id}` "
        "lists whom it was given"
    )


def _scope(scope: str | None) -> str | None:
    if scope is not None and not (scope and len(scope) <= 64 and _HEX.issuperset(scope)):
        raise ConfigurationError(
            f"no scope begins with {scope!r}: `headrace cache stats` shows them (8 of 0-9 and a-f)"
        )
    return scope


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
    ledger = need_ledger()
    since_ms = milliseconds(parse_time(since, datetime.fromtimestamp(ledger.now() / 1000, UTC))) if since else None
    stand = ledger.of(Audits).standings(tenant)
    if not scopes:
        counts, guards = ledger.of(Answers).counts(tenant, since_ms), ledger.of(Audits).by_guard(tenant)
        if as_json:
            error_bounds = {
                "bounds": [views.bound_dict(standing) for standing in stand],
                "together": views.whole_dict(_together(stand)),
                "guards": views.guard_dicts(guards),
            }
            put_json({**views.counts_dict(counts), **error_bounds})
            return
        for title, columns, rows in views.counts_tables(counts):
            console(data=True).print(table(title, columns, rows, right=columns))
        _show_bounds(stand[:limit])
        if guards:
            title = "what a guard alone kept from being given, were it right or wrong"
            console(data=True).print(
                table(title, views.GUARD_COLUMNS, views.guard_rows(guards), right=views.GUARD_RIGHT)
            )
        for line in views.whole_lines(_together(stand)):
            console(data=True).print(Line(line))
        return
    ranked = views.ranked(ledger.of(Answers).scopes(tenant, since_ms))
    bounds = {standing.scope: views.bound_dict(standing) for standing in stand}
    if as_json:
        for name, kept in ranked[:limit]:
            put_json({**views.scope_dict(name, kept), "bound": bounds.get(name[1])})
    elif ranked:
        shown = [views.scope_row(name, kept) for name, kept in ranked[:limit]]
        console(data=True).print(table(None, views.SCOPE_COLUMNS, shown, right=views.SCOPE_RIGHT, whole=("scope",)))
        _show_bounds([standing for standing in stand if (standing.tenant, standing.scope) in dict(ranked[:limit])])
    else:
        say("no answer was given, and none is kept")
    if len(ranked) > limit:
        say(f"only the {limit} scopes with the most hits are shown: --limit shows more")


def _show_bounds(stand: list[ScopeStanding]) -> None:
    """Print the results of audits by scope; nothing if there were none."""
    if stand:
        rows = [views.bound_row(standing) for standing in stand]
        shown = table(
            "wrong answers among those by likeness",
            views.BOUND_COLUMNS,
            rows,
            right=views.BOUND_RIGHT,
            whole=("scope",),
        )
        console(data=True).print(shown)
        for line in (*views.off_lines(stand), *views.shadow_lines(stand)):
            say(line)


def _together(stand: list[ScopeStanding]) -> Whole | None:
    return together(stand)
