"""`headrace bench outage`: an outage of a model, on purpose."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final

import typer
from sqlalchemy import or_, select

from headrace_schemas import HeadraceError, Result
from headrace_schemas.codec import decode_job, decode_value
from headrace_schemas.errors import ConfigurationError, UnknownModel
from headrace_schemas.event_types import MODEL_KINDS
from headrace_schemas.job import ModelJob
from headrace_workers.cli.connections import find_ledger_url, need_ledger, running
from headrace_workers.cli.durations import parse_life, show_ms
from headrace_workers.cli.output import be_sure, put_json, say
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.tables import IS_ACTIVE, JOBS
from headrace_workers.features.generation.model_health import FAULTS
from headrace_workers.features.generation.store.breakers import Breakers
from headrace_workers.models.registry import Registry
from headrace_workers.runtime.settings import home_of

_RENEWED_MS: Final = 4_000  # so long the fault lasts when this command is killed
_RENEW_EVERY: Final = 1.0
_LONGEST: Final = 3_600.0
_SETTLES_SECONDS: Final = 30.0  # that jobs of the drill have to end after it
_MOST_JOBS: Final = 10_000
_BEFORE_MS: Final = 600_000  # so far back an outage's latencies are compared


def outage(
    model: Annotated[str, typer.Argument(help="the model that is to fail")],
    duration: Annotated[str, typer.Option("--for", help="how long, such as 60s or 5m; at most 1h")] = "60s",
    kind: Annotated[str, typer.Option("--kind", help="down, hang or 429")] = "down",
    yes: Annotated[bool, typer.Option("--yes", help="do not ask, also outside the embedded stack")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Let a model fail for a while in all workers, and report what users saw. Its real calls are not made meanwhile.

    The fault ends by itself when this command ends, or is killed.

    Examples: `headrace bench outage large --for 60s`, `headrace bench outage large --kind hang --json`
    """
    seconds = parse_life(duration, "--for").total_seconds()
    if seconds > _LONGEST:
        raise ConfigurationError(f"--for is {duration!r}; it may be {_LONGEST:.0f} seconds at most")
    if kind not in FAULTS:
        raise ConfigurationError(f"--kind is {kind!r}; it may be {', '.join(FAULTS)}")
    registry = Registry(home_of())
    if model not in registry:
        known = ", ".join(registry.aliases()) or "none"
        raise UnknownModel(f"no model is called {model!r}; known are: {known}")
    ledger = need_ledger()
    _be_sure(ledger, model, yes=yes)
    say(f"{model} fails for {show_ms(seconds * 1000)} ({kind}); Ctrl-C ends it")
    found = run_drill(ledger, model, kind, seconds, registry.chain)
    if as_json:
        put_json(found)
    else:
        for line in in_words(found):
            say(line)


