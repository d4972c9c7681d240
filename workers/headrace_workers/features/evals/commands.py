"""`headrace evaluate`: variants of a prompt or model over the same items, and a report that says which is better."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from headrace_producers.settings import ProducerSettings
from headrace_schemas.errors import Category, ConfigurationError, HeadraceError
from headrace_workers.cli.connections import find_ledger
from headrace_workers.cli.durations import parse_duration
from headrace_workers.cli.jobfile import JobFile
from headrace_workers.cli.output import console, hush_kafka, put, put_json, say, table, without_controls, write_file
from headrace_workers.core.job_defaults import Defaults
from headrace_workers.features.batches.commands.receipt_file import ReceiptFile
from headrace_workers.features.batches.commands.run import ByContent
from headrace_workers.features.batches.commands.run_jobs import ThisRun, carry, models_for
from headrace_workers.features.evals.analysis import Gate, analyse, judge_gate
from headrace_workers.features.evals.outcomes import opened, read_outcomes
from headrace_workers.features.evals.plan import Plan, read_dataset
from headrace_workers.features.evals.report import (
    SCORES_IN_SHORT,
    markdown,
    reason_lines,
    report_lines,
    short_score_rows,
    summary,
    verdict_lines,
)
from headrace_workers.features.evals.report_page import report_page
from headrace_workers.features.evals.run_file import read_run
from headrace_workers.features.generation.commands.serving import ends_on_sigterm, need_models
from headrace_workers.features.quality.store import Labels
from headrace_workers.runtime.settings import ModelSettings

_PINNED, _JOBS, _RECEIPTS = "run.json", "jobs.jsonl", "receipts.jsonl"
_HTML, _JSON, _MARKDOWN = "report.html", "report.json", "report.md"
_NO_FOLDER = re.compile(r"[^\w.-]+")
_LONGEST_FOLDER = 60  # characters
_WRITTEN = (_PINNED, _JOBS, _RECEIPTS, _HTML, _JSON, _MARKDOWN)


class AnotherRun(HeadraceError):
    """A folder that holds a run with another run file or dataset."""

    category = Category.INVALID


def evaluate(
    file: Annotated[Path, typer.Argument(metavar="RUN.toml", help="the run file: dataset, variants and criteria")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FOLDER", help="folder for the report; by default the run's name and a digest"
        ),
    ] = None,
    gate: Annotated[
        str | None, typer.Option("--gate", help="exit code 1 unless this holds with certainty, e.g. 'B >= A - 0.02'")
    ] = None,
    wait: Annotated[
        str | None,
        typer.Option("--wait", help="report after, e.g. 10m, 2h; 0s sends no jobs; by default when all have ended"),
    ] = None,
    name: Annotated[
        str, typer.Option("--name", help="a new name runs all jobs again, even if they were answered")
    ] = "",
    start: Annotated[bool, typer.Option("--start/--no-start", help="start a stack if none runs")] = True,
    engine_threads: Annotated[
        int | None, typer.Option("--engine-threads", min=1, help="threads of the models; all cores by default")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="print the report without its items as one JSON object")
    ] = False,
) -> None:
    """Run every variant on every item, judge the answers, and say which variant is better, or how many more items that
    takes.

    Writes report.html, report.json and report.md into FOLDER, beside the jobs and their receipts. If it is interrupted
    or killed, run it again: it continues. A folder belongs to one run file and one dataset, by their content.

    Exit code 1: the gate does not hold with certainty, or jobs have not ended yet. Failed jobs are in the report.

    Example: `headrace evaluate run.toml -o report --gate "B >= A - 0.02"`
    """
    hush_kafka()
    settings = ProducerSettings.from_env()
    run = read_run(file, settings.model)
    bound = None if gate is None else Gate.parse(gate, run)
    patience = None if wait is None else parse_duration(wait).total_seconds()
    dataset = read_dataset(file.parent / run.dataset, run.id, run.cluster)
    plan = Plan(run, dataset, run.tenant or settings.tenant, name)
    serving = Serving(start, engine_threads, patience)
    _, passed = carry_out(plan, output, bound, serving, as_json=as_json)
    raise typer.Exit(0 if passed else 1)


class Serving(NamedTuple):
    """How the jobs of a run are answered: see the options of `evaluate`. `models` are those of applications."""

    start: bool
    engine_threads: int | None
    patience: float | None = None
    models: Sequence[str] = ()


def carry_out(
    plan: Plan, output: Path | None, bound: Gate | None, serving: Serving, *, as_json: bool
) -> tuple[dict[str, Any], bool]:
    """Run a plan in its folder, write the report, and print its summary. Return it without its items, and True if all
    jobs have ended and the gate, if any, is passed.
    """
    folder = output or Path(f"{_as_folder(plan.run.name)}-{plan.identity[:10]}")
    with ends_on_sigterm():
        _pin(plan, folder)
        _answer(plan, folder, serving)
    return _report(plan, folder, bound, as_json=as_json)


def _as_folder(name: str) -> str:
    """Return a run's name as a valid folder name."""
    return _NO_FOLDER.sub("-", name).strip("-.")[:_LONGEST_FOLDER] or "evaluation"


