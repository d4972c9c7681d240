"""Options that many commands have, in the same words."""

from typing import Annotated, Any, Final

import typer

# What databases can count is less than what can be typed.
_MOST_LISTED: Final = 10_000_000
MOST_TOKENS: Final = 10**14

JsonLinesOption = Annotated[bool, typer.Option("--json", help="print JSON lines")]
OneJsonOption = Annotated[bool, typer.Option("--json", help="print one JSON object")]


def limit_option(help: str) -> Any:
    """How many of something are listed or looked at."""
    return typer.Option("--limit", "-n", min=1, max=_MOST_LISTED, help=help)
