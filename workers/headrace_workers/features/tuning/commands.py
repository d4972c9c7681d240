"""`headrace tune`: a model of the catalogue learns from examples."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace_workers.cli.options import JsonLinesOption
from headrace_workers.cli.output import console, flush, put, put_json, say
from headrace_workers.runtime.settings import home_of

if TYPE_CHECKING:
    from collections.abc import Callable


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("tune")(tune)


def tune(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.toml", help="base, data and how to train")],
    as_json: JsonLinesOption = False,
) -> None:
    """Fine-tune a model on this machine, and put it into the catalogue under a name of its own. It needs
    headrace[tune].

    A run that was interrupted goes on from its last checkpoint when you start it again. Nothing is published unless
    the served model computes what was trained.

    Example: `headrace tune tickets.toml`
    """
    from headrace_workers.features.tuning.recipe import plan_of
    from headrace_workers.features.tuning.training import tune as run

    home = home_of()
    plan = plan_of(recipe, home)
    with _shown(as_json) as show:
        published = run(plan, home, show)
    if not as_json:
        for alias in published["aliases"]:
            put(alias)


@contextmanager
def _shown(as_json: bool) -> "Iterator[Callable[[dict[str, Any]], None]]":
    """Show events: as JSON lines, as a bar on a terminal, else in a line each but the steps."""
    if as_json:

        def write(event: dict[str, Any]) -> None:
            put_json(event)
            flush()

        yield write
        return
    from headrace_workers.features.tuning.training import in_words

    if not console().is_terminal:
        yield lambda event: say(line) if (line := in_words(event)) else None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(), transient=True) as bar:
        task = bar.add_task("loading the base", total=None)

        def draw(event: dict[str, Any]) -> None:
            if event["kind"] == "step":
                words = f"step {event['step']:,} of {event['steps']:,}, loss {event['loss']:.3f}"
                bar.update(task, description=words, completed=event["step"], total=event["steps"])
            elif line := in_words(event):
                bar.console.print(line, markup=False)

        yield draw
