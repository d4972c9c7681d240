"""The page *Review*: the queue of held jobs and ended answers about which people decide, one after the other. It has no
rule of its own: it calls the store as `/v1/reviews` does.
"""

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Annotated, Any, Final, Literal

from fastapi import Query, Request
from starlette.responses import Response

from headrace_schemas.errors import HeadraceError, InvalidRecord
from headrace_schemas.review import HELD, MANUAL
from headrace_workers.features.console.connections import ConsoleReads
from headrace_workers.features.console.frame import SignedInRoute, go_to, page, visitor_of
from headrace_workers.features.console.playground import texts_of_passages
from headrace_workers.features.console.receipt import STAGES, Mark, Piece, doubted, judgements, moderated, pieces
from headrace_workers.features.console.sign_in import form_of
from headrace_workers.features.console.visitors import CONSOLE
from headrace_workers.features.quality.feature import REVIEWS_READ, REVIEWS_WRITE
from headrace_workers.features.reviews.api import checked_id, person_of
from headrace_workers.features.reviews.decision import Conflict, Decision, decision_of
from headrace_workers.features.reviews.hooks import ReviewQueue
from headrace_workers.features.reviews.progress import Progress, ReviewProgress
from headrace_workers.features.reviews.store import Item, Reviews
from headrace_workers.features.reviews.views import ReviewedItem, ShownItem
from headrace_workers.http.caller import Caller
from headrace_workers.http.errors import Refusal, refusal_of
from headrace_workers.http.paging import PAGE, After
from headrace_workers.http.routes import ReadsItsURL
from headrace_workers.http.services import Services, Wired

router = ReadsItsURL(prefix=f"{CONSOLE}/review", route_class=SignedInRoute, include_in_schema=False)

_Done = Literal["", "decided", "skipped", "undone"]
_DONE: Final[Mapping[_Done, str]] = {
    "": "",
    "decided": "Recorded.",
    "skipped": "Skipped: others are given it, you are not.",
    "undone": "Taken back: its labels are deleted, and the answer waits in the queue again.",
}
_Rule = Annotated[str, Query(pattern=r"^[a-z0-9._-]{0,64}$", description="Only items of this rule.")]
_LAST: Final = 5  # of one's own decisions beside an item
_MOST_COMPARED: Final = 1_000  # words, or else lines, of each text
_WORDS: Final = re.compile(r"\S+|\s+")
_LINES: Final = re.compile(r".*\n|.+")
_NUMBER: Final = re.compile(r"[0-9]{1,19}", re.ASCII)


def changes(before: str, after: str) -> Sequence[Piece]:
    """Return the pieces of both texts in order; their kinds are `removed`, `added`, or empty for what stays. Long texts
    are compared by lines, and very long ones only at their ends.
    """
    start = next((at for at, (old, new) in enumerate(zip(before, after, strict=False)) if old != new), None)
    start = min(len(before), len(after)) if start is None else start
    # Whole lines, so that no word is cut.
    start = before.rfind("\n", 0, start) + 1
    for parts in (_WORDS, _LINES):
        old, new = parts.findall(before, start), parts.findall(after, start)
        if max(len(old), len(new)) <= _MOST_COMPARED:
            return [Piece(before[:start]), *_compared(old, new)]
    return [Piece(before[:start]), Piece(before[start:], "removed"), Piece(after[start:], "added")]


def _compared(old: Sequence[str], new: Sequence[str]) -> Iterator[Piece]:
    for kind, begin, end, begin_new, end_new in SequenceMatcher(None, old, new).get_opcodes():
        if kind == "equal":
            yield Piece("".join(old[begin:end]))
        else:
            yield from (Piece("".join(old[begin:end]), "removed"),) if end > begin else ()
            yield from (Piece("".join(new[begin_new:end_new]), "added"),) if end_new > begin_new else ()


def _held_marks(view: ShownItem) -> list[Mark]:
    """Return what moderation found. The spans are those of the text as it is held."""
    findings = view.verdict.findings if view.verdict is not None else ()
    return [Mark(f.start, f.end, "found", f"{f.category}, found by {f.detector}: {f.action}") for f in findings]


def _answer(view: ShownItem) -> Sequence[Piece]:
    """Return the answer in pieces, with what machines said of it, as far as the person may see that."""
    if view.answer is None:
        return ()
    marks = doubted(view.scores)
    if not view.held:
        marks += moderated(view.answer, view.verdict)
    elif view.verdict_text is None:
        marks += _held_marks(view)
    return pieces(view.answer, marks, frozenset(citation.number for citation in view.citations))


