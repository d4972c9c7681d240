"""The command line with all commands."""

from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from typing import Annotated, Any, Final

import typer
from pydantic import ValidationError

from headrace_schemas.errors import Category, HeadraceError
from headrace_schemas.reasons import first_problem
from headrace_workers.cli.interrupts import heard
from headrace_workers.cli.lazy import MARKUP, LazyGroup, add_commands
from headrace_workers.cli.output import NoSuchThing, printable, put, say
from headrace_workers.cli.streams import ReaderGone, finish
from headrace_workers.core.environment import environment
from headrace_workers.core.feature import commands_in
from headrace_workers.core.log import configure
from headrace_workers.runtime.settings import unknown_variables
from headrace_workers.wiring.features import FEATURES

# Newer versions of Typer carry a click of their own: its errors are found through Typer's public names.
_USAGE_ERROR: Any = typer.BadParameter.__base__
_TEXT = ", not text"
_SHOWN = 80  # characters of an argument
_INTERRUPTED = 130
_PIPE_CLOSED = 141  # as a shell shows it of other tools: 128 + SIGPIPE

app = typer.Typer(
    name="headrace",
    cls=LazyGroup,
    help="Asynchronous LLM jobs: send a job, get back a moderated, judged, accounted-for answer.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["--help", "-h"]},
    rich_markup_mode=MARKUP,
    pretty_exceptions_enable=False,
)
_GROUPS: Final = {
    "dead": "Inspect and replay dead letters, and events that Kafka refused.",
    "ledger": "Manage the ledger's database.",
    "schema": "Export the contract, for services in other languages.",
}
_FIRST: Final = {"up": 0, "run": 1}  # a person begins with these
_JOBS: Final = {
    "up": "headrace_workers.wiring.up:up",
    "submit": "headrace_workers.cli.submit:submit",
    "results": "headrace_workers.cli.results:results",
    "status": "headrace_workers.cli.status:status",
    "cancel": "headrace_workers.cli.cancel:cancel",
    **commands_in("headrace_workers.cli.dead", {"dead list": "list_letters", "dead replay": "replay"}),
    "dead drop": "headrace_workers.cli.refused_events:drop",
}
_OPERATION: Final = {
    **commands_in(
        "headrace_workers.wiring.processes",
        {
            "bridge": "bridge",
            "worker": "worker",
            "gateway": "gateway",
            "health": "health",
            "init": "init",
            "ledger migrate": "migrate",
            "ledger bind": "bind",
        },
    ),
    "doctor": "headrace_workers.cli.doctor:doctor",
    "schema export": "headrace_workers.cli.schema:export",
}


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
    """Return all commands as Click's objects, listed only: a call imports its own."""
    root = typer.main.get_command(app)
    parts = [(_JOBS, _GROUPS), *((feature.commands, feature.groups) for feature in FEATURES), (_OPERATION, _GROUPS)]
    commands = {words: target for part, _ in parts for words, target in part.items()}
    order = sorted(commands, key=lambda words: (" " in words, _FIRST.get(words, len(_FIRST))))
    groups = {words: text for _, part in parts for words, text in part.items()}
    add_commands(root, {words: commands[words] for words in order}, groups)
    return root


def all_commands() -> Any:
    """Return all commands as Click's objects, each with its parameters."""
    root = _command()
    root.load()
    return root


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
