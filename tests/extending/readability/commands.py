"""`headrace readability`: how easy answers are to read."""

from typing import Annotated

import typer

from headrace_workers.cli.connections import need_ledger
from headrace_workers.cli.options import JsonLinesOption, limit_option, tenant_meant
from headrace_workers.cli.output import console, put_view, table
from headrace_workers.features.readability.store import ReadabilityStore


def readability(
    tenant: Annotated[str | None, typer.Option("--tenant", help="whose answers; HEADRACE_TENANT")] = None,
    limit: Annotated[int, limit_option("so many answers")] = 10,
    as_json: JsonLinesOption = False,
) -> None:
    """List the answers with the most long sentences.

    Example: `headrace readability --limit 3`
    """
    found = need_ledger().of(ReadabilityStore).hardest(tenant_meant(tenant), limit)
    if as_json:
        for item in found:
            put_view(item)
        return
    rows = [(item.job_id, f"{item.sentences:,}", f"{item.long_sentences:,}") for item in found]
    columns = ("job", "sentences", "long sentences")
    console(data=True).print(table(None, columns, rows, right=("sentences", "long sentences")))
