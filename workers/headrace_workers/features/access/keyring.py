"""Keys that were seen a moment ago, so that not every request looks into the ledger."""

import hmac
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final

from starlette.requests import Request

from headrace_workers.core.scopes import all_scopes, granted
from headrace_workers.features.access.store.keys import ApiKeys, KeyRow, read_token
from headrace_workers.http.batcher import Batcher
from headrace_workers.http.caller import OPEN, Caller
from headrace_workers.http.errors import Refusal, Why

KEPT_SECONDS: Final = 5.0  # so soon a key that was revoked, or that expires, opens nothing any more
_MOST_KEPT = 10_000
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})


class Keyring:
    """Tells who holds a key. Belongs to the event loop.

    With `open_to`, a tenant, keys are neither asked for nor looked at: all who come are that tenant. It is for loopback
    alone, and so a request must be for loopback, and from no page of another's: a browser would send those, too.
    """

    def __init__(
        self,
        keys: ApiKeys,
        executor: Executor,
        *,
        patience: float,
        open_to: str | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        def find(ids: list[str]) -> list[KeyRow | None]:
            found = keys.find(frozenset(ids))
            return [found.get(key_id) for key_id in ids]

        self._look_up: Batcher[str, KeyRow | None] = Batcher(find, executor, patience=patience)
        self._open_to = open_to
        self._monotonic = monotonic
        self._kept: OrderedDict[str, tuple[float, KeyRow | None]] = OrderedDict()

    async def caller(self, request: Request, key: str | None, *, own_page: bool = False) -> Caller:
        """Return the caller of a request. Refuse it with 401 if its key is nobody's."""
        if self._open_to is not None:
            _only_from_here(request, own_page)
            return Caller(self._open_to, frozenset(all_scopes()), OPEN, "")
        if not key:
            raise Refusal(
                Why.UNAUTHORIZED, "give an API key: `Authorization: Bearer hr_…`, made by `headrace keys create`"
            )
        token = read_token(key)
        row = await self._row(token.id) if token is not None else None
        if token is None or row is None or not row.valid or not hmac.compare_digest(row.digest, token.digest):
            raise Refusal(Why.UNAUTHORIZED, "the API key is not valid: it is mistyped, revoked, or has expired")
        return _caller(row)

    async def holder(self, request: Request, key_id: str) -> Caller:
        """Return the caller who signed in with the key of this id. Raise 401 where it is no longer valid."""
        if self._open_to is not None:
            _only_from_here(request, own_page=True)
            if key_id == OPEN:
                return Caller(self._open_to, frozenset(all_scopes()), OPEN, "")
        row = None if key_id == OPEN else await self._row(key_id)
        if row is None or not row.valid:
            raise Refusal(Why.UNAUTHORIZED, "the API key that you signed in with was revoked, or has expired")
        return _caller(row)

    async def _row(self, key_id: str) -> KeyRow | None:
        now = self._monotonic()
        kept = self._kept.get(key_id)
        if kept is not None and now - kept[0] < KEPT_SECONDS:
            return kept[1]
        row = await self._look_up.ask(key_id)
        self._kept[key_id] = now, row
        self._kept.move_to_end(key_id)
        while len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        return row


def _caller(row: KeyRow) -> Caller:
    return Caller(row.tenant, granted(row.scopes), row.id, row.name.strip() or row.id)


def _only_from_here(request: Request, own_page: bool) -> None:
    """403 for what a browser sends on behalf of a page of somebody else's. A page of the gateway has an origin, too."""
    host = request.headers.get("host", "")
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    if name not in _LOOPBACK or ("origin" in request.headers and not own_page):
        raise Refusal(
            Why.FORBIDDEN, "without keys this gateway answers programs on this machine only, and no web pages"
        )
