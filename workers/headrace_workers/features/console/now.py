"""The page *Now*: what is wrong and what to do, the stages, the workers, the models, and the last day. It is live: all
viewers of a gateway share one look a second.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from fastapi import Request
from markupsafe import Markup
from starlette.responses import Response

from headrace_workers.cli.job_views import LANES
from headrace_workers.cli.pages import Axis, columns, plain
from headrace_workers.cli.status_views import Local, Served, local_of, redis_is_away, trouble_lines, unserved_lines
from headrace_workers.core.pipeline.stage import installed_stages
from headrace_workers.core.redis import HINT_SECONDS, RedisNames, live_queues, redis_client
from headrace_workers.core.scopes import OPERATOR
from headrace_workers.features.console.connections import ConsoleReads
from headrace_workers.features.console.frame import PART, SignedInRoute, go_to, html, page, visitor_of
from headrace_workers.features.console.receipt import STAGES
from headrace_workers.features.console.situation import HOUR_MS, MOST, Hour, Situation, Situations, StageLine
from headrace_workers.features.console.visitors import CONSOLE
from headrace_workers.http.routes import ReadsItsURL
from headrace_workers.http.services import Services, Wired
from headrace_workers.runtime.settings import Settings

router = ReadsItsURL(prefix=f"{CONSOLE}/now", route_class=SignedInRoute, include_in_schema=False)
LIFETIME: Final = 1.0  # seconds that a look is shown at least
_MOST_SHARE: Final = 0.02  # of the time that looks take: on a busy machine there are fewer
_HOURS: Final = 24
_HOUR_LIFETIME: Final = 30.0  # seconds that the count of this hour is shown
_SETTLED_MS: Final = 60_000  # after its end an hour is counted for the last time
_ENDS: Final = (("done", "done"), ("dead", "dead"), ("cancelled", "cancelled"))


@dataclass(frozen=True, slots=True)
class Look:
    """One look at everything: the ledger, Redis and the processes of this machine."""

    situation: Situation
    served: Served
    here: Local


class Live:
    """The last look, for all viewers of a gateway. Belongs to the event loop, except for what its reads do."""

    def __init__(
        self, reads: ConsoleReads, settings: Settings, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._reads = reads
        self._settings = settings
        self._names = RedisNames(settings.kafka.prefix)
        self._redis = redis_client(settings.redis, HINT_SECONDS)
        self._monotonic = monotonic
        self._look: Look | None = None
        self._at = float("-inf")
        self._took = 0.0
        self._task: asyncio.Task[Look] | None = None
        self._part: tuple[Look, bytes] | None = None
        self._hours: dict[int, Hour] = {}  # that are shown
        self._settled: dict[int, Hour] = {}  # those of them that are over
        self._hours_at = float("-inf")

    async def look(self, patience: float) -> Look:
        """Return a look that is at most a second old, or fifty times as old as it took. Raise 503 if the ledger does
        not answer in time.
        """
        lifetime = max(LIFETIME, self._took / _MOST_SHARE)
        if self._look is not None and self._monotonic() - self._at < lifetime:
            return self._look
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._renew(patience))
            self._task.add_done_callback(lambda task: task.cancelled() or task.exception())  # all viewers may be gone
        return await asyncio.shield(self._task)

    async def _renew(self, patience: float) -> Look:
        begun = self._monotonic()
        self._look = look = await self._reads.ask(patience, self._read)
        self._at = self._monotonic()
        self._took = self._at - begun
        return look

    def part(self, look: Look, make: Callable[[], Response]) -> Response:
        """Return the part of the page that shows this look, made once for all viewers."""
        if self._part is None or self._part[0] is not look:
            self._part = look, bytes(make().body)
        return html(self._part[1])

    def _read(self) -> Look:
        store = self._reads.ledger.of(Situations)
        this_hour = self._reads.ledger.now() // HOUR_MS
        day = range(this_hour - _HOURS + 1, this_hour + 1)
        is_old = self._monotonic() - self._hours_at >= _HOUR_LIFETIME
        wanted = [hour for hour in day if hour not in self._settled] if is_old else []
        situation = store.look(wanted)
        if wanted:
            self._hours = {hour: self._settled[hour] for hour in day if hour in self._settled} | dict(situation.hours)
            self._settled = {
                hour: ends for hour, ends in self._hours.items() if (hour + 1) * HOUR_MS + _SETTLED_MS < situation.now
            }
            self._hours_at = self._monotonic()
        queues = {line.queue for line in situation.lines if line.ready or line.later or line.begun}
        served = live_queues(self._redis, self._names, queues)
        return Look(replace(situation, hours=self._hours), served, local_of(self._settings))

    def close(self) -> None:
        """Close the connection to Redis."""
        self._redis.close()


def count(number: int) -> str:
    """Return a count as text; beyond the bound it says so."""
    return f"{MOST:,}+" if number > MOST else f"{number:,}"


def wrong(look: Look, services: Services) -> list[str]:
    """Return what is wrong and what to do, a line each, as `headrace status` and `headrace doctor` say it."""
    situation = look.situation
    own = {
        "Kafka": services.sink.trouble,
        "ledger": services.writes.trouble or services.waiter.trouble,
        "Redis": redis_is_away("no answer") if look.served is None or services.rates.is_unavailable else None,
    }
    return [
        *(f"{service}: {trouble}" for service, trouble in own.items() if trouble),
        *unserved_lines((line.queue for line in situation.lines if line.ready or line.later), look.served),
        *trouble_lines(
            (incident for incident in situation.incidents if not incident.is_over),
            min(situation.held, MOST),
            min(situation.set_aside, MOST),
        ),
        *look.here.lines(),
    ]


def _stages(look: Look) -> tuple[list[dict[str, Any]], list[str]]:
    """Return a row for each stage, queue and lane with work or with ends in the last minute; and the other stages."""
    order = {stage.name: number for number, stage in enumerate(installed_stages())}
    lines = sorted(look.situation.lines, key=lambda line: (order.get(line.stage, len(order)), line.queue, line.lane))
    rows = [_stage_row(line, look.served) for line in lines]
    there = {line.stage for line in lines}
    return rows, [STAGES.get(name, name) for name in order if name not in there]


def _stage_row(line: StageLine, served: Served) -> dict[str, Any]:
    has_work = line.ready or line.later or line.begun
    return {
        "stage": line.stage,
        "words": STAGES.get(line.stage, line.stage),
        "queue": line.queue,
        "lane": LANES[line.lane],
        "ready": count(line.ready),
        "later": count(line.later),
        "begun": count(line.begun),
        "oldest": line.oldest_ms,
        "rate": plain(round(line.rate, 1)) if line.rate else "–",
        "unserved": bool(has_work and served is not None and line.queue not in served),
    }


def _models(found: Situation) -> Iterator[dict[str, Any]]:
    """Yield the breaker of each model that was called lately, or that may not be called."""
    for model in sorted({*found.models, *found.calls}):
        health, calls = found.models.get(model), found.calls.get(model)
        state = "closed" if health is None else health.breaker.state(found.now)
        if state == "closed" and calls is None and (health is None or health.drill is None):
            continue
        answered = calls.calls - calls.failures if calls else 0
        yield {
            "model": model,
            "state": state,
            "opens": health.breaker.opens_in(found.now) if health else 0,
            "reason": (health.breaker.reason if health and state != "closed" else None) or "",
            "drill": health.drill if health else None,
            "calls": f"{calls.calls:,}" if calls else "0",
            "failures": f"{calls.failures:,}" if calls else "0",
            "mean": calls.ms / answered if calls and answered else None,
        }


def _day(found: Situation) -> Markup:
    """Draw the jobs that ended in the last day. The plot escapes its texts itself."""
    this_hour = max(found.hours, default=0)
    kinds = [
        (name, {float(hour - this_hour): float(ends.ended.get(state, 0)) for hour, ends in found.hours.items()})
        for state, name in _ENDS
    ]
    most = max((sum(ends.ended.values()) for ends in found.hours.values()), default=0)
    more = f"; more than {MOST:,} an hour are not counted" if any(ends.more for ends in found.hours.values()) else ""
    x = Axis("hours ago", 1.0 - _HOURS, 1.0, lambda hour: "now" if hour == 0 else f"{-hour:g}" if hour < 0 else "")
    y = Axis("jobs", 0.0, max(4.0, most * 1.05), lambda jobs: f"{jobs:,.0f}")
    shown = [kind for kind in kinds if kind[0] == "done" or any(kind[1].values())]
    return Markup(columns(f"Jobs that ended, hour by hour{more}", x, y, shown))  # noqa: S704


def view(look: Look, services: Services) -> Mapping[str, Any]:
    """Return what the page shows."""
    situation = look.situation
    rows, idle = _stages(look)
    figures: Sequence[tuple[str, str]] = (
        (count(situation.active), "unfinished jobs"),
        (f"{situation.per_minute:,.0f}", "jobs ended a minute"),
        (count(situation.held), "held"),
        (count(situation.dead_letters), "dead letters"),
        (count(situation.outbox), "events to be published"),
    )
    return {
        "wrong": wrong(look, services),
        "figures": figures,
        "oldest": situation.oldest_ms if situation.active else None,
        "stages": rows,
        "idle": idle,
        "holdings": situation.holdings,
        "processes": [
            (f"{report.kind} {report.pid}", bool(report.incidents), report.waits) for report in look.here.reports
        ],
        "policies": look.here.policies(),
        "models": list(_models(situation)),
        "day": _day(situation),
    }


@router.get("")
async def without_slash(request: Request) -> Response:
    """Lead to the page."""
    return go_to(request, "now/")


@router.get("/")
async def show(request: Request, services: Wired) -> Response:
    """Show the page."""
    look = await _look(request, services)
    return page(request, "now.html", **view(look, services))


@router.get(f"/{PART}")
async def show_part(request: Request, services: Wired) -> Response:
    """Show the part of the page that changes."""
    look = await _look(request, services)
    return services.of(Live).part(look, lambda: page(request, "now_part.html", **view(look, services)))


async def _look(request: Request, services: Services) -> Look:
    visitor_of(request, OPERATOR)
    return await services.of(Live).look(services.timeouts.ledger)
