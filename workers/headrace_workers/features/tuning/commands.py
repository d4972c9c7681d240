"""`headrace tune`: a model of the catalogue learns from examples, here or in a job."""

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from sqlalchemy import Row

from headrace_workers.cli.connections import need_ledger, ring_bridges
from headrace_workers.cli.durations import show_ms, show_seconds
from headrace_workers.cli.options import JsonLinesOption, OneJsonOption, limit_option
from headrace_workers.cli.output import (
    Column,
    NoSuchThing,
    console,
    flush,
    printable,
    put,
    put_json,
    put_list,
    put_view,
    say,
    table,
)
from headrace_workers.core.ledger.cancellation import Cancellation
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.features.tuning.copies import deletable, remove_copy, remove_model
from headrace_workers.features.tuning.recipe import plan_of
from headrace_workers.features.tuning.store import TuningRuns
from headrace_workers.features.tuning.training import Event, in_words, tune
from headrace_workers.features.tuning.views import TuningCheckpoint, TuningEvent, TuningRun, job_id_of
from headrace_workers.files.object_store import Store
from headrace_workers.files.settings import FileSettings
from headrace_workers.runtime.settings import home_of

_SHOWN_STEPS: Final = 100
_ALL: Final = 10_000  # events of a run, which has no more
_BARS: Final = "▁▂▃▄▅▆▇█"
_MOST_BARS: Final = 60

_IdArgument = Annotated[str, typer.Argument(metavar="ID", help="the run's id, or its job's")]
_TenantOption = Annotated[str | None, typer.Option("--tenant", help="only of this tenant")]


def run(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.toml", help="base, data and how to train")],
    as_json: JsonLinesOption = False,
) -> None:
    """Fine-tune a model on this machine, and put it into the catalogue under a name of its own. It needs
    headrace[tune].

    A run that was interrupted goes on from its last checkpoint when you start it again. Nothing is published unless
    the served model computes what was trained.

    `run` may be left out.

    Example: `headrace tune run tickets.toml`
    """
    home = home_of()
    plan = plan_of(recipe, home)
    published = tune(plan, home, partial(_show, as_json=as_json))
    if not as_json:
        for alias in published["aliases"]:
            put(alias)


def _show(event: Event, as_json: bool) -> None:
    """Show an event as a JSON line, or in words: then a hundred of the steps."""
    if as_json:
        put_json(event)
        flush()
    elif event["kind"] == "step" and event["step"] % -(-event["steps"] // _SHOWN_STEPS):
        return
    elif line := in_words(event):
        say(line)


def list_runs(
    run_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="show this run, by its id or its job's")] = None,
    tenant: _TenantOption = None,
    limit: Annotated[int, limit_option("at most so many runs, or events of the run, newest first")] = 20,
    as_json: JsonLinesOption = False,
) -> None:
    """List the runs of fine-tuning jobs, newest first; with ID, show how far that run is, its losses and its newest
    events.

    Examples: `headrace tune list`, `headrace tune list ftjob-7d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00`
    """
    if run_id is not None:
        _show_run(run_id, tenant, limit, as_json)
        return
    runs = [TuningRun.of(row) for row in need_ledger().of(TuningRuns).runs(tenant, limit=limit)]
    columns: dict[str, Column] = {
        "run": "id", "status": "status", "base": "model", "model": "fine_tuned_model", "end": _end,
        "tenant": "organization_id",
    }  # fmt: skip
    nothing = "no runs: docs/how-to/coming-from-openai-fine-tuning.md shows how to start one"
    put_list(runs, columns, nothing, as_json=as_json, whole=("run",))


