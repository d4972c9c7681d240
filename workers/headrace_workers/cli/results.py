"""`headrace results`: print receipts as they come."""

from typing import Annotated

import typer

from headrace_producers import KafkaSettings, ResultReader
from headrace_workers.cli.options import JsonLinesOption
from headrace_workers.cli.output import flush, hush_kafka, printable, put, put_bytes, say
from headrace_workers.cli.receipts import Receipt, one_line


def results(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="print new ends until Ctrl-C")] = False,
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="with --follow: first print the existing ends")
    ] = False,
    tenant: Annotated[str | None, typer.Option("--tenant", help="only of this tenant")] = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="stop after so many")] = None,
    as_json: JsonLinesOption = False,
) -> None:
    """Print the ends of jobs: results, cancellations and dead letters. Without --follow, print the ends that exist now.

    They are read from Kafka, which keeps them for a limited time; an embedded broker may keep them in memory.

    Examples: `headrace results --follow`, `headrace results --json | jq -r .answer.text`
    """
    hush_kafka()
    shown = 0
    with ResultReader(KafkaSettings.from_env(), from_beginning=from_beginning or not follow) as reader:
        for received in reader.read() if follow else reader.read_existing():
            if tenant is not None and received.event.tenant != tenant:
                continue
            receipt = Receipt(received.event)
            if as_json:
                put_bytes(receipt.to_json())
            else:
                put(printable(one_line(receipt)))
            flush()
            shown += 1
            if shown == limit:
                break
        if reader.unreadable:
            say(f"{reader.unreadable} records were skipped: they do not match the contract")
    if not shown and not follow:
        say("no receipts")
