"""Options that many commands have, in the same words."""

from typing import Annotated, Final

import typer

# What databases can count is less than what can be typed.
MOST_LISTED: Final = 10_000_000
MOST_TOKENS: Final = 10**14

JsonLinesOption = Annotated[bool, typer.Option("--json", help="print JSON lines")]
OneJsonOption = Annotated[bool, typer.Option("--json", help="print one JSON object")]
