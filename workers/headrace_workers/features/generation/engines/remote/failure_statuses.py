"""Answers of providers that are no success, and what they mean for a call."""

import math
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from time import time
from typing import Any, Final

from headrace_schemas import HeadraceError
from headrace_workers.core.ports import ProviderBusy
from headrace_workers.features.generation.engines.remote.failures import (
    AnswerLost,
    ProviderRejects,
    RemoteFailed,
    RequestRejected,
)

_LONGEST_WAIT: Final = 86_400.0
_DELAY: Final = re.compile(r"(\d{1,6}(?:\.\d{1,9})?)s")  # Gemini's `retryDelay`
_HARD: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
_BUSY: Final = frozenset({429, 503, 529})
_BUSY_TYPES: Final = frozenset({"overloaded_error", "rate_limit_error", "rate_limit_exceeded"})
_BAD_REQUEST: Final = frozenset({400, 413, 422})
_OTHERS: Final = frozenset({401, 402, 403, 404, 408, 409, 425})  # another model may answer


def failure_of_status(status: int, headers: Mapping[str, str], body: object) -> HeadraceError:
    """Return the failure that an answer with this status means. The provider's words are shortened, and its body is not
    handed on.
    """
    error = _error_in(body)
    words = f"the provider answered {status}" + (f": {message}" if (message := _message(error)) else "")
    if status in _BUSY and _code(error) not in _HARD:
        return ProviderBusy(words, after=retry_after(headers, error))
    if status in _BUSY or status in _OTHERS or status >= 500:
        return RemoteFailed(words)
    return RequestRejected(words) if status in _BAD_REQUEST else ProviderRejects(words)


def failure_in_stream(endpoint: str, body: object) -> HeadraceError:
    """Return the failure that an error means which came in a stream, behind the status 200."""
    error = _error_in(body)
    words = f"{endpoint} ended its answer with an error" + (f": {message}" if (message := _message(error)) else "")
    if (error or {}).get("type") in _BUSY_TYPES:
        return ProviderBusy(words, after=retry_after({}, error))
    return AnswerLost(words)


def retry_after(headers: Mapping[str, str], error: Mapping[str, Any] | None = None) -> float | None:
    """Return in how many seconds a provider asks to be asked again: by its header, or by its body as Gemini does."""
    text = (headers.get("retry-after") or "").strip()
    try:
        seconds = float(text) if text else None
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - time()
        except (TypeError, ValueError, OverflowError):
            seconds = None
    if seconds is None:
        seconds = _delay_in(error)
    return None if seconds is None or not math.isfinite(seconds) else min(max(0.0, seconds), _LONGEST_WAIT)


def _delay_in(error: Mapping[str, Any] | None) -> float | None:
    details = (error or {}).get("details")
    for each in details if isinstance(details, list) else ():
        delay = each.get("retryDelay") if isinstance(each, Mapping) else None
        if isinstance(delay, str) and (found := _DELAY.fullmatch(delay)):
            return float(found[1])
    return None


def _error_in(body: object) -> Mapping[str, Any] | None:
    """Return the error object of a body: with or without `error` around it, in a list as Gemini sends it, or not."""
    if isinstance(body, list):
        body = body[0] if body else None
    if isinstance(body, Mapping) and isinstance(body.get("error"), Mapping):
        body = body["error"]
    return body if isinstance(body, Mapping) else None


def _message(error: Mapping[str, Any] | None) -> str:
    message = (error or {}).get("message")
    return " ".join(message.split())[:300] if isinstance(message, str) else ""


def _code(error: Mapping[str, Any] | None) -> str:
    code = (error or {}).get("code")
    return code if isinstance(code, str) else ""