def _pin(plan: Plan, folder: Path) -> None:
    """Write down what the run is before it sends anything. Raise AnotherRun if the folder holds another run."""
    pinned = folder / _PINNED
    text = json.dumps({"identity": plan.identity, **plan.pinned}, ensure_ascii=False, indent=1)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if pinned.is_file():
            _same_run(plan, json.loads(pinned.read_bytes()), folder)
            return
        if strange := [name for name in _WRITTEN if (folder / name).exists()]:
            raise AnotherRun(f"{folder} has a {strange[0]} that is of no run: choose another folder with -o")
        write_file(folder / _JOBS, plan.lines())
        write_file(pinned, [text.encode()])
    except ValueError:
        raise AnotherRun(f"`evaluate` did not write {pinned}: choose another folder with -o") from None
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be written: {error.strerror}; choose another with -o") from error


def _same_run(plan: Plan, there: dict[str, Any], folder: Path) -> None:
    if there.get("identity") == plan.identity:
        return
    mine = plan.pinned
    fields = [name for name in mine["run"] if (there.get("run") or {}).get(name) != mine["run"][name]]
    others = [name for name in mine if name != "run" and there.get(name) != mine[name]]
    raise AnotherRun(
        f"{folder} holds another run: {', '.join(fields + others)} changed since it was pinned. Choose another folder "
        "with -o, or leave -o out: then each run has its own"
    )


def _answer(plan: Plan, folder: Path, serving: Serving) -> None:
    """Bring all jobs that have not ended to their ends."""
    with (folder / _JOBS).open("rb") as stream, ReceiptFile(folder / _RECEIPTS) as receipts:
        jobs = JobFile(stream, _JOBS, Defaults(""), ByContent())
        entries = jobs.check()
        todo = [entry for entry in entries if entry.job_id not in receipts.job_ids]
        if answered := len(entries) - len(todo):
            say(f"{receipts.path} has {answered:,} of {len(entries):,} receipts already")
        if not todo or serving.patience == 0:
            return
        default = plan.run.variants[0].model or ProducerSettings.from_env().model
        models = models_for(jobs, default, ModelSettings.from_env().judge_model)
        models = list(dict.fromkeys([*serving.models, *models]))
        need_models(models)
        try:
            carry(
                jobs, models, entries, todo, f"evaluate {plan.identity}", receipts, ThisRun(), start=serving.start,
                engine_threads=serving.engine_threads, patience=serving.patience,
            )  # fmt: skip
        except BaseException:
            there = len(receipts.job_ids)
            say(f"{there:,} of {len(entries):,} are in {receipts.path}; run the same command to continue")
            raise


def _labels(plan: Plan) -> list[Any]:
    """Return people's labels of the tenant's jobs if a ledger is found. A report is written in any case."""
    try:
        ledger = find_ledger()
        return [] if ledger is None else list(ledger.of(Labels).all(plan.tenant))
    except HeadraceError as error:
        say(f"people's labels are not in the report: {error}")
        return []


def _report(plan: Plan, folder: Path, bound: Gate | None, *, as_json: bool) -> tuple[dict[str, Any], bool]:
    """Write the report in its three forms and print its summary."""
    with opened(folder / _RECEIPTS, plan.jobs) as receipts:
        outcomes = read_outcomes(plan, receipts)
        analysis = analyse(plan, outcomes, _labels(plan))
        gate = None if bound is None else judge_gate(bound, plan, outcomes)
        head = summary(plan, analysis, gate)
        write_file(folder / _JSON, report_lines(head, plan, receipts))
        write_file(folder / _MARKDOWN, [without_controls(markdown(plan, analysis, gate)).encode()])
        write_file(folder / _HTML, [report_page(plan, analysis, gate, receipts).encode()])
    if as_json:
        put_json(head)
    else:
        for line in verdict_lines(plan, analysis):
            put(without_controls(line))
        if gate is not None:
            put(gate.words)
        for line in reason_lines(analysis):
            put(without_controls(line))
        put("")
        console(data=True).print(table(None, SCORES_IN_SHORT, short_score_rows(analysis), right=("mean", "items")))
    if analysis.missing:
        say(f"{analysis.missing:,} of {plan.jobs:,} jobs have not ended yet: run the same command to continue")
    say(f"report: {folder / _HTML}, .json, .md")
    return head, analysis.missing == 0 and (gate is None or gate.passed)
