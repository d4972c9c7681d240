"""The page *Set aside*: held steps and dead letters, and what is done to many of them at once: preview, count, do. It
has no rule of its own: scopes and functions are those of `/v1/held`, of cancellation, and of `headrace dead replay`.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, NamedTuple
from urllib.parse import urlencode

from fastapi import Query, Request
from starlette.responses import Response

from headrace_workers.core.pipeline.stage import model_of
from headrace_workers.core.scopes import JOBS_READ, JOBS_WRITE, OPERATOR, Scope
from headrace_workers.core.tables import NEVER
from headrace_workers.features.console.aside_lists import AGES, CATEGORIES, AsideCount, AsideFilter, AsideLists, Kind
from headrace_workers.features.console.connections import ConsoleReads
from headrace_workers.features.console.frame import PART, SignedInRoute, go_to, page, visitor_of
from headrace_workers.features.console.job_lists import Place
from headrace_workers.features.console.plans import Act, Plan, PlanRuns, Plans
from headrace_workers.features.console.sign_in import form_of
from headrace_workers.features.console.visitors import CONSOLE
from headrace_workers.features.quality.feature import REVIEWS_READ, REVIEWS_WRITE
from headrace_workers.http.caller import Caller
from headrace_workers.http.errors import Refusal, Why
from headrace_workers.http.routes import ReadsItsURL
from headrace_workers.http.services import Services, Wired

router = ReadsItsURL(prefix=f"{CONSOLE}/aside", route_class=SignedInRoute, include_in_schema=False)
_Short = Annotated[str, Query(max_length=100)]
_NAME: Final = re.compile(r"[0-9a-f-]{36}", re.ASCII)
_SAMPLE: Final = 10  # items that a plan shows
_SILENT_MS: Final = 15_000  # without progress, and the page offers to go on
_LONGEST_REASON: Final = 2_000


class _Deed(NamedTuple):
    """Actions on many rows at once."""

    kind: Kind
    scope: Scope
    word: str
    past: str
    says: str


DEEDS: Final[Mapping[Act, _Deed]] = {
    "release": _Deed(
        "held", REVIEWS_WRITE, "Release", "released", "The held steps run again, and know that a person released them."
    ),
    "withhold": _Deed("held", REVIEWS_WRITE, "Withhold", "withheld", "The jobs end as dead, with your reason."),
    "cancel": _Deed("held", JOBS_WRITE, "Cancel", "cancelled", "The jobs end as cancelled."),
    "replay": _Deed(
        "dead", OPERATOR, "Replay", "replayed",
        "Jobs go on at the step where they died; refused records are published again, unchanged.",
    ),
}  # fmt: skip


def _wanted(caller: Caller, given: Mapping[str, str]) -> AsideFilter:
    """Return the filter of a request: of the caller's tenant, or of all or one for an operator. Raise 403 for what the
    caller may not see.
    """
    whose = given.get("tenant", "") if caller.may(OPERATOR) else caller.tenant
    aside_filter = AsideFilter.read({**given, "tenant": whose})
    caller.need(REVIEWS_READ if aside_filter.kind == "held" else JOBS_READ)
    return aside_filter


def _conditions(caller: Caller, wanted: AsideFilter) -> dict[str, str]:
    """Return the conditions that narrow what the caller may see."""
    return {name: value for name, value in wanted.given.items() if name != "tenant" or caller.may(OPERATOR)}


def _fields(caller: Caller) -> list[str]:
    """Return the conditions that are written as texts."""
    return ["reason", "stage", "model", "application", *(["tenant"] if caller.may(OPERATOR) else [])]


def _rows(rows: Any) -> list[tuple[Any, str, str]]:
    """Return the rows with what each waits for or died of, and its model."""
    found = []
    for row in rows:
        if "again" in row._fields:
            why = "a person" if row.again >= NEVER else "a service"
        else:
            why = row.failure or row.code or row.category
        found.append((row, why, model_of(row.queue or "") or ""))
    return found


@router.get("")
async def without_slash(request: Request) -> Response:
    """Lead to the lists."""
    return go_to(request, "aside/")


@router.get("/")
async def show_list(
    request: Request,
    services: Wired,
    kind: _Short = "",
    category: _Short = "",
    reason: _Short = "",
    stage: _Short = "",
    model: _Short = "",
    application: _Short = "",
    age: _Short = "",
    tenant: _Short = "",
    after: _Short = "",
) -> Response:
    """Show what is held, or what is dead, by a filter that the address holds."""
    caller = visitor_of(request, JOBS_READ)
    kinds = ("held", "dead") if caller.may(REVIEWS_READ) else ("dead",)
    wanted = _wanted(caller, {**request.query_params, "kind": kind or kinds[0]})
    reads, place = services.of(ConsoleReads), Place.read(after.replace("\x00", ""))
    lists, patience = reads.ledger.of(AsideLists), services.timeouts.ledger
    listed = await reads.ask(patience, lists.page, wanted, place)
    is_all = place is None and (listed.stopped or listed.after is None)
    count = AsideCount(len(listed.rows), listed.stopped)
    conditions = _conditions(caller, wanted)
    return page(
        request,
        "aside.html",
        kinds=kinds,
        wanted=wanted,
        count=count if is_all else await reads.ask(patience, lists.count, wanted),
        listed=listed,
        rows=_rows(listed.rows),
        conditions=conditions,
        address=urlencode({"kind": wanted.kind, **conditions}),
        fields=_fields(caller),
        ages=AGES,
        categories=CATEGORIES[wanted.kind],
        may_all=caller.may(OPERATOR),
        deeds={act: deed for act, deed in DEEDS.items() if deed.kind == wanted.kind and caller.may(deed.scope)},
        lacking=sorted(
            {deed.scope for deed in DEEDS.values() if deed.kind == wanted.kind and not caller.may(deed.scope)}
        ),
    )


@router.post("/plan")
async def plan(request: Request, services: Wired) -> Response:
    """Keep what fits a filter as a plan, and show it."""
    caller, given = visitor_of(request, JOBS_READ), dict(await form_of(request))
    act: Act | None = next((act for act in DEEDS if act == given.get("act")), None)
    if act is None:
        raise Refusal(Why.INVALID, "the form does not say what to do: send it from a page of the console")
    caller.need(DEEDS[act].scope)
    wanted = _wanted(caller, {**given, "kind": DEEDS[act].kind})
    conditions = _conditions(caller, wanted)
    if not conditions:
        raise Refusal(
            Why.INVALID, "the filter is empty, and means everything: say in one field at least which you mean"
        )
    reads = services.of(ConsoleReads)
    lists = reads.ledger.of(AsideLists)
    items, more = await reads.ask(services.timeouts.ledger, lists.places, wanted)
    if not items:
        raise Refusal(Why.CONFLICT, "nothing fits this filter any more")
    plan_id = await services.ask(
        services.ledger.of(Plans).make,
        caller,
        act,
        {"kind": wanted.kind, **conditions},
        items,
        more=more,
        everywhere=caller.may(OPERATOR),
    )
    return go_to(request, f"aside/{plan_id}/")


@router.get("/{plan_id}/")
async def show_plan(request: Request, plan_id: str, services: Wired) -> Response:
    """Show a plan: what it would do, does, or has done."""
    caller = visitor_of(request, JOBS_READ)
    found = await _found(services, caller, plan_id)
    rows: Any = ()
    if found.state == "planned":
        reads = services.of(ConsoleReads)
        lists = reads.ledger.of(AsideLists)
        kind = DEEDS[found.act].kind
        rows = await reads.ask(services.timeouts.ledger, lists.of_places, kind, found.items[:_SAMPLE])
    return page(request, "plan.html", rows=_rows(rows), **_values(caller, found))


@router.get(f"/{{plan_id}}/{PART}")
async def show_part(request: Request, plan_id: str, services: Wired) -> Response:
    """Show the part of a plan's page that changes while it is carried out."""
    caller = visitor_of(request, JOBS_READ)
    return page(request, "plan_part.html", **_values(caller, await _found(services, caller, plan_id)))


