"""The cost of a job's model calls. Pure. The price of a call is pinned when the job is routed to its model, with the
most that the call may cost: a price that changes while the call runs changes nothing. Both travel in the context of the
job's steps, with the sum of all calls so far, so that a receipt lists every call, whichever worker made it. Money is in
micro-units: millionths of a currency.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Protocol

from pydantic_core import from_json, to_json

from headrace_schemas import Usage
from headrace_schemas.events import Cost, ModelCost
from headrace_schemas.limits import MAX_COSTED

CALL: Final = "call"  # two names in the context of a step: the call that is under way, and the calls that ended
CALLS: Final = "calls"

_MILLION: Final = 1_000_000
_HOUR_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True)
class Price:
    """The price of a model, in micro-units: of a million tokens of input, cached input and output, and of an hour of
    the machine. A call is charged for `longest_ms` of the machine at most.
    """

    currency: str
    input: int = 0
    cached: int = 0
    output: int = 0
    hour: int = 0
    longest_ms: int = 0

    def most(self, tokens: int) -> int:
        """Return the most that a call with so many tokens, read and written, may cost."""
        dearest = max(self.input, self.cached, self.output)
        return _up(tokens * dearest, _MILLION) + _up(self.longest_ms * self.hour, _HOUR_MS)

    def of(self, usage: Usage, ran_ms: float) -> int:
        """Return what a call costs that used these tokens, and the machine for so long."""
        cached = min(usage.cached_tokens or 0, usage.prompt_tokens)
        tokens = (
            (usage.prompt_tokens - cached) * self.input + cached * self.cached + usage.completion_tokens * self.output
        )
        return _up(tokens, _MILLION) + _up(min(int(ran_ms) + 1, self.longest_ms) * self.hour, _HOUR_MS)

    @property
    def counts_tokens(self) -> bool:
        """Return True if the tokens of a call change its cost."""
        return max(self.input, self.cached, self.output) > 0


class Prices(Protocol):
    """The prices of a deployment's models."""

    def price(self, model: str) -> Price | None:
        """Return the price of a model; None where it is not known."""


class NoPrices:
    """Prices of a deployment that knows none."""

    def price(self, model: str) -> Price | None:
        """Return None: it is not known."""
        return None


@dataclass(frozen=True, slots=True)
class NextCall:
    """A call of a model that a job is routed to: its price, and the tokens that it may read and write."""

    model: str
    price: Price | None
    tokens: int

    @property
    def most(self) -> int | None:
        """Return the most that it may cost; None where its price is not known."""
        return None if self.price is None else self.price.most(self.tokens)

    def pinned(self) -> dict[str, Any]:
        """Return the context that pins its price."""
        price = self.price
        if price is None:
            return {}
        figures = [price.currency, price.input, price.cached, price.output, price.hour, price.longest_ms]
        return {CALL: {"model": self.model, "price": figures, "tokens": self.tokens}}


def routed(context: Mapping[str, Any], call: NextCall | None) -> dict[str, Any]:
    """Return the context of a step that is routed to this call, or to no model."""
    others = {name: value for name, value in context.items() if name != CALL}
    return others if call is None else {**others, **call.pinned()}


def call_in(context: Mapping[str, Any], model: str) -> NextCall:
    """Return the call of this model that a context pins; one without a known price where it pins none."""
    found = context.get(CALL) or {}
    if found.get("model") != model or "price" not in found:
        return NextCall(model, None, 0)
    return NextCall(model, Price(*found["price"]), found["tokens"])


@dataclass(frozen=True, slots=True)
class Charge:
    """Cost of a call; `amount` is None if its price is not known. With `is_bound` it is the most that the call may have
    cost, because nobody knows what it used.
    """

    model: str
    amount: int | None
    currency: str | None = None
    is_bound: bool = False


