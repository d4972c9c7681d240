"""The review queue over HTTP."""

import re
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from headrace_schemas.errors import InvalidRecord
from headrace_schemas.limits import INTEGRAL, NO_NUL, Alias, Key
from headrace_schemas.review import MAX_PEOPLE
from headrace_workers.features.quality.feature import REVIEWS_READ, REVIEWS_WRITE
from headrace_workers.features.reviews.decision import Decision, NoSuchItem, Person
from headrace_workers.features.reviews.hooks import ReviewQueue
from headrace_workers.features.reviews.progress import Progress, ReviewProgress
from headrace_workers.features.reviews.store import Reviews
from headrace_workers.features.reviews.views import ReviewedItem, ReviewItem, ShownItem
from headrace_workers.http.bodies import JSONRoute
from headrace_workers.http.caller import Caller, needs
from headrace_workers.http.errors import ANSWERS, Refusal, Why
from headrace_workers.http.paging import After, Limit, Page
from headrace_workers.http.services import Wired

router = APIRouter(tags=["reviews"], route_class=JSONRoute)

_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_Reads = Annotated[Caller, needs(REVIEWS_READ)]
_Writes = Annotated[Caller, needs(REVIEWS_WRITE)]
_WHO: Final = "The person; only where the gateway runs without keys. With a key it is the key's name, or its id."
_WhoQuery = Annotated[str | None, Query(min_length=1, max_length=256, pattern=NO_NUL, description=_WHO)]
_Who = Annotated[Key | None, Field(description=_WHO)]


class _Body(BaseModel):
    """A body that refuses unknown fields by name."""

    model_config = ConfigDict(extra="forbid", strict=True)


class AskedNext(_Body):
    """Which item you want next."""

    rule: Annotated[Alias | None, Field(description="Only items of this rule; `held` for held jobs.")] = None
    who: _Who = None


class NextItem(BaseModel):
    """Your next item; null where there is none."""

    object: Literal["review.next"] = "review.next"
    item: ShownItem | None


class NewDecision(Decision):
    """A decision about an item."""

    model_config = ConfigDict(defer_build=False)

    # Not part of what is recorded as said.
    who: Annotated[Key | None, Field(exclude=True, description=_WHO)] = None


class Skip(_Body):
    """An item to be given back."""

    lease: Annotated[int, Field(ge=0, lt=2**63, description="The number of your lease."), INTEGRAL]
    who: _Who = None


class Undo(_Body):
    """A decision to be taken back."""

    who: _Who = None


class SentAnswer(_Body):
    """An answer about which people are to be asked."""

    job_id: Annotated[Key, Field(description="The job whose answer it is.")]


class Wanted(_Body):
    """How many people are to review an item."""

    wanted: Annotated[int, Field(ge=1, le=MAX_PEOPLE), INTEGRAL]


class ReviewItemList(Page[ReviewItem]):
    """A page of review items, the newest first."""


class ReviewedItemList(Page[ReviewedItem]):
    """A page of the items about which you decided, the last decided first."""


@router.post("/v1/reviews/next", responses=ANSWERS)
async def next_item(caller: _Writes, services: Wired, asked: AskedNext | None = None) -> NextItem:
    """Give you an item to decide about, under a lease: the one that you have, else the next. Held jobs come first; a
    key without `reviews:texts` is given none of them.
    """
    asked = asked or AskedNext()
    person = person_of(caller, asked.who)
    reviews = services.ledger.of(Reviews)
    found = await services.ask(reviews.next, person, rule=asked.rule, held=caller.may_read_texts(held=True))
    return NextItem(item=None if found is None else ShownItem.seen(found))


@router.get("/v1/reviews/items", responses=ANSWERS)
async def list_items(
    caller: _Reads,
    services: Wired,
    state: Annotated[Literal["open", "done", "gone"] | None, Query(description="Only items in this state.")] = None,
    rule: Annotated[str | None, Query(pattern=NO_NUL, description="Only items of this rule.")] = None,
    after: After = None,
    limit: Limit = 20,
) -> ReviewItemList:
    """Return the items of your tenant without their texts, the newest first."""
    found = await services.ask(services.ledger.of(Reviews).items, caller.tenant, state, rule, after, limit + 1)
    return ReviewItemList.of(found, limit, ReviewItem.of)


