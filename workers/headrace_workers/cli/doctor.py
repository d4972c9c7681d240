"""`headrace doctor`: checks of the services and their settings, and what to do where one fails."""

import typer

from headrace_workers.cli.doctor_checks import all_checks, examine
from headrace_workers.cli.options import JsonLinesOption
from headrace_workers.cli.output import hush_kafka, printable, put, put_json
from headrace_workers.core.feature import Finding
from headrace_workers.runtime.settings import Settings


def doctor(as_json: JsonLinesOption = False) -> None:
    """Check Kafka, its topics and their limits, the ledger, Redis, problems that bridges report, and models.

    It changes nothing. Exit code 1: something is wrong now; each line says what to do. A line that begins with `was`
    tells of a fault that is over.

    Example: `headrace doctor`
    """
    hush_kafka()
    findings = list(examine(all_checks(), Settings.from_env()))
    for finding in findings:
        if as_json:
            put_json({"what": finding.what, "ok": not finding.wrong, "wrong": finding.wrong, "was": finding.was})
        else:
            put(printable(_line(finding)))
    raise typer.Exit(1 if any(finding.wrong for finding in findings) else 0)


def _line(finding: Finding) -> str:
    if finding.wrong:
        return f"WRONG  {finding.what}: {finding.wrong}"
    return f"was    {finding.what}: {finding.was}" if finding.was else f"ok     {finding.what}"
