"""The HTTP client of providers: it follows no redirect, and reads no more than an answer may have."""

import re
import ssl
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

from headrace_workers.features.generation.engines.remote.failures import AnswerLost, ProviderRejects, RemoteFailed
from headrace_workers.features.generation.models.catalogue import RemoteModel

if TYPE_CHECKING:
    import httpx2

MOST_EVENT_BYTES: Final = 1024 * 1024  # of one event: clients look through all of it for each part that comes
_BLANK_LINE: Final = re.compile(rb"\n\r?\n")
MOST_BYTES: Final = 8 * 1024 * 1024  # of one answer: the longest text, in events of a few letters each


def http_client(limits: RemoteModel) -> "httpx2.AsyncClient":
    """Return a client for this model. Limits on content are kept by the caller: see `calls.answer`."""
    import httpx2

    class Bounded(httpx2.AsyncByteStream):
        def __init__(self, stream: httpx2.AsyncByteStream) -> None:
            self._stream = stream

        async def __aiter__(self) -> AsyncIterator[bytes]:
            left, event, tail = MOST_BYTES, 0, b""
            async for chunk in self._stream:
                left -= len(chunk)
                seen = tail + chunk
                ends = [found.end() for found in _BLANK_LINE.finditer(seen)]
                event = len(seen) - ends[-1] if ends else event + len(chunk)
                tail = seen[-2:]
                if left < 0:
                    raise AnswerLost(f"the answer has more than {MOST_BYTES:,} bytes")
                if event > MOST_EVENT_BYTES:
                    raise AnswerLost(f"an event of the answer has more than {MOST_EVENT_BYTES:,} bytes")
                yield chunk

        async def aclose(self) -> None:
            await self._stream.aclose()

    async def bound(response: httpx2.Response) -> None:
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise RemoteFailed("the answer is compressed, which was not asked for")
        assert isinstance(response.stream, httpx2.AsyncByteStream)  # noqa: S101 - of an asynchronous client
        response.stream = Bounded(response.stream)
        if response.is_redirect:
            raise ProviderRejects(
                f"the endpoint answered {response.status_code}, a redirect, which is not followed: name the right "
                "address in models.toml"
            )

    return httpx2.AsyncClient(
        follow_redirects=False,
        headers={"Accept-Encoding": "identity"},
        timeout=httpx2.Timeout(limits.total, connect=limits.connect),
        limits=httpx2.Limits(max_connections=limits.open_calls + 1, max_keepalive_connections=limits.open_calls + 1),
        event_hooks={"response": [bound]},
    )


def failed_connection(error: BaseException, endpoint: str) -> RemoteFailed | ProviderRejects:
    """Return the failure of a connection that was not made, or was lost."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, RemoteFailed | ProviderRejects):
            return cause
        if isinstance(cause, ssl.SSLCertVerificationError):
            return ProviderRejects(f"{endpoint} has a certificate that cannot be trusted: {cause.verify_message}")
        cause = cause.__cause__ or cause.__context__
    return RemoteFailed(f"{endpoint} could not be reached, or the connection was lost: {type(error).__name__}")
