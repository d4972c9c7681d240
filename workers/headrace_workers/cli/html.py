"""`--html PAGE`: what a command found, as a page with plots."""

from pathlib import Path
from typing import Annotated

import typer

from headrace_schemas.errors import ConfigurationError
from headrace_workers.cli.output import say

HtmlOption = Annotated[Path | None, typer.Option("--html", metavar="PAGE", help="write a page with plots here")]


def refuse_unwritable(html: Path | None) -> None:
    """Raise ConfigurationError if the page cannot be written, before minutes are spent on its content."""
    if html is not None and (html.is_dir() or not html.absolute().parent.is_dir()):
        raise ConfigurationError(f"{html} cannot be written: name a file in a folder that exists")


def write_page(html: Path, page: str) -> None:
    """Write the page. Raise ConfigurationError if that fails."""
    try:
        html.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{html} cannot be written: {error.strerror}; choose another file") from error


def say_where(html: Path | None) -> None:
    """Say where the page lies."""
    if html is not None:
        say(f"the page: {html}")
