"""`headrace judge`: how far a model may be trusted as a judge, and what another criterion would say."""

from typing import TYPE_CHECKING, Annotated

import typer

from headrace_producers.settings import ProducerSettings
from headrace_workers.cli.options import OneJsonOption
from headrace_workers.cli.output import console, put_json, say, table
from headrace_workers.features.judging.commands.judge_groundedness import groundedness
from headrace_workers.features.judging.commands.judge_try import try_criterion
from headrace_workers.runtime.settings import ModelSettings, home_of

if TYPE_CHECKING:
    from headrace_workers.features.judging.judge_probe import Measure, Probe


def register(app: typer.Typer) -> None:
    """Add these commands."""
    judge = typer.Typer(
        help="Test judges and criteria.\n\nExample: `headrace judge probe --model smollm2-135m-instruct`",
        no_args_is_help=True,
    )
    judge.command("probe")(probe)
    judge.command("try")(try_criterion)
    judge.command("groundedness")(groundedness)
    app.add_typer(judge, name="judge")


def probe(
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="the judge [HEADRACE_JUDGE_MODEL, else HEADRACE_MODEL]")
    ] = None,
    as_json: OneJsonOption = False,
) -> None:
    """Ask a model 24 plain questions for judges, and show what else changes its verdicts.

    Each item is asked in both orders, with padding, beside the model's own answer, on both scales, and once more alone.
    No service is needed.

    A judge that fails is refused as HEADRACE_JUDGE_MODEL by processes with this home (HEADRACE_ACCEPT_UNTRUSTED).

    The probe can show that a judge is useless. Only your own labels show that a judge is good (`headrace quality`).

    Example: `headrace judge probe --model smollm2-135m-instruct`
    """
    from headrace_workers.features.generation.engines.load_generator import load_generator
    from headrace_workers.features.generation.verifiers.measured import note_probe
    from headrace_workers.features.judging.judge_probe import probe as ask

    alias = model or ModelSettings.from_env().judge_model or ProducerSettings.from_env().model
    generator = load_generator(home_of(), alias, needs_logprobs=True)
    with console().status(f"asking {alias}"):
        found = ask(generator)
    note_probe(home_of(), alias, _fault(found))
    if as_json:
        put_json(_document(alias, found))
    else:
        _show(alias, found)


def _show(alias: str, found: "Probe") -> None:
    rows = [(each.name, *_cells(each), _holds(each)) for each in found.measures]
    columns = ("of its verdicts", "share", "interval", "wanted", "")
    console(data=True).print(table(None, columns, rows, right=("share",)))
    mass = "none" if found.mass is None else f"{found.mass:.2f}"
    say(f"{alias}: {found.asked - found.unanswered} of {found.asked} questions answered, median mass {mass}")
    say(_words(found))


def _cells(each: "Measure") -> tuple[str, str, str]:
    from headrace_workers.features.quality.estimates import Undefined

    wanted = "" if each.more_is_better is None else "≥ " if each.more_is_better else "≤ "
    if isinstance(each.found, Undefined):
        return "–", each.found.reason, f"{wanted}{each.bound:g}"
    interval = each.found.interval
    return f"{each.found.value:.2f}", f"{interval.low:.2f} to {interval.high:.2f}", f"{wanted}{each.bound:g}"


def _holds(each: "Measure") -> str:
    return {True: "yes", False: "no", None: "cannot tell" if each.more_is_better is not None else "no sign"}[each.holds]


def _words(found: "Probe") -> str:
    """Return advice in a sentence."""
    return _fault(found) or "nothing here speaks against it; label answers of your own before a decision hangs on it"


def _fault(found: "Probe") -> str | None:
    """Return why a model is no judge; None if nothing speaks against it."""
    missed = [each.name for each in found.measures if each.holds is False]
    if found.unanswered * 2 > found.asked:
        why = "" if found.trouble is None else f" (the first of its errors: {found.trouble})"
        return f"it mostly does not answer in the permitted words: no judge{why}; probe another with --model"
    if missed:
        return f"not to be trusted with: {'; '.join(missed)}"
    return None


def _document(alias: str, found: "Probe") -> dict[str, object]:
    from dataclasses import asdict

    measures = [{**asdict(each), "holds": each.holds} for each in found.measures]
    return {
        "model": alias, "asked": found.asked, "unanswered": found.unanswered, "median_mass": found.mass,
        "trouble": found.trouble, "measures": measures, "says": _words(found),
    }  # fmt: skip