def run_drill(
    ledger: Ledger,
    model: str,
    kind: str,
    seconds: float,
    chain: Callable[[str], tuple[str, ...] | None],
    *,
    sleep: Callable[[float], object] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> dict[str, Any]:
    """Inject the fault for so many seconds, wait until the jobs of that time have ended, and return the report."""
    breakers, began = ledger.of(Breakers), ledger.now()
    until = monotonic() + seconds
    try:
        while (left := until - monotonic()) > 0:
            breakers.drill(model, kind, min(_RENEWED_MS, int(left * 1000)))
            sleep(min(_RENEW_EVERY, left))
    except KeyboardInterrupt:
        say("the drill ends early")
    finally:
        breakers.drill(model, None, 0)
    ended, settled = ledger.now(), monotonic() + _SETTLES_SECONDS
    during = report(ledger, model, began, ended, chain)
    while during["unfinished"] and monotonic() < settled:
        sleep(_RENEW_EVERY)
        during = report(ledger, model, began, ended, chain)
    before = report(ledger, model, began - _BEFORE_MS, began, chain)
    for name in ("p50_ms", "p95_ms"):
        is_known = during[name] is not None and before[name] is not None
        during[f"added_{name}"] = round(during[name] - before[name], 1) if is_known else None
    return {"model": model, "kind": kind, "seconds": round((ended - began) / 1000, 1), **during}


def report(
    ledger: Ledger, model: str, since: int, until: int, chain: Callable[[str], Sequence[str] | None]
) -> dict[str, Any]:
    """Report on the jobs that were accepted in this time (ms) and asked for this model, first or later; the newest
    10,000 at most. `chain(name)` returns the models of a chain.
    """
    query = (
        select(JOBS.c.id, JOBS.c.kind, JOBS.c.payload, JOBS.c.state, JOBS.c.terminal_type, JOBS.c.terminal)
        .where(JOBS.c.kind.in_(MODEL_KINDS), JOBS.c.accepted_at >= since, JOBS.c.accepted_at < until)
        .where(or_(IS_ACTIVE, JOBS.c.ended_at >= since))  # which an index finds
        .order_by(JOBS.c.accepted_at.desc())
        .limit(_MOST_JOBS)
    )
    answered_by: Counter[str] = Counter()
    dead: list[str] = []
    total_ms: list[float] = []
    moved = unfinished = 0
    for row in ledger.read(query):
        try:
            job = decode_job(row.kind, row.payload)
        except HeadraceError:  # a newer version's
            continue
        assert isinstance(job, ModelJob)  # noqa: S101 - of its kind
        named = chain(job.model) if isinstance(job.model, str) else None
        if model not in (named or job.chain) or row.state == "cancelled":
            continue
        if row.state == "active":
            unfinished += 1
            continue
        if row.state == "dead":
            dead.append(row.id)
            continue
        result = decode_value(row.terminal_type, row.terminal)
        answer = (result.answer or result.decisions) if isinstance(result, Result) else None
        answered_by[answer.model if answer else "nobody"] += 1
        moved += bool(answer and len({attempt.model for attempt in answer.attempts}) > 1)
        if isinstance(result, Result) and result.total_ms is not None:
            total_ms.append(result.total_ms)
    return {
        "jobs": answered_by.total() + len(dead) + unfinished,
        "answered_by": dict(sorted(answered_by.items())),
        "moved": moved,
        "dead": len(dead),
        "unfinished": unfinished,
        "p50_ms": _percentile(total_ms, 0.5),
        "p95_ms": _percentile(total_ms, 0.95),
        "lost": dead[:20],
    }


def _percentile(values: list[float], share: float) -> float | None:
    """Return the value that this share of them does not exceed; None of none."""
    values.sort()
    return round(values[min(len(values) - 1, int(share * len(values)))], 1) if values else None


def in_words(found: dict[str, Any]) -> list[str]:
    """Return a report as lines for people."""
    if not found["jobs"]:
        return [f"no job asked for {found['model']} in these {found['seconds']:g} s: send some, and drill again"]
    who = ", ".join(f"{name} answered {count:,}" for name, count in found["answered_by"].items()) or "nobody answered"
    lines = [f"{found['jobs']:,} jobs asked for {found['model']}: {who}"]
    lines.append(f"half of them took {show_ms(found['p50_ms'])}, 95 % at most {show_ms(found['p95_ms'])}")
    if found["added_p50_ms"] is not None:
        lines[-1] += f": {found['added_p50_ms']:+,.0f} and {found['added_p95_ms']:+,.0f} ms against before"
    lines.append(f"{found['dead']:,} died, {found['unfinished']:,} wait")
    lines += [f"lost: {job_id}" for job_id in found["lost"]]
    return lines


def _be_sure(ledger: Ledger, model: str, *, yes: bool) -> None:
    stack = running()
    if yes or (stack is not None and stack.ledger == find_ledger_url()):
        return
    be_sure(f"This deployment is not the embedded stack. Let {model} fail for its users?", "nothing was changed")
