"""The command line with all commands."""

from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from typing import Annotated, Any, Final

import typer
from pydantic import ValidationError

from headrace_schemas.errors import Category, HeadraceError
from headrace_schemas.reasons import first_problem
from headrace_workers.cli import cancel, dead, doctor, outbox_commands, results, schema, status, submit
from headrace_workers.cli.interrupts import heard
from headrace_workers.cli.output import NoSuchThing, printable, put, say
from headrace_workers.cli.streams import ReaderGone, finish
from headrace_workers.core.environment import environment
from headrace_workers.core.log import configure
from headrace_workers.runtime.settings import unknown_variables
from headrace_workers.wiring import processes, up
from headrace_workers.wiring.features import FEATURES

# Newer versions of Typer carry a click of their own: its errors are found through Typer's public names.
_USAGE_ERROR: Any = typer.BadParameter.__base__
_TEXT = ", not text"
_SHOWN = 80  # characters of an argument
_INTERRUPTED = 130
_PIPE_CLOSED = 141  # as a shell shows it of other tools: 128 + SIGPIPE

app = typer.Typer(
    name="headrace",
    help="Asynchronous LLM jobs: send a job, get back a moderated, judged, accounted-for answer.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["--help", "-h"]},
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
_JOBS: Final = (up, submit, results, status, cancel, dead)
_FIRST: Final = {"up": 0, "run": 1}  # commands at the top of the help
_OPERATION: Final = (processes, outbox_commands, doctor, schema)
for register in (
    *(module.register for module in _JOBS),
    *(register for feature in FEATURES for register in feature.commands()),
    *(module.register for module in _OPERATION),
):
    register(app)
# A person begins with these.
app.registered_commands.sort(key=lambda command: _FIRST.get(command.name or "", len(_FIRST)))


def _version(wanted: bool) -> None:
    if wanted:
        put(f"headrace {version('headrace')}")
        raise typer.Exit


@app.callback()
def _options(
    show: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="show the version and exit")
    ] = False,
) -> None:
    pass


def run(arguments: Sequence[str]) -> int:
    """Run one command; its exit code."""
    configure()
    _warn_of_unknown_variables()
    try:
        try:
            with heard():
                return _call(arguments)
        finally:
            finish()
    except ReaderGone:
        return _PIPE_CLOSED
    except HeadraceError as error:
        say(f"headrace: {error}")
        wrong = error.category in (Category.INVALID, Category.PERMANENT) and not isinstance(error, NoSuchThing)
        return 2 if wrong else 1
    except UnicodeEncodeError:
        if (torn := next(filter(_is_torn, arguments), None)) is None:
            raise
        say(f"headrace: {printable(torn)[:_SHOWN]} is not UTF-8, and names nothing")
        return 2
    except OSError as error:
        # Errors that no command foresaw. The place and the reason are all that a person can use.
        say(f"headrace: {error.filename or 'the system'}: {error.strerror or error}")
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED


def _warn_of_unknown_variables() -> None:
    """Name the variables that have no effect. A setting with a slip in it, such as a retention, would be a trap."""
    for name in unknown_variables(environment()):
        say(f"warning: nothing reads the variable {printable(name)[:_SHOWN]}; docs/configuration.md lists all")


def _is_torn(argument: str) -> bool:
    """Return True if it had bytes that are no text: that is how Python hands them on. Files may be called so."""
    return any("\ud800" <= character <= "\udfff" for character in argument)


@cache
def _command() -> Any:
    """Return all commands as Click's objects: to build them takes as long as a short command."""
    return typer.main.get_command(app)


def _call(arguments: Sequence[str]) -> int:
    try:
        result: Any = _command()(args=list(arguments), standalone_mode=False)
    except typer.Abort:
        return _INTERRUPTED
    except _USAGE_ERROR as error:
        if isinstance(error.__cause__, ValidationError):  # newer versions of Typer let pydantic look at values
            error.message = first_problem(error.__cause__)[1].removesuffix(_TEXT)  # which all of a command line is
        error.show()
        return 2
    return result if isinstance(result, int) else 0
