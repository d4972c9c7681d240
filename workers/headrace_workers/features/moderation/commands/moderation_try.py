"""`headrace moderation try`: compares a policy with what moderation did earlier."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import typer
from pydantic_core import from_json

from headrace_schemas import HeadraceError
from headrace_workers.cli.connections import need_ledger
from headrace_workers.cli.durations import milliseconds, parse_time
from headrace_workers.cli.options import OneJsonOption, limit_option
from headrace_workers.cli.output import console, put_json, say, table
from headrace_workers.features.knowledge.commands import embedder_here
from headrace_workers.features.moderation.detector import Instructions, Moderator
from headrace_workers.features.moderation.moderator import Aids, build_moderator
from headrace_workers.features.moderation.settings import ModerationSettings
from headrace_workers.features.moderation.store import ModeratedJobs, Span
from headrace_workers.models.engines.load_generator import load_generator
from headrace_workers.models.generator import Generator
from headrace_workers.runtime.settings import home_of

RELEASED: Final = "released"  # a person let it pass
UNDECIDED: Final = "held: a detector failed"
_AT_ONCE: Final = 64


class On(StrEnum):
    """The texts to moderate: answers, or the texts of moderation jobs."""

    OUTPUTS = "outputs"
    TEXTS = "texts"


def try_policy(
    policy: Annotated[Path, typer.Argument(help="a policy, in TOML", dir_okay=False)],
    on: Annotated[On, typer.Option("--on", help="answers, or the texts of moderation jobs")] = On.OUTPUTS,
    since: Annotated[
        str, typer.Option("--since", help="only jobs that ended since: 10m, 2h, 3d, or an ISO 8601 time")
    ] = "7d",
    tenant: Annotated[str | None, typer.Option("--tenant", help="only jobs of this tenant")] = None,
    examples: Annotated[
        int, typer.Option("--examples", min=0, max=1_000, help="the number of jobs to name for each change")
    ] = 5,
    limit: Annotated[int, limit_option("the number of jobs, newest first")] = 10_000,
    as_json: OneJsonOption = False,
) -> None:
    """Compare a policy with what moderation did with texts in the ledger. Nothing is changed.

    The ledger does not keep the original of an answer that was redacted or blocked: such answers are counted, but not
    moderated. Moderation jobs keep their texts, so these are moderated in any case.

    Example: `headrace moderation try new.toml --on outputs --since 7d`
    """
    moderator = build_moderator(policy, aids_here())
    ledger = need_ledger()
    jobs, now = ledger.of(ModeratedJobs), ledger.now()
    begin = milliseconds(parse_time(since, datetime.fromtimestamp(now / 1000, UTC)))
    span, kind, trial = Span(begin, now + 1, tenant), KINDS[on], Trial(examples)
    with _bar(min(limit, jobs.count(span, kind))) as looked:
        for _ in tried(_past(jobs, span, kind, limit, looked), moderator, trial):
            pass
    if as_json:
        put_json(_document(trial))
    else:
        _show(trial, policy, since)


def _past(jobs: ModeratedJobs, span: Span, kind: str, limit: int, looked: Callable[[], None]) -> Iterator["Past"]:

    for row in jobs.ended(span, kind, limit):
        looked()
        if (past := past_of(row.id, row.tenant, bytes(row.payload), bytes(row.terminal))) is not None:
            yield past


@contextmanager
def _bar(total: int) -> Iterator[Callable[[], None]]:
    """Show a bar on a terminal. Call the function that it yields for each job."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(), transient=True) as bar:
        task = bar.add_task("looking at", total=total)
        yield lambda: bar.advance(task)


def _document(trial: "Trial") -> dict[str, Any]:
    return {
        "tried": trial.tried,
        "changed": trial.changed,
        "not_there": dict(trial.gone),
        "actions": [
            {"before": before, "now": now, "count": count, "examples": trial.examples.get((before, now), [])}
            for (before, now), count in sorted(trial.moves.items())
        ],
        "categories": {
            name: {"before": trial.objected_before[name], "now": trial.objected_now[name]}
            for name in _categories(trial)
        },
    }


