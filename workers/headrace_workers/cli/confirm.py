"""Confirmation by a person before anything that cannot be undone."""

import sys

import typer

from headrace_schemas.errors import ConfigurationError
from headrace_workers.cli.output import say


def be_sure(question: str, otherwise: str, *, before: str = "") -> None:
    """Ask on the terminal. On no, say `otherwise` and exit with code 1.

    Raise ConfigurationError if there is no terminal; its message begins with `before`.
    """
    if not sys.stdin.isatty():
        raise ConfigurationError(f"{before}there is no terminal to ask on: confirm with --yes")
    if not typer.confirm(question, err=True):
        say(otherwise)
        raise typer.Exit(1)
