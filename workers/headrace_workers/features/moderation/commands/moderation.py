"""`headrace moderation`: a text's verdict, the policy, a report, and the training of a head."""

import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import typer
from numpy.typing import NDArray

from headrace_schemas import HeadraceError
from headrace_schemas.errors import ConfigurationError
from headrace_schemas.limits import MAX_TEXT
from headrace_workers.cli.connections import need_ledger
from headrace_workers.cli.durations import milliseconds, parse_time
from headrace_workers.cli.options import JsonLinesOption, OneJsonOption, limit_option
from headrace_workers.cli.output import console, put_json, put_view, say, table
from headrace_workers.features.knowledge.commands import embedder_here
from headrace_workers.features.moderation.commands.moderation_try import aids_here
from headrace_workers.features.moderation.detector import Moderation
from headrace_workers.features.moderation.head_training import card, read_examples
from headrace_workers.features.moderation.head_training import train as learn
from headrace_workers.features.moderation.moderator import build_moderator, shipped_detectors, with_policy
from headrace_workers.features.moderation.policy import REGENERATE
from headrace_workers.features.moderation.policy_file import load_policy
from headrace_workers.features.moderation.settings import ModerationSettings
from headrace_workers.features.moderation.store import ModeratedJobs, Span, VerdictRow
from headrace_workers.features.moderation.views import ModerationPolicy
from headrace_workers.models.embedders.embedder import Embedder
from headrace_workers.models.heads import save_head

_COLUMNS = ("from", "texts", "redacted", "blocked", "category", "looked at", "objected to", "share")
_AT_ONCE: Final = 256
_FILE_NAME: Final = re.compile(r"(?=\S*/|[\w-]+\.[A-Za-z]{1,5}$)\S+")  # what looks like one: it may be misspelt

PolicyOption = Annotated[
    Path | None, typer.Option("--policy", help="this policy file instead of HEADRACE_POLICY", dir_okay=False)
]


def check(
    text: Annotated[
        str | None,
        typer.Argument(metavar="[TEXT|FILE|-]", help="a text, a UTF-8 file that holds it, or - for standard input"),
    ] = None,
    policy: PolicyOption = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="use the policy of this tenant")] = None,
    as_json: OneJsonOption = False,
) -> None:
    """Show what moderation would do with a text, and why. Without a text, check the policy with its blocklists, as a
    worker would read it.

    No service is needed. The text leaves this process only if the policy names an endpoint: it is sent there. Exit code
    2: the policy is wrong, with the line and why.

    Examples: `headrace moderation check "Write to ann@headrace.io."`, `headrace moderation check --policy policy.toml`
    """
    if text is None:
        if policy is None:
            raise ConfigurationError("give a text, or --policy FILE to check a policy")
        _check_policy(policy, as_json)
        return
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


def _check_policy(file: Path, as_json: bool) -> None:
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
    for finding in moderation.findings:
        where = f"{finding.start}-{finding.end}"
        span = text[finding.start : finding.end]
        yield finding.category, finding.action, f"{finding.score:.2f}", where, finding.detector, span


class Period(StrEnum):
    """The period over which verdicts are counted."""

    DAY = "day"
    HOUR = "hour"


@dataclass
class Counts:
    """The counts of one period: actions, and for each category how often it was checked and found."""

    actions: Counter[str] = field(default_factory=Counter)
    looked: Counter[str] = field(default_factory=Counter)
    objected: Counter[str] = field(default_factory=Counter)


