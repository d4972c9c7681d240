"""All commands together."""

import sys
from collections.abc import Sequence
from typing import Any

import typer

from headrace_schemas.errors import Category, HeadraceError
from headrace_workers.cli import cancel, dead, models, processes, results, schema, status, submit, up
from headrace_workers.cli import run as run_file
from headrace_workers.log import configure

# Newer versions of Typer carry a click of their own: its errors are found through Typer's public names.
_USAGE_ERROR: Any = typer.BadParameter.__base__

app = typer.Typer(
    name="headrace",
    help="Asynchronous LLM jobs: send a job, get back a moderated, judged, accounted-for answer.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
for module in (up, run_file, submit, results, status, cancel, dead, models, schema, processes):
    module.register(app)


def run(arguments: Sequence[str]) -> int:
    """Run one command; its exit code."""
    configure()
    try:
        result: Any = app(args=list(arguments), standalone_mode=False)
    except typer.Abort:
        return 130
    except _USAGE_ERROR as error:
        error.show()
        return 2
    except HeadraceError as error:
        sys.stderr.write(f"headrace: {error}\n")
        return 2 if error.category in (Category.INVALID, Category.PERMANENT) else 1
    except KeyboardInterrupt:
        return 130
    return result if isinstance(result, int) else 0
