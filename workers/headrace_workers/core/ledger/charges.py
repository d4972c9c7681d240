"""The cost of a job's model calls. Pure. The price of a call is pinned when the job is routed to its model, with the
most that the call may cost: a price that changes while the call runs changes nothing. Both travel in the context of the
job's steps, with the sum of all calls so far, so that a receipt lists every call, whichever worker made it. Money is in
micro-units: millionths of a currency.

A step's charge is decided in one place, `Bill.after`. The settling transaction carries its bill.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple, Protocol, Self

from pydantic_core import from_json, to_json

from headrace_schemas import Output, Usage
from headrace_schemas.events import Cost, ModelCost
from headrace_schemas.limits import MAX_COSTED
from headrace_workers.core.ledger.outcome import Dead, Done, Dropped, Ended, Outcome, Retry, Unanswered

CALL: Final = "call"  # two names in the context of a step: the call that is under way, and the calls that ended
CALLS: Final = "calls"

_MILLION: Final = 1_000_000
_HOUR_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True)
class Price:
    """The price of a model, in micro-units: of a million tokens of input, cached input and output, and of an hour of
    the machine. A call is charged for `longest_ms` of the machine at most. A price that is not `known` is of somebody
    else's machine, who wants money for it.
    """

    currency: str
    input: int = 0
    cached: int = 0
    output: int = 0
    hour: int = 0
    longest_ms: int = 0
    known: bool = True

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


UNKNOWN: Final = Price("", known=False)


class Prices(Protocol):
    """The prices of a deployment's models."""

    def price(self, model: str) -> Price | None:
        """Return the price of a model: `UNKNOWN` if a provider has one that is not known, and None for a model on the
        deployment's own machines for which nobody set a price. Its calls cost what nobody knows, but no budget.
        """

    def training(self, model: str) -> Price | None:
        """Return the price of training a model, as that of input; None where nobody set one."""


class NoPrices:
    """Prices of a deployment whose models are its own, and have none."""

    def price(self, model: str) -> Price | None:
        """Return None: nobody set one."""
        return None

    training = price


class NextCall(NamedTuple):
    """A call of a model that a job is routed to: its price, and the tokens that it may read and write."""

    model: str
    price: Price | None
    tokens: int

    @property
    def most(self) -> int | None:
        """Return the most that it may cost; None where its price is not known."""
        return self.price.most(self.tokens) if self.price is not None and self.price.known else None

    @property
    def is_unpriced(self) -> bool:
        """Return True if it costs money, and nobody knows how much: no budget allows it."""
        return self.price is not None and not self.price.known

    def pinned(self) -> dict[str, Any]:
        """Return the context that pins its price."""
        price = self.price
        if price is None:  # of training the tokens count all the same
            return {CALL: {"model": self.model, "price": None, "tokens": self.tokens}} if self.tokens else {}
        if not price.known:
            return {CALL: {"model": self.model, "tokens": self.tokens}}
        figures = [price.currency, price.input, price.cached, price.output, price.hour, price.longest_ms]
        return {CALL: {"model": self.model, "price": figures, "tokens": self.tokens}}


def routed(context: Mapping[str, Any], call: NextCall | None) -> dict[str, Any]:
    """Return the context of a step that is routed to this call, or to no model."""
    others = {name: value for name, value in context.items() if name != CALL}
    return others if call is None else {**others, **call.pinned()}


def call_in(context: Mapping[str, Any], model: str) -> NextCall:
    """Return the call of this model that a context pins; one without a price where it pins none."""
    pinned = _pinned_in(context)
    return NextCall(model, None, 0) if pinned is None or pinned.model != model else pinned


def _pinned_in(context: Mapping[str, Any]) -> NextCall | None:
    found = context.get(CALL)
    if not found:
        return None
    figures = found.get("price")
    price = Price(*figures) if figures else None if "price" in found else UNKNOWN
    return NextCall(found["model"], price, found["tokens"])