def _show_run(run_id: str, tenant: str | None, limit: int, as_json: bool) -> None:
    ledger = need_ledger()
    row, runs = _known(ledger, run_id, tenant), ledger.of(TuningRuns)
    view, events = TuningRun.of(row), runs.events(row.number, None, _ALL)
    checkpoints = [
        TuningCheckpoint.of(row.job_id, checkpoint) for checkpoint in runs.checkpoints(row.number, None, _ALL)
    ]
    if as_json:
        shown = [TuningEvent.of(row.job_id, event).model_dump(mode="json") for event in events[:limit]]
        more = {"events": shown, "checkpoints": [checkpoint.model_dump(mode="json") for checkpoint in checkpoints]}
        put_json({**view.model_dump(mode="json"), **more})
        return
    last = [f"goes on from the checkpoint of step {checkpoint.step_number:,}" for checkpoint in checkpoints[:1]]
    for line in (*_facts(view), *_losses(events), *([] if view.finished_at else last)):
        put(printable(line))
    rows = [(show_seconds(event.at // 1000), event.level, event.message) for event in reversed(events[:limit])]
    put("")
    console(data=True).print(table(None, ("time", "level", "event"), rows, whole=("time",)))


def cancel(run_id: _IdArgument, tenant: _TenantOption = None, as_json: OneJsonOption = False) -> None:
    """Cancel a run. Exit code 1: it had ended before.

    Example: `headrace tune cancel ftjob-7d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00`
    """
    ledger = need_ledger()
    before = _known(ledger, run_id, tenant)
    ledger.cancel(Cancellation(before.job_id, before.tenant, "cancelled by `headrace tune cancel`"))
    ring_bridges()
    view = TuningRun.of(_known(ledger, run_id, tenant))
    if as_json:
        put_view(view)
    say(f"{view.id} is {view.status}" if before.finished_at is None else f"too late: {view.id} is {view.status}")
    raise typer.Exit(0 if before.finished_at is None else 1)


def delete_model(
    alias: Annotated[str, typer.Argument(help="an alias of a tuned model")], tenant: _TenantOption = None
) -> None:
    """Delete a tuned model and its copy in the file store. The run goes with the last of its formats. Exit code 1: a
    job waits for the model, learns from it or makes it, or a label of an application uses it.

    `headrace up` of other machines that share the store removes it there, too. Another worker that holds the model
    serves it until it starts again.

    Example: `headrace models delete ft-smollm2-135m-instruct-tickets-1f0c7d2e`
    """
    ledger, home = need_ledger(), home_of()
    card = deletable(ledger, home, alias, tenant)
    remove_copy(Store.at(FileSettings.from_env().place(home)), alias)
    remove_model(ledger, home, card)
    say(f"{alias} is deleted")


def _known(ledger: Ledger, run_id: str, tenant: str | None) -> Row[Any]:
    """Return a run. Raise NoSuchThing if it does not exist, or is not the tenant's."""
    if (row := ledger.of(TuningRuns).run(job_id_of(run_id), tenant)) is None:
        raise NoSuchThing(f"there is no run {run_id!r}: `headrace tune list` shows all")
    return row


def _end(run: TuningRun) -> str:
    """Return when a run ended, or will end."""
    if run.finished_at is not None:
        return show_seconds(run.finished_at)
    return "" if run.estimated_finish is None else f"about {show_seconds(run.estimated_finish)}"


def _facts(run: TuningRun) -> Iterator[str]:
    yield f"{run.id} of {run.organization_id} is {run.status}"
    yield f"base {run.model}, data {run.training_file}" + (
        "" if run.validation_file is None else f", held-out data {run.validation_file}"
    )
    asked = run.hyperparameters
    yield f"epochs {asked.n_epochs}, batch size {asked.batch_size}, rate multiplier {asked.learning_rate_multiplier}"
    if run.finished_at is not None:
        yield f"ended {_end(run)}, after {show_ms(1000 * (run.finished_at - run.created_at))}"
    elif run.estimated_finish is not None:
        yield f"ends {_end(run)}"
    if run.error is not None:
        yield f"error {run.error.code}: {run.error.message}"
    if run.trained_tokens is not None:
        yield f"{run.trained_tokens:,} tokens trained"
    yield from (f"model {alias}" for alias in run.headrace.models)


def _losses(events: Sequence[Row[Any]]) -> Iterator[str]:
    """Yield a line of bars for each kind of loss, of events that come newest first."""
    figures = [json.loads(event.data) for event in reversed(events) if event.data is not None]
    for name, words in (("train_loss", "training loss"), ("valid_loss", "held-out loss")):
        steps = {figure["step"]: float(figure[name]) for figure in figures if name in figure}
        if steps:
            losses = list(steps.values())
            yield f"{words} {losses[0]:.4f} {_bars(losses)} {losses[-1]:.4f}, steps {min(steps):,} to {max(steps):,}"


def _bars(values: Sequence[float]) -> str:
    """Return a bar for each value, or for the mean of neighbours where there are many."""
    count = min(len(values), _MOST_BARS)
    parts = [values[len(values) * n // count : len(values) * (n + 1) // count] for n in range(count)]
    means = [sum(part) / len(part) for part in parts]
    least, span = min(means), max(means) - min(means) or 1.0
    return "".join(_BARS[min(len(_BARS) - 1, int((mean - least) / span * len(_BARS)))] for mean in means)
