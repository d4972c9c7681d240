"""HTTP as it comes in: what is none is refused in words, where uvicorn has a line for all."""

import json
import sys
from typing import Final

import h11
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from headrace_workers.gateway.errors import Refusal, Why, openai_body

_TO_READ: Final = frozenset({400, 413, 431, 501})  # what h11 hints at


class Protocol(H11Protocol):
    """One connection. Whose request cannot be read is told why in OpenAI's shape: its path is not known for certain."""

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, and hang up. Called while the error is handled."""
        error = sys.exception()
        hint = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        status = hint if hint in _TO_READ else 400
        body = json.dumps(openai_body(Refusal(Why.INVALID, f"the request is no HTTP that can be read: {error or msg}")))
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        answer = h11.Response(status_code=status, headers=headers, reason=STATUS_PHRASES[status])
        for event in (answer, h11.Data(data=body.encode()), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
