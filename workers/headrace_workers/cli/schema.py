"""`headrace schema`: the contract, for services in other languages."""

from pathlib import Path
from typing import Annotated

import typer

from headrace_schemas.errors import ConfigurationError
from headrace_schemas.export import export as write
from headrace_workers.cli.output import put, put_json, say
from headrace_workers.core.feature import installed


def export(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="the folder; it is created if it does not exist")],
    as_json: Annotated[bool, typer.Option("--json", help="print the paths as a JSON list")] = False,
) -> None:
    """Write a JSON Schema of each event and an AsyncAPI 3 document, and print their paths.

    Example: `headrace schema export contract/`
    """
    installed()  # so that the events of features are known
    try:
        written = write(directory)
    except OSError as error:
        raise ConfigurationError(f"{directory} cannot be written: {error.strerror}") from error
    if as_json:
        put_json([str(path) for path in written])
    else:
        for path in written:
            put(str(path))
    say(f"{len(written)} files")