def report(
    since: Annotated[
        str, typer.Option("--since", help="only jobs that ended since: 10m, 2h, 3d, or an ISO 8601 time")
    ] = "7d",
    tenant: Annotated[str | None, typer.Option("--tenant", help="only jobs of this tenant")] = None,
    by: Annotated[Period, typer.Option("--by", help="the period, in UTC")] = Period.DAY,
    limit: Annotated[int, limit_option("the number of jobs, newest first")] = 100_000,
    as_json: JsonLinesOption = False,
) -> None:
    """Show how often moderation objected, by period and category, from the receipts in the ledger.

    A share counts the texts that were checked for the category. If none was, there is no share.

    Example: `headrace moderation report --since 30d --tenant shop`
    """
    ledger = need_ledger()
    now = ledger.now()
    begin = milliseconds(parse_time(since, datetime.fromtimestamp(now / 1000, UTC)))
    counted = count(ledger.of(ModeratedJobs).verdicts(Span(begin, now + 1, tenant), limit), by)
    if not counted:
        say(f"moderation said nothing since {since}: no job with a verdict has ended, or all are forgotten")
    elif as_json:
        for start, counts in counted.items():
            put_json({"from": start, "actions": counts.actions, "looked_at": counts.looked,
                      "objected_to": counts.objected})  # fmt: skip
    else:
        rows = [row for start, counts in counted.items() for row in _rows(start, counts)]
        console(data=True).print(table(None, _COLUMNS, rows, right=(*_COLUMNS[1:4], *_COLUMNS[5:])))


def count(verdicts: Iterable[VerdictRow], by: Period) -> dict[str, Counts]:
    """Return the counts by the beginning of each period, the oldest first. Empty periods are left out."""
    found: dict[str, Counts] = {}
    for verdict in verdicts:
        at = datetime.fromtimestamp(verdict.ended_at / 1000, UTC)
        start = at.strftime("%Y-%m-%d" if by is Period.DAY else "%Y-%m-%dT%H:00Z")
        counts = found.setdefault(start, Counts())
        counts.actions[verdict.action] += 1
        counts.looked.update(verdict.categories.keys())
        counts.objected.update(name for name, objected in verdict.categories.items() if objected)
    return dict(sorted(found.items()))


def _rows(start: str, counts: Counts) -> list[tuple[str, ...]]:
    texts, redacted, blocked = counts.actions.total(), counts.actions["redact"], counts.actions["block"]
    head = (start, f"{texts:,}", f"{redacted:,}", f"{blocked:,}")
    return [
        (*head, name, f"{looked:,}", f"{counts.objected[name]:,}", f"{counts.objected[name] / looked:.1%}")
        for name, looked in sorted(counts.looked.items())
    ] or [(*head, "", "", "", "")]


def train(
    data: Annotated[list[Path], typer.Argument(metavar="DATA...", help="JSON lines: text, source, labels or benign")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="file for the head; its card is written beside it, as .md")
    ],
    as_json: OneJsonOption = False,
) -> None:
    """Train a head over the embedder's vectors, and write it with a card that reports its quality.

    A category needs 100 positives from at least 2 sources. Figures come from sources that training left out. You are
    responsible for the licence of each source; the card repeats what the data says.

    Example: `headrace moderation train labelled.jsonl benign.jsonl -o head.safetensors`
    """
    if output.suffix != ".safetensors":
        raise ConfigurationError(f"--output {output}: a head's file ends in .safetensors")
    if not output.parent.is_dir():
        raise ConfigurationError(f"--output {output}: there is no folder {output.parent}")
    embedder = embedder_here()
    examples = list(read_examples(data))
    if not examples:
        raise ConfigurationError("these files have no examples")
    trained = learn(examples, _vectors([example.text for example in examples], embedder), embedder.id)
    beside = output.with_suffix(".md")
    save_head(output, trained.head, {})
    beside.write_text(card(trained, examples, output.name), encoding="utf-8")
    if as_json:
        put_json({"head": str(output), "card": str(beside), "version": trained.head.version,
                  "categories": list(trained.head.names), "left_out": trained.left_out})  # fmt: skip
    for name, reason in trained.left_out.items():
        say(f"not trained: {name}, {reason}")
    say(f"{output}: {', '.join(trained.head.names)}; {beside} says how well it does")


def _vectors(texts: Sequence[str], embedder: Embedder) -> NDArray[np.float32]:
    import numpy as np
    from rich.progress import track

    parts = range(0, len(texts), _AT_ONCE)
    shown = track(parts, description="reading", console=console(), transient=True)
    return np.concatenate([embedder.embed(texts[at : at + _AT_ONCE]) for at in shown])
