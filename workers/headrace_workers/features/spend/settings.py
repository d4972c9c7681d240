"""Settings of spending."""

from typing import ClassVar

from headrace_workers.core.environment import Variables, number, variable

_READ_BY = "bridges, workers and gateways"


class SpendSettings(Variables):
    """Settings of what models cost."""

    title: ClassVar[str] = "Spending"

    currency: str = variable(
        "USD",
        "The currency of all prices and budgets (ISO 4217). The public prices that headrace knows are in USD, and are "
        "used with that alone.",
        read_by=_READ_BY,
        pattern="^[A-Z]{3}$",
    )
    machine_price: float | None = number(
        None,
        "What an hour of a machine that runs your own models costs, in the currency. Unset: what they cost is unknown. "
        "`[prices.ALIAS]` in models.toml sets the price of one model.",
        read_by=_READ_BY,
        ge=0,
        le=1_000_000,
    )