async def _progress(services: Services, caller: Caller) -> Progress:
    reads = services.of(ConsoleReads)
    return await reads.ask(services.timeouts.ledger, reads.ledger.of(ReviewProgress).of, caller.tenant)


async def _show(
    request: Request,
    services: Services,
    caller: Caller,
    item: Item | None,
    *,
    fault: Refusal | None = None,
    said: str = "",
    corrected: str | None = None,
    compared: Sequence[Piece] = (),
) -> Response:
    """Return the page with an item, or where there is none with what to do. `compared` is how `corrected` differs."""
    person = person_of(caller, None)
    mine = await services.ask(services.ledger.of(Reviews).mine, person, None, _LAST)
    view = None if item is None else ShownItem.seen(item)
    rule, review_rules = request.query_params.get("rule", ""), await services.ask(services.ledger.of(ReviewQueue).rules)
    may_see_held = caller.may_read_texts(held=True)
    rules = [HELD] if may_see_held else []
    rules += [review_rule.name for review_rule in review_rules.rules if review_rule.tenant in (None, caller.tenant)] + [
        MANUAL
    ]
    values: dict[str, Any] = {
        "rule": rule,
        "rules": rules if rule in ("", *rules) else [*rules, rule],
        "query": f"?rule={rule}" if rule else "",
        "item": view,
        "last": [ReviewedItem.with_decision(*row) for row in mine],
        "said": said,
        "fault": "" if fault is None else str(fault),
        "may_write": caller.may(REVIEWS_WRITE),
        "may_see_held": may_see_held,
    }
    if view is None or item is None:
        return page(request, "review.html", status=_status(fault), **values, progress=await _progress(services, caller))
    stands = item.mine is not None and item.mine.stands
    return page(
        request,
        "review.html",
        status=_status(fault),
        **values,
        stage=STAGES.get(view.stage or "", view.stage),
        blind=item.is_blind,
        decides=caller.may(REVIEWS_WRITE) and (view.lease is not None or (stands and not view.held)),
        revision=1 if item.mine is None else item.mine.revision + 1,
        answer=_answer(view),
        verdict_text=None if view.verdict_text is None else pieces(view.verdict_text, _held_marks(view)),
        judgements=judgements(view.scores),
        passages=await texts_of_passages(services, caller, None if item.content is None else item.content.answer),
        corrected=view.answer if corrected is None else corrected,
        compared=compared,
    )


def _status(fault: Refusal | None) -> int:
    return 200 if fault is None else fault.why.status


async def _next(request: Request, services: Services, caller: Caller) -> Item | None:
    next_item, rule = services.ledger.of(Reviews).next, request.query_params.get("rule") or None
    return await services.ask(next_item, person_of(caller, None), rule=rule, held=caller.may_read_texts(held=True))


def _go_on(request: Request, done: _Done) -> Response:
    """Lead to the next item of the same queue."""
    rule = request.query_params.get("rule")
    return go_to(request, f"review/?done={done}{f'&rule={rule}' if rule else ''}")


async def _item(services: Services, caller: Caller, item_id: str) -> Item:
    """Return an item as the caller sees it. Raise NoSuchItem, and 403 for a held one that they may not see."""
    found = await services.ask(services.ledger.of(Reviews).item, person_of(caller, None), checked_id(item_id))
    caller.need_texts(held=found.row.held)
    return found


async def _refused(
    request: Request,
    services: Services,
    caller: Caller,
    item_id: str,
    error: HeadraceError,
    corrected: str | None = None,
) -> Response:
    """Return the page that says why something was not done: with the same item if the person may put it right, else
    with their next one.
    """
    if isinstance(error, Conflict):
        return await _show(request, services, caller, await _next(request, services, caller), fault=refusal_of(error))
    item = await _item(services, caller, item_id)
    return await _show(request, services, caller, item, fault=refusal_of(error), corrected=corrected)


def _number(text: str | None) -> int | str | None:
    """Return a number of a form; a text that is none is refused where it is used."""
    return int(text) if text is not None and _NUMBER.fullmatch(text) else text


def _decision(fields: Sequence[tuple[str, str]]) -> Decision:
    """Return the decision that a form says. Raise InvalidRecord."""
    given = dict(fields)
    labels = [
        {kind: about, "value": {"yes": 1.0, "no": 0.0}.get(value, value)}
        for kind, is_label, about, value in ((*name.partition(":"), value) for name, value in fields)
        if is_label
    ]
    said: dict[str, Any] = {
        "action": given.get("action"),
        "labels": labels,
        "recall": "recall" in given,
        "lease": _number(given.get("lease") or None),
        "revision": _number(given.get("revision")),
    }
    if "corrected" in given:
        said["corrected"] = given["corrected"]
    if given.get("note", "").strip():
        said["note"] = given["note"].strip()
    return decision_of(said)