def charge_of(call: NextCall, usage: Usage | None, ran_ms: float) -> Charge:
    """Return the charge of a call that has ended. One that says nothing of its tokens is charged with the most."""
    if call.price is None or call.most is None:
        return Charge(call.model, None)
    if usage is None or (usage.prompt_tokens == 0 and call.price.counts_tokens):
        return lost(call)
    return Charge(call.model, call.price.of(usage, ran_ms), call.price.currency)


def lost(call: NextCall) -> Charge:
    """Return the charge of a call whose outcome nobody recorded: the most, since it may have been billed."""
    return Charge(call.model, call.most, call.price.currency if call.price else None, is_bound=True)


def with_charge(context: Mapping[str, Any], charge: Charge) -> dict[str, Any]:
    """Return the context that adds this charge to the charges of earlier calls."""
    calls = {model: list(figures) for model, figures in context.get(CALLS, {}).items()}
    figures = calls.setdefault(charge.model, [0, 0, 0, None, 0])
    figures[0] += 1
    if charge.amount is None:
        figures[2] += 1
    else:
        figures[1] += charge.amount
        figures[3] = charge.currency
        figures[4] += charge.amount if charge.is_bound else 0
    return {CALLS: calls}


def uncharged(packed: bytes | None) -> bytes | None:
    """Return the context of a step whose job begins anew behind an end that told of its calls: none has a charge."""
    whole = {} if packed is None else from_json(packed)
    calls = whole.get("context", {}).get(CALLS)
    if not calls:
        return packed
    whole["context"][CALLS] = {model: [0, 0, 0, None, 0] for model in calls}
    return to_json(whole)


def spent_in(context: Mapping[str, Any]) -> int:
    """Return the money that the calls cost which have ended, as far as their prices are known."""
    return sum(amount for _, amount, *_ in context.get(CALLS, {}).values())


def cost_in(context: Mapping[str, Any]) -> Cost:
    """Return the cost of all calls that have ended."""
    calls = context.get(CALLS, {}).items()
    return _cost(spent_in(context), tuple((model, *figures) for model, figures in calls if figures[0]))


@lru_cache(maxsize=256)  # the jobs of a group mostly cost the same
def _cost(amount: int, calls: tuple[tuple[str, int, int, int, str | None, int], ...]) -> Cost:
    return Cost(
        amount=amount,
        currency=next((currency for *_, currency, _ in calls if currency), None),
        unknown=any(unknown for _, _, _, unknown, _, _ in calls),
        bound=sum(bound for *_, bound in calls),
        models=tuple(
            ModelCost(model=model, calls=count, amount=amount, unknown_calls=unknown, bound=bound)
            for model, count, amount, unknown, _, bound in calls[:MAX_COSTED]
        ),
    )


def with_charges(cost: Cost | None, charges: Iterable[Charge]) -> Cost:
    """Return a cost with these charges added."""
    context: dict[str, Any] = {}
    if cost is not None:
        context[CALLS] = {
            each.model: [each.calls, each.amount, each.unknown_calls, cost.currency, each.bound] for each in cost.models
        }
    amount = 0 if cost is None else cost.amount
    for charge in charges:
        context |= with_charge(context, charge)
        amount += charge.amount or 0
    return cost_in(context).model_copy(update={"amount": amount})


def context_of(packed: bytes | None) -> dict[str, Any]:
    """Return the context of a step as the ledger has it."""
    return {} if packed is None else dict(from_json(packed)["context"])


def cost_of(packed: bytes | None) -> Cost | None:
    """Return the cost of a job whose step has this context; None where no model was called."""
    cost = cost_in(context_of(packed))
    return cost if cost.models else None


def with_lost(packed: bytes | None, model: str) -> tuple[bytes, NextCall, int]:
    """Return the context of a step whose call of this model was lost, the same call once more, and what is spent."""
    whole = {"context": {}, "stages": []} if packed is None else from_json(packed)
    context = whole["context"]
    call = call_in(context, model)
    context |= with_charge(context, lost(call))
    return to_json(whole), call, spent_in(context)


def _up(amount: int, parts: int) -> int:
    """Return a quotient, rounded up: nothing that costs something is free."""
    return -(-amount // parts)
