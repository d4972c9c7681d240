"""The charge of the call of a model that a step was, by the step's outcome. Pure."""

from headrace_schemas import Output, Usage
from headrace_workers.core.ledger.charges import Charge, NextCall, call_in, charge_of, context_of, lost
from headrace_workers.core.ledger.outcome import Dead, Done, Dropped, Ended, Outcome, Retry
from headrace_workers.core.ledger.start import Started, StepRow
from headrace_workers.core.pipeline.stage import model_of


def paid_for(started: Started, row: StepRow, outcome: Outcome, ran_ms: float) -> int | None:
    """Return what the call of a model that this step was did cost; None where none was made, or nobody knows."""
    model = model_of(started.queue)
    if model is None or isinstance(outcome, Dropped):
        return None
    if row.context is None and isinstance(outcome, Done | Ended):
        return None  # no price was pinned
    call = call_in(context_of(row.context), model)
    if isinstance(outcome, Done | Ended):
        charge = charge_of(call, usage_of(outcome), share_of_run(started, ran_ms))
    elif isinstance(outcome, Retry | Dead):
        charge = charge_of_failed(call, outcome, share_of_run(started, ran_ms)) or Charge(model, 0)
    else:
        charge = Charge(model, 0)  # the provider took no call
    return None if charge.is_bound else charge.amount


def usage_of(outcome: Done | Ended) -> Usage | None:
    """Return the tokens of the step's model, as the step or its answer says; None where nobody does."""
    if outcome.usage is None and isinstance(outcome.event, Output):
        return outcome.event.answer.usage
    return outcome.usage


def charge_of_failed(call: NextCall, outcome: Retry | Dead, ran_ms: float) -> Charge | None:
    """Return the charge of a call whose answer is of no use; None where it costs nothing."""
    if outcome.usage is not None:
        return charge_of(call, outcome.usage, ran_ms)
    return lost(call) if outcome.billed else None


def share_of_run(started: Started, ran_ms: float) -> float:
    """Return how many ms of a run count for each step of its group."""
    return ran_ms / len(started.steps)