@router.post("/v1/reviews/items", status_code=201, responses=ANSWERS)
async def send_answer(asked: SentAnswer, caller: _Writes, services: Wired) -> ReviewItem:
    """Enter the answer of an ended job into the queue `manual`, before all drawn answers, as when a user reports it. An
    answer that waits already is not entered twice: its item is returned.
    """
    item_id = await services.ask(services.ledger.of(ReviewQueue).enter_by_hand, caller.tenant, asked.job_id)
    nobody = Person(caller.tenant, "", "")
    return ReviewItem.of((await services.ask(services.ledger.of(Reviews).item, nobody, item_id)).row)


@router.get("/v1/reviews/mine", responses=ANSWERS)
async def list_mine(
    caller: _Reads, services: Wired, who: _WhoQuery = None, after: After = None, limit: Limit = 20
) -> ReviewedItemList:
    """Return the items about which you decided, the last decided first, to go over them and revise."""
    person = person_of(caller, who)
    found = await services.ask(services.ledger.of(Reviews).mine, person, after, limit + 1)
    return ReviewedItemList.of(found, limit, lambda each: ReviewedItem.with_decision(*each))


@router.get("/v1/reviews/stats", responses=ANSWERS)
async def show_stats(caller: _Reads, services: Wired) -> Progress:
    """Return the progress of each rule and person in 90 days, how far people agree, and what estimates lack."""
    return await services.ask(services.ledger.of(ReviewProgress).of, caller.tenant)


@router.get("/v1/reviews/items/{item_id}", responses=ANSWERS)
async def show_item(item_id: str, caller: _Reads, services: Wired, who: _WhoQuery = None) -> ShownItem:
    """Return an item as you see it. The texts of a held job need `reviews:texts`."""
    found = await services.ask(
        services.ledger.of(Reviews).item, person_of(caller, who, anybody=True), checked_id(item_id)
    )
    caller.need_texts(held=found.row.held)
    return ShownItem.seen(found)


@router.post("/v1/reviews/items/{item_id}/decision", responses=ANSWERS)
async def decide(item_id: str, asked: NewDecision, caller: _Writes, services: Wired) -> ReviewedItem:
    """Decide about an item that you have, or revise your decision. The same decision again changes nothing.

    The decision permits a held job to go on, or ends it; the job's receipt tells what came of it.
    """
    person = person_of(caller, asked.who)
    decided = await services.ask(services.ledger.of(Reviews).decide, person, checked_id(item_id), asked)
    if decided.wakes:
        services.ring()
    return ReviewedItem.by(decided)


@router.post("/v1/reviews/items/{item_id}/skip", responses=ANSWERS)
async def skip(item_id: str, asked: Skip, caller: _Writes, services: Wired) -> ReviewItem:
    """Give an item back. You are not given it again, but others are."""
    reviews, person = services.ledger.of(Reviews), person_of(caller, asked.who)
    await services.ask(reviews.skip, person, checked_id(item_id), asked.lease)
    return ReviewItem.of((await services.ask(reviews.item, person, item_id)).row)


@router.post("/v1/reviews/items/{item_id}/undo", responses=ANSWERS)
async def undo(item_id: str, caller: _Writes, services: Wired, asked: Undo | None = None) -> ReviewedItem:
    """Take back your decision about an ended answer: its labels are deleted, and the item is open again."""
    person = person_of(caller, (asked or Undo()).who)
    return ReviewedItem.by(await services.ask(services.ledger.of(Reviews).undo, person, checked_id(item_id)))


@router.patch("/v1/reviews/items/{item_id}", responses=ANSWERS)
async def change_item(item_id: str, asked: Wanted, caller: _Writes, services: Wired) -> ReviewItem:
    """Change how many people review an item. It is open while fewer have decided."""
    want = services.ledger.of(Reviews).want
    return ReviewItem.of(await services.ask(want, caller.tenant, checked_id(item_id), asked.wanted))


def person_of(caller: Caller, who: str | None, *, anybody: bool = False) -> Person:
    """Return the person behind a request: whose key it is, else who it names. Raise 403 for another's name, and 400 if
    nobody is named, which with `anybody` is nobody who has decided anything.
    """
    if caller.name:
        if who not in (None, caller.name):
            raise Refusal(Why.FORBIDDEN, f"who: this key is {caller.name}'s: leave `who` out", param="who")
        return Person(caller.tenant, caller.name, caller.key_id)
    if who is None and not anybody:
        raise InvalidRecord("who: is missing, and no key says who you are", param="who")
    return Person(caller.tenant, who or "", "")


def checked_id(item_id: str) -> str:
    """Return the id of an item. Raise NoSuchItem for what cannot be one."""
    if not _ID.fullmatch(item_id):
        raise NoSuchItem("this tenant has no review item of this id")
    return item_id