class Charge(NamedTuple):
    """Cost of a call; `amount` is None if its price is not known. With `is_bound` it is the most that the call may have
    cost, because nobody knows what it used. A call that was not `made` costs 0. `trained` are the tokens of training.
    """

    model: str
    amount: int | None
    currency: str | None = None
    is_bound: bool = False
    made: bool = True
    trained: int = 0

    @property
    def known(self) -> int | None:
        """Return what the call did cost; None if nobody knows."""
        return None if self.is_bound else self.amount


def not_made(model: str) -> Charge:
    """Return the charge of a call that the model or its provider did not take."""
    return Charge(model, 0, made=False)


def charge_of(call: NextCall, usage: Usage | None, ran_ms: float) -> Charge:
    """Return the charge of a call that has ended. One that says nothing of its tokens, or counts more than it may have,
    is charged with the most.
    """
    if call.price is None or call.most is None:
        return Charge(call.model, None)
    if usage is None or (call.price.counts_tokens and not _is_report(usage, call.tokens)):
        return lost(call)
    return Charge(call.model, call.price.of(usage, ran_ms), call.price.currency)


def _is_report(usage: Usage, most_tokens: int) -> bool:
    return usage.prompt_tokens > 0 and usage.prompt_tokens + usage.completion_tokens <= most_tokens


def lost(call: NextCall) -> Charge:
    """Return the charge of a call whose outcome nobody recorded: the most, since it may have been billed."""
    return Charge(call.model, call.most, call.price.currency or None if call.price else None, is_bound=True)


class ModelCharges(NamedTuple):
    """Charges of one model's calls, in the order in which a step's context holds them."""

    calls: int = 0
    amount: int = 0
    unknown: int = 0
    currency: str | None = None
    bound: int = 0
    trained: int = 0

    def plus(self, charge: Charge) -> "ModelCharges":
        """Return these charges and this one."""
        trained = self.trained + charge.trained
        if charge.amount is None:
            return self._replace(calls=self.calls + 1, unknown=self.unknown + 1, trained=trained)
        bound = self.bound + charge.amount if charge.is_bound else self.bound
        return ModelCharges(self.calls + 1, self.amount + charge.amount, self.unknown, charge.currency, bound, trained)


_NO_CHARGES: Final[Mapping[str, ModelCharges]] = {}


class Bill(NamedTuple):
    """The charges of a job's calls by model, up to a step and with it. `call` is the call of a model that the step was,
    and `charge` its charge; both are None where it asked no model.
    """

    models: Mapping[str, ModelCharges] = _NO_CHARGES
    call: NextCall | None = None
    charge: Charge | None = None

    @classmethod
    def before(cls, context: Mapping[str, Any], model: str | None = None) -> Self:
        """Return the bill that the context of a step holds, and the call of this model that it pins. Without a model it
        is training.
        """
        calls = context.get(CALLS)
        models = {name: ModelCharges(*figures) for name, figures in calls.items()} if calls else _NO_CHARGES
        return cls(models, _pinned_in(context) if model is None else call_in(context, model))

    def after(self, outcome: Outcome, ran_ms: float, *, is_unit: bool = False) -> "Bill":
        """Return the bill after the step's run of so many ms. A unit that is done and reports no tokens made no call
        that costs something.
        """
        if self.call is None or isinstance(outcome, Dropped):
            return self
        if isinstance(outcome, Ended) and not outcome.asked:
            return self.plus(not_made(self.call.model))
        if isinstance(outcome, Done | Ended):
            usage = _usage_of(outcome)
            return self if is_unit and usage is None else self.plus(charge_of(self.call, usage, ran_ms))
        if isinstance(outcome, Retry | Dead) and outcome.usage is not None:
            return self.plus(charge_of(self.call, outcome.usage, ran_ms))
        billed = isinstance(outcome, Retry | Dead) and outcome.billed
        if billed or (isinstance(outcome, Unanswered) and outcome.error.billed):
            return self.plus(lost(self.call))
        return self.plus(not_made(self.call.model))

    def trained(self, tokens: int, left: int) -> "Bill":
        """Return the bill after so many tokens were trained, with so many left. All parts together cost what was
        reserved for the whole, however often that is rounded.
        """
        if self.call is None or not tokens:
            return self
        price = self.call.price
        if price is None or not price.known:
            return self.plus(Charge(self.call.model, None, trained=tokens))
        amount = price.most(left + tokens) - price.most(left)
        return self.plus(Charge(self.call.model, amount, price.currency, trained=tokens))

    def plus(self, charge: Charge) -> "Bill":
        """Return the bill with this charge."""
        if not charge.made:
            return Bill(self.models, self.call, charge)
        charges = self.models.get(charge.model, ModelCharges()).plus(charge)
        return Bill({**self.models, charge.model: charges}, self.call, charge)

    @property
    def made_call(self) -> bool:
        """Return True if the step made a call."""
        return self.charge is not None and self.charge.made

    @property
    def context(self) -> dict[str, Any]:
        """Return the charges for the context of the next step."""
        return {CALLS: self.models} if self.models else {}

    @property
    def spent(self) -> int:
        """Return the money that the calls cost, as far as their prices are known."""
        return sum(charges.amount for charges in self.models.values())

    @property
    def trained_tokens(self) -> int:
        """Return the tokens that were trained."""
        return sum(charges.trained for charges in self.models.values())

    @property
    def cost(self) -> Cost:
        """Return the cost of all calls, for a receipt."""
        return _cost(tuple(model for model in self.models.items() if model[1].calls))


