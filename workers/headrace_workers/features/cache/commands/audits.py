"""`headrace cache label` and `reopen`: what people say of answers that were audited, and of scopes that are off."""

import getpass
import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from headrace_schemas.errors import ConfigurationError
from headrace_workers.cli.connections import need_ledger
from headrace_workers.cli.options import OneJsonOption, limit_option
from headrace_workers.cli.output import console, flush, put_json, say, table
from headrace_workers.features.cache.commands import bound_views as views

if TYPE_CHECKING:
    from headrace_workers.core.ledger.ledger import Ledger

_Said = Literal["clean", "wrong"]
_WORDS: dict[str, _Said] = {"c": "clean", "clean": "clean", "w": "wrong", "wrong": "wrong"}
_HEX = frozenset("0123456789abcdef")


def label(
    audit: Annotated[str | None, typer.Argument(metavar="[AUDIT]", help="as the list shows it")] = None,
    said: Annotated[str | None, typer.Argument(metavar="[clean|wrong]")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="only of this tenant")] = None,
    scope: Annotated[str | None, typer.Option("--scope", help="only of this scope, or its beginning")] = None,
    limit: Annotated[int, limit_option("the oldest, so many")] = 100,
    keep: Annotated[bool, typer.Option("--keep", help="a wrong answer may be given again all the same")] = False,
    by: Annotated[str | None, typer.Option("--by", help="who says so; else your name on this machine")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON lines, and do not ask")] = False,
) -> None:
    """Say of answers that were given for like questions whether they were right, where a comparison could not tell.

    On a terminal each is shown beside the one that was made afresh, and you are asked; elsewhere they are listed. With
    AUDIT and a word that one gets this label, whatever it had. `clean`: the answer that was given is right for the
    question. `wrong`: it is not. Then it is also given to nobody any more, as after `headrace cache wrong`, unless you
    say --keep; whom it was given to, and asking them again, is for that command. Last come answers that were not
    given, since the threshold or a guard was against it: what these are tells where the threshold should be, and how
    often guards err, and nothing is put away. Exit code 1: no such audit, or it waits for its fresh answer.

    Examples: `headrace cache label`, `headrace cache label 7d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00 wrong`
    """
    from headrace_workers.features.cache.store.audits import Audits

    ledger, who = need_ledger(), by or getpass.getuser()
    if audit is not None:
        _label_one(ledger, audit, said, who, keep, as_json)
        return
    found = ledger.of(Audits).unknown(tenant, _scope(scope), limit + 1)
    if as_json:
        for row in found[:limit]:
            put_json(views.audit_dict(row))
    elif not found:
        say("no audit waits for a person")
    elif sys.stdin.isatty():
        _ask(ledger, found[:limit], who, keep)
    else:
        rows = [views.audit_row(row) for row in found[:limit]]
        console(data=True).print(table(None, views.AUDIT_COLUMNS, rows, right=("similarity",), whole=("audit",)))
        say("`headrace cache label AUDIT clean|wrong` says what one is")
    if len(found) > limit:
        say(f"only the {limit} oldest are shown: --limit shows more")


def reopen(
    scope: Annotated[str, typer.Argument(metavar="SCOPE", help="or its beginning, as `headrace cache stats` shows it")],
    as_json: OneJsonOption = False,
) -> None:
    """Give answers by likeness again in a scope that turned itself off. Its audits begin anew: what was found before
    does not count.

    First see what was wrong: `headrace cache stats` has the figures, and HEADRACE_SIMILARITY asks for more likeness.
    Exit code 1: no such scope, or it is not off.

    Example: `headrace cache reopen 3fa9c1d2`
    """
    from headrace_workers.features.cache.store.audits import Audits

    ledger = need_ledger()
    found = ledger.of(Audits).standings(scope=_scope(scope))
    if len(found) > 1:
        raise ConfigurationError(f"{len(found)} scopes begin with {scope}: say more of the one that you mean")
    opened = bool(found) and ledger.of(Audits).reopen(found[0].scope)
    if as_json:
        put_json({"scope": found[0].scope if found else None, "reopened": opened})
    if not found:
        say(f"{scope}: no scope that was audited begins so; `headrace cache stats` shows them")
    else:
        say(f"{scope}: {'its semantic tier is on again' if opened else 'it was not off'}")
    raise typer.Exit(0 if opened else 1)


def _label_one(ledger: "Ledger", audit: str, said: str | None, who: str, keep: bool, as_json: bool) -> None:
    from headrace_workers.features.cache.store.audits import Audits

    word = _WORDS.get(said or "")
    if word is None:
        raise ConfigurationError(f"what {audit} is, is said by `clean` or `wrong`, not {said or 'nothing'}")
    before = ledger.of(Audits).label(audit, word, who, kill=not keep)
    if before is None:
        say(f"{audit}: the ledger knows no such audit")
    elif before.label is None:
        say(f"{audit}: it waits for its fresh answer, and gets a label by itself, or comes to you")
    else:
        if as_json:
            put_json({"audit": audit, "label": word, "before": before.label, "by": who})
        say(_told(before, word, keep))
        return
    raise typer.Exit(1)


def _ask(ledger: "Ledger", rows: list[Any], who: str, keep: bool) -> None:
    """One after the other, until there is none, or the person has enough."""
    from headrace_workers.features.cache.store.audits import Audits

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
        say(_told(row, word, keep))
    say(f"{done} labelled")


def _told(row: Any, word: _Said, keep: bool) -> str:
    if word == "clean" or keep or row.kind != "hit":
        return f"{row.id}: {word}"
    return (
        f"{row.id}: wrong; answer {row.entry_id} is given to nobody any more, and `headrace cache wrong {row.job_id}` "
        "lists whom it was given"
    )


def _scope(scope: str | None) -> str | None:
    if scope is not None and not (scope and len(scope) <= 64 and _HEX.issuperset(scope)):
        raise ConfigurationError(f"{scope!r} begins no scope: `headrace cache stats` shows them (8 of 0-9 and a-f)")
    return scope