@router.post("/{plan_id}/do")
async def do(request: Request, plan_id: str, services: Wired) -> Response:
    """Carry a plan out, or go on with one that stopped half-way. However often the form comes, it is done once."""
    caller, given = visitor_of(request, JOBS_READ), dict(await form_of(request))
    found = await _found(services, caller, plan_id)
    caller.need(DEEDS[found.act].scope)
    if found.everywhere:
        caller.need(OPERATOR)
    if found.expired:
        raise Refusal(Why.CONFLICT, "this plan has expired: its 15 minutes are over. Look at the list again")
    reason = " ".join(given.get("reason", "").replace("\x00", "").split())[:_LONGEST_REASON]
    if found.act == "withhold" and found.state == "planned" and not reason:
        raise Refusal(Why.INVALID, "reason: is empty: give a reason, which the jobs' senders read")
    await services.ask(services.ledger.of(Plans).begin, caller, plan_id, reason)
    services.of(PlanRuns).start(plan_id, services.ring)
    return go_to(request, f"aside/{plan_id}/")


async def _found(services: Services, caller: Caller, plan_id: str) -> Plan:
    """Return a plan of the caller's. Raise 404 if they have none of this id."""
    found = None
    if _NAME.fullmatch(plan_id):
        found = await services.ask(services.ledger.of(Plans).find, caller, plan_id)
    if found is None:
        raise Refusal(Why.NOT_FOUND, "you have no plan of this id: plans are forgotten after a day")
    return found


def _values(caller: Caller, found: Plan) -> dict[str, Any]:
    deed = DEEDS[found.act]
    return {
        "plan": found,
        "deed": deed,
        "things": ("held job" if deed.kind == "held" else "dead letter") + ("" if found.size == 1 else "s"),
        "may_do": caller.may(deed.scope) and (not found.everywhere or caller.may(OPERATOR)),
        "silent": found.state == "running" and found.now - found.at > _SILENT_MS,
        "skipped": found.place - found.done - found.cut,
        "address": urlencode(found.filter),
    }