@lru_cache(maxsize=256)  # the jobs of a group mostly cost the same
def _cost(models: tuple[tuple[str, ModelCharges], ...]) -> Cost:
    return Cost(
        amount=sum(charges.amount for _, charges in models),
        currency=next((charges.currency for _, charges in models if charges.currency), None),
        unknown=any(charges.unknown for _, charges in models),
        bound=sum(charges.bound for _, charges in models),
        models=tuple(
            ModelCost(
                model=model,
                calls=charges.calls,
                amount=charges.amount,
                unknown_calls=charges.unknown,
                bound=charges.bound,
                trained_tokens=charges.trained or None,
            )
            for model, charges in models[:MAX_COSTED]
        ),
    )


def _usage_of(outcome: Done | Ended) -> Usage | None:
    """Return the tokens of the step's model, as the step or its answer says; None where nobody does."""
    if outcome.usage is None and isinstance(outcome.event, Output):
        return outcome.event.answer.usage
    return outcome.usage


def uncharged(packed: bytes | None) -> bytes | None:
    """Return the context of a step whose job begins anew after an end that told of its calls: none has a charge."""
    whole = {} if packed is None else from_json(packed)
    calls = whole.get("context", {}).get(CALLS)
    if not calls:
        return packed
    whole["context"][CALLS] = dict.fromkeys(calls, ModelCharges())
    return to_json(whole)


def with_charges(cost: Cost | None, charges: Iterable[Charge]) -> Cost:
    """Return a cost with these charges added."""
    bill, amount = Bill(), 0
    if cost is not None:
        amount = cost.amount
        bill = Bill({
            model.model: ModelCharges(
                model.calls, model.amount, model.unknown_calls, cost.currency, model.bound, model.trained_tokens or 0
            )
            for model in cost.models
        })  # fmt: skip
    for charge in charges:
        bill = bill.plus(charge)
        amount += charge.amount or 0
    return bill.cost.model_copy(update={"amount": amount})


def context_of(packed: bytes | None) -> dict[str, Any]:
    """Return the context of a step as the ledger has it."""
    return {} if packed is None else dict(from_json(packed)["context"])


def cost_of(packed: bytes | None) -> Cost | None:
    """Return the cost of a job whose step has this context; None where no model was called."""
    cost = Bill.before(context_of(packed)).cost
    return cost if cost.models else None


def _up(amount: int, parts: int) -> int:
    """Return a quotient, rounded up: nothing that costs something is free."""
    return -(-amount // parts)
