"""`headrace cost`: what the calls of models cost."""

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from headrace_schemas.errors import ConfigurationError
from headrace_workers.cli.options import JsonLinesOption
from headrace_workers.cli.output import console, put_view, say, table
from headrace_workers.features.spend.views import CostRow, money

if TYPE_CHECKING:
    from headrace_workers.features.spend.store.spent_days import By

_COLUMNS: Final = ("tenant", "model", "day")
_FIRST_DAY: Final = date(1970, 1, 1)


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command("cost")(cost)


def cost(
    by: Annotated[str, typer.Option("--by", help="tenant, model and day, or some of them, with commas")] = "tenant",
    tenant: Annotated[str | None, typer.Option("--tenant", help="only of this tenant")] = None,
    days: Annotated[int, typer.Option("--days", min=1, max=3_660, help="of so many days up to today (UTC)")] = 30,
    as_json: JsonLinesOption = False,
) -> None:
    """Show what calls of models cost: judges and failed jobs included. Jobs that ended in the last minutes come later.

    The upper bound is the part of the cost that belongs to calls whose usage nobody knows, such as those of a killed
    worker: they are charged with the most that they may have cost.

    Examples: `headrace cost --by tenant,model`, `headrace cost --by day --tenant shop --days 7`
    """
    from headrace_workers.cli.connections import need_ledger
    from headrace_workers.features.spend.store.spent_days import Spending

    names = _names(by)
    today = datetime.now(UTC).date()
    first = today - timedelta(days=days - 1)
    found, _ = need_ledger().of(Spending).spent(names, _number(first), _number(today), tenant)
    rows = [CostRow.of(each) for each in found]
    if as_json:
        for row in rows:
            put_view(row)
    elif rows:
        shown = [(*(_text(row, name) for name in names), *_figures(row)) for row in rows]
        columns = (*names, "calls", "cost", "of it an upper bound", "calls without a price")
        console(data=True).print(table(None, columns, shown, right=columns[len(names) :]))
    else:
        say(f"no job that called a model has ended since {first}")


def _names(by: str) -> "list[By]":
    names = [name.strip() for name in by.split(",") if name.strip()]
    for name in names:
        if name not in _COLUMNS:
            raise ConfigurationError(f"--by is {by!r}; it may be {', '.join(_COLUMNS)}, or several with commas")
    return list(dict.fromkeys(names))  # type: ignore[arg-type]  # checked above


def _text(row: CostRow, name: str) -> str:
    value: Any = getattr(row, name)
    return str(value)


def _figures(row: CostRow) -> tuple[str, str, str, str]:
    cost, bound = ("unknown", "") if row.currency is None else (f"{money(row.amount)} {row.currency}", money(row.bound))
    return f"{row.calls:,}", cost, bound, f"{row.unknown_calls:,}"


def _number(day: date) -> int:
    return (day - _FIRST_DAY).days
