"""The caller: the tenant behind an API key, and what the key may do."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Final, Protocol

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from headrace_workers.core.pipeline.task import Job
from headrace_workers.core.scopes import REVIEWS_TEXTS, Scope, allows, resources_named_by
from headrace_workers.http.errors import Refusal, Why


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf a request comes. `key_id` names the key without giving it away. `name` is who signs in with the
    key: its name, or its id if it has none; empty without a key.
    """

    tenant: str
    scopes: frozenset[Scope]
    key_id: str
    name: str

    def may(self, scope: Scope) -> bool:
        """Return whether the key has this scope."""
        return allows(self.scopes, scope)

    def need(self, scope: Scope, place: str | None = None) -> None:
        """Raise 403 if the key lacks a scope that the request needs, for the thing that it names at `place`.

        Call this before the thing is looked up, so that the caller does not learn if it exists.
        """
        if not self.may(scope):
            where = "" if place is None else f"{place}: "
            raise Refusal(Why.FORBIDDEN, f"{where}this key lacks the scope {scope}: use a key that has it")

    def may_read_texts(self, *, held: bool) -> bool:
        """Return True if the caller, who may read a job, may read its texts. Those of a job that is held are texts that
        moderation has not allowed.
        """
        return not held or self.may(REVIEWS_TEXTS)

    def need_texts(self, *, held: bool) -> None:
        """Raise 403 if the caller may not read the texts of a job."""
        if not self.may_read_texts(held=held):
            self.need(REVIEWS_TEXTS, "the job is held")


class FindsCallers(Protocol):
    """The keys of a deployment, as far as the application asks about them."""

    async def caller(self, request: Request, key: str | None, *, own_page: bool = False) -> Caller:
        """Return the caller behind a key. Raise 401 where the key is not valid. `own_page`: a page of the gateway sent
        the request, whose origin was checked.
        """

    async def holder(self, request: Request, key_id: str) -> Caller:
        """Return the caller who signed in to a page of the gateway with the key of this id, which may be `OPEN`. Raise
        401 where the key is no longer valid.
        """


CALLER: Final = "headrace.caller"  # of a request's scope
OPEN: Final = "open"  # the `key_id` of a caller without a key

_BEARER = HTTPBearer(auto_error=False, scheme_name="key", description="An API key, made by `headrace keys create`.")


@dataclass(frozen=True, slots=True)
class Needs:
    """The dependency that returns the caller of a route, whose key must have this scope."""

    scope: Scope

    async def __call__(
        self, request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)]
    ) -> Caller:
        """Return the caller. Raise as `caller_of`."""
        if (found := request.scope.get(CALLER)) is not None:  # the route has looked already, before the body was read
            admitted: Caller = found
            return admitted
        return await caller_of(request, credentials.credentials if credentials else None, self.scope)


def needs(scope: Scope) -> Any:
    """Return the dependency for a route whose key must have a scope: `caller: Annotated[Caller,
    needs(JOBS_READ)]`.
    """
    return Depends(Needs(scope))


async def caller_of(request: Request, key: str | None, scope: Scope) -> Caller:
    """Return the caller behind a key and count the request. Raise as `admit`, and 429 if the tenant asks too often."""
    caller = await admit(request, key, scope)
    await request.app.state.services.rates.take(caller.tenant, 1)
    return caller


async def admit(request: Request, key: str | None, scope: Scope) -> Caller:
    """Return the caller behind a key. Raise 401 if it is not valid, 403 if it lacks the scope."""
    caller: Caller = await request.app.state.services.keyring.caller(request, key)
    visit = request.scope["headrace"]
    visit.tenant, visit.key_id = caller.tenant, caller.key_id
    caller.need(scope)
    return caller


def check_named(caller: Caller, jobs: Iterable[Job]) -> None:
    """Raise 403 where a job names what the caller may not read."""
    for job in jobs:
        for place, family in resources_named_by(job).items():
            caller.need(Scope(f"{family}:read"), place)


def bearer(request: Request) -> str | None:
    """Return the key of a request, if it has one."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else None