@router.get("")
async def without_slash(request: Request) -> Response:
    """Lead to the page."""
    return go_to(request, "review/")


@router.get("/")
async def show_next(request: Request, services: Wired, done: _Done = "", rule: _Rule = "") -> Response:
    """Show the visitor's next item, which is theirs under a lease; to those who may only read, the progress."""
    caller = visitor_of(request, REVIEWS_READ)
    if not caller.may(REVIEWS_WRITE):
        return go_to(request, "review/progress/")
    return await _show(request, services, caller, await _next(request, services, caller), said=_DONE[done])


@router.get("/progress/")
async def show_progress(request: Request, services: Wired) -> Response:
    """Show how far the tenant's reviews have come, and how far people agree."""
    caller = visitor_of(request, REVIEWS_READ)
    return page(request, "review_progress.html", progress=await _progress(services, caller))


@router.get("/mine/")
async def show_mine(
    request: Request, services: Wired, after: Annotated[After, Query(max_length=36)] = None
) -> Response:
    """Show what the visitor decided, the newest first."""
    caller = visitor_of(request, REVIEWS_READ)
    found = await services.ask(services.ledger.of(Reviews).mine, person_of(caller, None), after, PAGE + 1)
    rows = [ReviewedItem.with_decision(*row) for row in found[:PAGE]]
    return page(request, "review_mine.html", rows=rows, more=len(found) > PAGE, after=after)


@router.get("/{item_id}/")
async def show(request: Request, item_id: str, services: Wired, rule: _Rule = "") -> Response:
    """Show an item to a person who comes back to it."""
    caller = visitor_of(request, REVIEWS_READ)
    return await _show(request, services, caller, await _item(services, caller, item_id))


@router.post("/{item_id}/decision")
async def decide(request: Request, item_id: str, services: Wired, rule: _Rule = "") -> Response:
    """Decide about an item, or revise a decision; then show the next item."""
    caller, fields = visitor_of(request, REVIEWS_WRITE), await form_of(request)
    try:
        decision = _decision(fields)
        reviews = services.ledger.of(Reviews)
        decided = await services.ask(reviews.decide, person_of(caller, None), checked_id(item_id), decision)
    except (Conflict, InvalidRecord) as error:
        return await _refused(request, services, caller, item_id, error, dict(fields).get("corrected"))
    if decided.wakes:
        services.ring()
    return _go_on(request, "decided")


@router.post("/{item_id}/comparison")
async def compare(request: Request, item_id: str, services: Wired, rule: _Rule = "") -> Response:
    """Show how a correction differs from the answer, before it is sent."""
    caller, fields = visitor_of(request, REVIEWS_WRITE), dict(await form_of(request))
    item, corrected = await _item(services, caller, item_id), fields.get("corrected", "")
    before = "" if item.shown is None else item.shown.answer or ""
    if corrected == before:
        return await _show(request, services, caller, item, said="The text is as it was.")
    compared = await asyncio.to_thread(changes, before, corrected)
    return await _show(request, services, caller, item, corrected=corrected, compared=compared)


@router.post("/{item_id}/skip")
async def skip(request: Request, item_id: str, services: Wired, rule: _Rule = "") -> Response:
    """Give an item back, and show the next one."""
    caller, lease = visitor_of(request, REVIEWS_WRITE), _number(dict(await form_of(request)).get("lease"))
    try:
        if not isinstance(lease, int):
            raise InvalidRecord("lease: is not a number: send the form from a page of the console", param="lease")
        await services.ask(services.ledger.of(Reviews).skip, person_of(caller, None), checked_id(item_id), lease)
    except (Conflict, InvalidRecord) as error:
        return await _refused(request, services, caller, item_id, error)
    return _go_on(request, "skipped")


@router.post("/{item_id}/undo")
async def undo(request: Request, item_id: str, services: Wired, rule: _Rule = "") -> Response:
    """Take back what the visitor decided about an answer, and show the next item."""
    caller = visitor_of(request, REVIEWS_WRITE)
    try:
        await services.ask(services.ledger.of(Reviews).undo, person_of(caller, None), checked_id(item_id))
    except Conflict as error:
        return await _refused(request, services, caller, item_id, error)
    return _go_on(request, "undone")
