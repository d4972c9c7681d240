"""`headrace moderation`: what moderation says of a text, and whether a policy file is right."""

import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final

import typer

from headrace_schemas import HeadraceError
from headrace_schemas.errors import ConfigurationError
from headrace_schemas.limits import MAX_TEXT
from headrace_workers.cli.options import OneJsonOption
from headrace_workers.cli.output import console, put_json, put_view, say, table
from headrace_workers.core.ports import Moderation
from headrace_workers.features.moderation.commands import held
from headrace_workers.features.moderation.commands.aids import aids_here
from headrace_workers.features.moderation.commands.moderation_report import report
from headrace_workers.features.moderation.commands.moderation_train import train
from headrace_workers.features.moderation.commands.moderation_try import try_policy
from headrace_workers.features.moderation.settings import ModerationSettings

_FILE_NAME: Final = re.compile(r"(?=\S*/|[\w-]+\.[A-Za-z]{1,5}$)\S+")  # what looks like one: it may be misspelt

PolicyOption = Annotated[
    Path | None, typer.Option("--policy", help="this policy file instead of HEADRACE_POLICY", dir_okay=False)
]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    moderation = typer.Typer(help="Moderate a text, test policies, decide about held jobs.", no_args_is_help=True)
    moderation.command("check")(check)
    moderation.command("train")(train)
    moderation.command("report")(report)
    moderation.command("try")(try_policy)
    policy = typer.Typer(
        help="Check policy files.\n\nExample: `headrace moderation policy check policy.toml`", no_args_is_help=True
    )
    policy.command("check")(check_policy)
    moderation.add_typer(policy, name="policy")
    held.register(moderation)
    app.add_typer(moderation, name="moderation")


def check(
    text: Annotated[
        str, typer.Argument(metavar="TEXT|FILE|-", help="a text, a UTF-8 file that holds it, or - for standard input")
    ],
    policy: PolicyOption = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="use the policy of this tenant")] = None,
    as_json: OneJsonOption = False,
) -> None:
    """Show what moderation would do with a text, and why.

    No service is needed. The text leaves this process only if the policy names an endpoint: it is sent there.

    Example: `headrace moderation check "Write to ann@headrace.io." --policy policy.toml`
    """
    from headrace_workers.features.moderation.moderator import build_moderator

    whole = _read(text)
    (verdict,) = build_moderator(policy or ModerationSettings.from_env().policy, aids_here()).moderate(
        [whole], None if tenant is None else [tenant]
    )
    if isinstance(verdict, HeadraceError):
        raise verdict
    if as_json:
        document = verdict.verdict.model_dump(mode="json")
        put_json({**document, "not_covered": list(verdict.verdict.not_covered), "text": verdict.text})
    else:
        _show(whole, verdict)


def check_policy(
    file: Annotated[Path, typer.Argument(help="a policy, in TOML", dir_okay=False)], as_json: OneJsonOption = False
) -> None:
    """Check a policy with its blocklists, as a worker would read it. Exit code 2: it is wrong, with the line and why.

    Example: `headrace moderation policy check policy.toml`
    """
    from headrace_workers.features.moderation.moderator import shipped_detectors, with_policy
    from headrace_workers.features.moderation.policy import REGENERATE
    from headrace_workers.features.moderation.policy_file import load_policy
    from headrace_workers.features.moderation.views import ModerationPolicy

    policy = load_policy(file)
    detectors = shipped_detectors()
    moderator = with_policy(detectors, policy, aids_here())
    view = ModerationPolicy.of(policy, moderator.looks_for)
    if as_json:
        put_view(view)
        return
    rows = [
        (name, REGENERATE if rule.again else rule.action, f"{rule.min_score:g}", str(rule.detectors),
         str(len(rule.allowed)))
        for name, rule in view.categories.items()
    ]  # fmt: skip
    columns = ("category", "action", "min_score", "detectors", "allowed")
    console(data=True).print(table(None, columns, rows, right=columns[2:]))
    for name, version in view.tenants.items():
        say(f"tenant {name}: policy {version}")
    say(f"{file} is right: policy {view.policy}")


def _read(given: str) -> str:
    """Return the text of the argument or the file. It is no longer than moderation allows."""
    if given == "-":
        data = sys.stdin.buffer.read(4 * MAX_TEXT + 1)
        return _decoded(data, "standard input")
    with suppress(OSError, ValueError):  # a text may be too long for a file's name, or hold what no name may
        if (path := Path(given)).is_file():
            with path.open("rb") as file:
                return _decoded(file.read(4 * MAX_TEXT + 1), given)
    if _FILE_NAME.fullmatch(given):
        say(f"{given[:200]} is not a file here; it is taken as the text itself")
    return _bounded(given, "the text")


def _decoded(data: bytes, where: str) -> str:
    try:
        return _bounded(data.decode(), where)
    except UnicodeDecodeError as error:
        if len(data) <= 4 * MAX_TEXT:
            raise ConfigurationError(f"{where} is not UTF-8: byte {error.start} cannot be read") from None
        raise ConfigurationError(_too_long(where)) from None


def _bounded(text: str, where: str) -> str:
    if len(text) > MAX_TEXT:
        raise ConfigurationError(_too_long(where))
    return text


def _too_long(where: str) -> str:
    return f"{where} has more than {MAX_TEXT:,} characters, which no job may have: check a part of it"


def _show(text: str, moderation: Moderation) -> None:
    verdict = moderation.verdict
    rows = [
        (name, "yes" if objected else "no", f"{verdict.category_scores.get(name, 0.0):.2f}")
        for name, objected in sorted(verdict.categories.items())
    ]
    out = console(data=True)
    out.print(table(None, ("category", "objected to", "score"), rows, right=("score",)))
    if verdict.findings:
        columns = ("found", "action", "score", "at", "by", "text")
        out.print(table(None, columns, _findings(text, moderation), right=("score",), clip=("text",)))
    say(f"not covered: {', '.join(verdict.not_covered)}")
    say(f"{verdict.action}, by policy {verdict.policy}")


def _findings(text: str, moderation: Moderation) -> Iterator[tuple[str, ...]]:
    for found in moderation.findings:
        where = f"{found.start}-{found.end}"
        span = text[found.start : found.end]
        yield found.category, found.action, f"{found.score:.2f}", where, found.detector, span
