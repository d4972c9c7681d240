"""The HTTP client of providers: it follows no redirect, and reads no more than an answer or an error may have."""

import asyncio
import json
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from headrace_schemas import HeadraceError
from headrace_workers.models.catalogue import RemoteModel
from headrace_workers.models.engines.remote.failures import (
    AnswerLost,
    ProviderRejects,
    RemoteFailed,
    failure_of_status,
)

if TYPE_CHECKING:
    import httpx2

MOST_EVENT_BYTES: Final = 1024 * 1024  # of one event: clients look through all of it for each part that comes
_MOST_EVENT_LINES: Final = 1_000  # clients copy all of an event for each of its lines
_BLANK_LINE: Final = re.compile(rb"\n\r?\n")
MOST_BYTES: Final = 8 * 1024 * 1024  # of one answer: the longest text, in events of a few letters each
_MOST_ERROR_BYTES: Final = 64 * 1024
ERROR_SECONDS: Final = 5.0  # for the body of an error: its status is known
_NO_FORMAT: Final = frozenset({400, 422})  # statuses of providers that cannot use a format


def http_client(limits: RemoteModel) -> "httpx2.AsyncClient":
    """Return a client for this model. Limits on content are kept by the caller: see `generator.answer`."""
    import httpx2

    class Bounded(httpx2.AsyncByteStream):
        def __init__(self, stream: httpx2.AsyncByteStream) -> None:
            self._stream = stream

        async def __aiter__(self) -> AsyncIterator[bytes]:
            left, size, lines, tail = MOST_BYTES, 0, 0, b""
            async for chunk in self._stream:
                left -= len(chunk)
                if left < 0:
                    raise AnswerLost(f"the answer has more than {MOST_BYTES:,} bytes")
                size, lines = size - len(tail), lines - _lines_in(tail)  # it is looked at once more
                for part in _BLANK_LINE.split(tail + chunk):
                    size, lines = size + len(part), lines + _lines_in(part)
                    if size > MOST_EVENT_BYTES:
                        raise AnswerLost(f"an event of the answer has more than {MOST_EVENT_BYTES:,} bytes")
                    if lines > _MOST_EVENT_LINES:
                        raise AnswerLost(f"an event of the answer has more than {_MOST_EVENT_LINES:,} lines")
                    last = size, lines
                    size, lines = 0, 0
                size, lines = last
                tail = (tail + chunk)[-2:]
                yield chunk

        async def aclose(self) -> None:
            await self._stream.aclose()

    async def bound(response: httpx2.Response) -> None:
        is_plain = response.headers.get("content-encoding", "identity").lower() == "identity"
        assert isinstance(response.stream, httpx2.AsyncByteStream)  # noqa: S101 - of an asynchronous client
        if response.is_redirect:
            raise ProviderRejects(
                f"the endpoint answered {response.status_code}, a redirect, which is not followed: name the right "
                "address in models.toml"
            )
        if not response.is_success:
            body = b""
            with suppress(httpx2.HTTPError, TimeoutError):
                async with asyncio.timeout(ERROR_SECONDS):
                    body = await _beginning(response.stream) if is_plain else b""
            raise failure_of_status(response.status_code, response.headers, _json_in(body))
        if not is_plain:
            raise RemoteFailed("the answer is compressed, which was not asked for")
        response.stream = Bounded(response.stream)

    return httpx2.AsyncClient(
        follow_redirects=False,
        headers={"Accept-Encoding": "identity"},
        timeout=httpx2.Timeout(limits.total, connect=limits.connect),
        limits=httpx2.Limits(max_connections=limits.open_calls + 1, max_keepalive_connections=limits.open_calls + 1),
        event_hooks={"response": [bound]},
    )


async def sent(post: Callable[[dict[str, Any]], Awaitable[Any]], output: dict[str, Any], lost: type[Exception]) -> Any:
    """Return the client's stream of an answer, once `post(output)` has sent the request. A provider that cannot use the
    format `output` is asked without it: the prompt names it, too. The client raises `lost` for every failure.
    """
    try:
        return await post(output)
    except (lost, HeadraceError) as error:  # of the two clients, one wraps what our response hook raises
        failure = failed_connection(error)
        if not (output and isinstance(failure, ProviderRejects) and failure.status in _NO_FORMAT):
            raise failure from None
    return await sent(post, {}, lost)


def _lines_in(part: bytes) -> int:
    return part.count(b"\n") + part.count(b"\r")


async def _beginning(stream: "httpx2.AsyncByteStream") -> bytes:
    content = b""
    async for chunk in stream:
        content += chunk[: _MOST_ERROR_BYTES - len(content)]
        if len(content) >= _MOST_ERROR_BYTES:
            break
    return content


def _json_in(content: bytes) -> object:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def failed_connection(error: BaseException, endpoint: str = "the provider") -> HeadraceError:
    """Return the failure that our response hook raised inside the client, or that of a connection that was not made.
    Name the `endpoint` to operators alone: tenants read the failures of their jobs.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, HeadraceError):
            return cause
        if isinstance(cause, ssl.SSLCertVerificationError):
            reason = cause.verify_message.partition(",")[0]  # behind it stands the host
            return ProviderRejects(f"{endpoint} has a certificate that cannot be trusted: {reason}")
        cause = cause.__cause__ or cause.__context__
    return RemoteFailed(f"{endpoint} could not be reached, or the connection was lost: {type(error).__name__}")