def _show(trial: "Trial", policy: Path, since: str) -> None:
    out = console(data=True)
    if trial.moves:
        rows = [
            (before, now, f"{count:,}", f"{count / trial.tried:.1%}", ", ".join(trial.examples.get((before, now), [])))
            for (before, now), count in sorted(trial.moves.items())
        ]
        columns = ("was", "would be", "texts", "share", "such as")
        out.print(table(None, columns, rows, right=("texts", "share")))
    if names := _categories(trial):
        counts = [(name, f"{trial.objected_before[name]:,}", f"{trial.objected_now[name]:,}") for name in names]
        out.print(table("objected to", ("category", "before", "now"), counts, right=("before", "now")))
    if gone := trial.gone.total():
        which = ", ".join(f"{count:,} of action {action}" for action, count in sorted(trial.gone.items()))
        say(f"not moderated, since their originals are not kept: {gone:,} ({which})")
    if not trial.tried:
        say(f"there is no text since {since} that could be moderated")
        return
    say(f"{policy} would change the outcome of {trial.changed:,} of {trial.tried:,}; nothing was changed")


def _categories(trial: "Trial") -> list[str]:
    return sorted(trial.objected_before.keys() | trial.objected_now.keys())


def aids_here() -> Aids:
    """Return the libraries and models that detectors of a policy use, from this home and environment."""
    return Aids(embedder_here, _guard, ModerationSettings.from_env().moderation_key)


def _guard(alias: str) -> Generator:
    return load_generator(home_of(), alias, needs_logprobs=True)


KINDS: Final = {On.OUTPUTS: "generation", On.TEXTS: "moderation"}


class Past(NamedTuple):
    """A text and the decision about it.

    `text` is None if the unchanged text no longer exists; `instructions` are its model's.
    """

    job_id: str
    tenant: str
    before: str
    objected: frozenset[str]
    text: str | None
    instructions: Instructions | None = None


@dataclass
class Trial:
    """The decisions of the new policy next to the former ones. `shown` jobs are kept as examples of each change."""

    shown: int = 5
    moves: Counter[tuple[str, str]] = field(default_factory=Counter)
    gone: Counter[str] = field(default_factory=Counter)
    objected_before: Counter[str] = field(default_factory=Counter)
    objected_now: Counter[str] = field(default_factory=Counter)
    examples: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))

    @property
    def tried(self) -> int:
        """The number of texts that were moderated again."""
        return self.moves.total()

    @property
    def changed(self) -> int:
        """The number of texts with another decision now."""
        return sum(count for (before, now), count in self.moves.items() if _as_now(before) != now)

    def add(self, past: Past, now: str, objected: Iterable[str]) -> None:
        """Add a text that was moderated again."""
        self.moves[past.before, now] += 1
        self.objected_before.update(past.objected)
        self.objected_now.update(objected)
        known = self.examples[past.before, now]
        if _as_now(past.before) != now and len(known) < self.shown:
            known.append(past.job_id)


def past_of(job_id: str, tenant: str, payload: bytes, end: bytes) -> Past | None:
    """Return the moderated text of an ended generation or moderation job; None if it has no text."""
    receipt = from_json(end)
    verdict = receipt.get("moderation")
    if verdict is None or receipt.get("refusal") is not None:
        return None
    action = verdict["action"]
    objected = frozenset(name for name, objects in verdict.get("categories", {}).items() if objects)
    if receipt["kind"] == "moderation":
        return Past(job_id, tenant, action, objected, from_json(payload)["input"])
    if receipt.get("answer") is None:
        return None
    if action != "allow":
        return Past(job_id, tenant, action, objected, None)
    before = RELEASED if verdict.get("flagged") else action
    return Past(job_id, tenant, before, objected, receipt["answer"].get("text"), _instructions_of(from_json(payload)))


def tried(texts: Iterable[Past], moderator: Moderator, trial: Trial) -> Iterator[int]:
    """Moderate the texts again, some at a time, and add them to `trial`; yield the number of each group."""
    left = iter(texts)
    while some := list(islice(left, _AT_ONCE)):
        here = [past for past in some if past.text is not None]
        trial.gone.update(past.before for past in some if past.text is None)
        verdicts = moderator.moderate(
            [past.text or "" for past in here], [past.tenant for past in here], [past.instructions for past in here]
        )
        for past, verdict in zip(here, verdicts, strict=True):
            if isinstance(verdict, HeadraceError):
                trial.add(past, UNDECIDED, ())
            else:
                objected = (name for name, objects in verdict.verdict.categories.items() if objects)
                trial.add(past, verdict.action, objected)
        yield len(some)


def _as_now(before: str) -> str:
    """Return the former action; `review` if a person released the text."""
    return "review" if before == RELEASED else before


def _instructions_of(job: dict[str, Any]) -> Instructions | None:
    system = []
    for message in job.get("messages", ()):
        if message["role"] != "system":
            break
        system.append(message["content"])
    return Instructions("\n\n".join(system)) if system else None
