"""Options that many commands have, in the same words."""

from typing import Annotated

import typer

JsonLinesOption = Annotated[bool, typer.Option("--json", help="print JSON lines")]
OneJsonOption = Annotated[bool, typer.Option("--json", help="print one JSON object")]
