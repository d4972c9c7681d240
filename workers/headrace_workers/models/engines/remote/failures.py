"""Failures of models on other machines: what a provider's answer means for a call.

The category of each failure decides whether another model may answer instead.
"""

import math
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from time import time
from typing import Any, Final

from headrace_schemas import Category, HeadraceError
from headrace_schemas.errors import EndCode, PromptTooLong
from headrace_workers.core.ledger.outcome import ProviderBusy
from headrace_workers.core.pipeline.chain import ProviderRefuses

__all__ = [
    "AnswerLost",
    "CutByDeadline",
    "ProviderRefuses",
    "ProviderRejects",
    "RemoteFailed",
    "RequestRejected",
    "ServerFailed",
]

_LONGEST_WAIT: Final = 3_600.0  # seconds: a mistake of a provider must not stop its key for days
_DELAY: Final = re.compile(r"(\d{1,6}(?:\.\d{1,9})?)s")  # Gemini's `retryDelay`
_HARD: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
_BUSY: Final = frozenset({429, 503, 529})
_TOO_LARGE: Final = 413
_TOO_LONG: Final = frozenset({"context_length_exceeded", "exceed_context_size_error"})  # of OpenAI; of llama-server
_TOO_LONG_WORDS: Final = "prompt is too long"  # of Anthropic, which has no code for it
# Names and words of a policy's refusal, without signs and capitals: of OpenAI; of Azure and Moonshot; of Azure; of
# OpenAI; of Alibaba; of Volcengine; of Zhipu; of OpenRouter.
_REFUSED: Final = re.compile(
    r"contentpolicy(violation)?|contentfilter(ed)?|responsibleaipolicyviolation|moderationblocked|datainspectionfailed"
    r"|\w*sensitivecontentdetected|1301|refusal"
)
_SIGNS: Final = re.compile(r"[^0-9A-Za-z]+")
_LONGEST_NAME: Final = 100
_REFUSED_WORDS: Final = (
    "content filtering policy",  # of Anthropic, which has no code for it
    "content management policy",  # of Azure
    "flagged as potentially violating",  # of OpenAI, whose code `invalid_prompt` has other meanings elsewhere
    "result of our safety system",  # of OpenAI
    "content exists risk",  # of DeepSeek
    "violates usage guidelines",  # of xAI
    "datainspectionfailed",  # of Alibaba, through others
)
_BUSY_TYPES: Final = frozenset({"overloaded_error", "rate_limit_error", "rate_limit_exceeded"})
_BAD_REQUEST: Final = frozenset({400, 422})
_OTHERS: Final = frozenset({401, 402, 403, 404, 408, 409, 425})  # another model may answer


class RemoteFailed(HeadraceError):
    """A call that failed for a reason that has nothing to do with its prompt: another model may answer it."""

    category = Category.REROUTABLE


class ServerFailed(RemoteFailed):
    """A call that the provider answered with the status 500: it may answer if it is asked once more."""


class AnswerLost(RemoteFailed):
    """A call that reached the provider, whose answer did not come to its end: it may be billed all the same."""

    billed = True


class CutByDeadline(AnswerLost):
    """An answer that its job's own deadline cut off, too soon to say anything about the model."""


class ProviderRejects(HeadraceError):
    """A call that the provider will never take: the request, the address or the certificate is wrong. `status` is of
    the provider's answer, if there is one.
    """

    category = Category.PERMANENT

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class RequestRejected(ProviderRejects):
    """A call that the provider will never take, since it does not like the request itself."""

    end_code = EndCode.BAD_REQUEST


def failure_of_status(status: int, headers: Mapping[str, str], body: object) -> HeadraceError:
    """Return the failure that an answer with this status means. It has the provider's words as they came: `answer`
    cleans and shortens them. They may quote the prompt, so what is `shared` is the status, and a code of a closed set.
    """
    error = _error_in(body)
    failure = _failure_of(status, headers, error)
    code = _text(error, "code")
    failure.shared = f"the provider answered {status}" + (f" ({code})" if code in _HARD else "")
    return failure


def _failure_of(status: int, headers: Mapping[str, str], error: Mapping[str, Any] | None) -> HeadraceError:
    words = f"the provider answered {status}" + (f": {message}" if (message := _message(error)) else "")
    if status == _TOO_LARGE or (status < 500 and _is_too_long(error)):
        return PromptTooLong(words)
    if status < 500 and status not in _BUSY and _is_refusal(error):
        return ProviderRefuses(words)
    if status in _BUSY and _text(error, "code") not in _HARD:
        return ProviderBusy(words, after=retry_after(headers, error))
    if status == 500:
        return ServerFailed(words)
    if status in _BUSY or status in _OTHERS or status > 500:
        return RemoteFailed(words)
    return RequestRejected(words, status=status) if status in _BAD_REQUEST else ProviderRejects(words, status=status)


def failure_in_stream(error: Exception, *, began: bool) -> HeadraceError:
    """Return the failure that an exception means which was raised while an answer was read, after the status 200.
    Once the answer `began`, its provider may bill it, whatever it says then.
    """
    body = getattr(error, "body", None)  # of an event that says that there is an error
    if body is None:
        reason = "it is not valid JSON" if isinstance(error, ValueError) else type(error).__name__
        return AnswerLost(f"the connection was lost while the provider answered, or its answer is broken: {reason}")
    failure = _failure_told(_error_in(body), began=began)
    failure.shared = "the provider ended its answer with an error"
    return failure


def _failure_told(told: Mapping[str, Any] | None, *, began: bool) -> HeadraceError:
    words = "the provider ended its answer with an error" + (f": {message}" if (message := _message(told)) else "")
    if _is_refusal(told):
        return ProviderRefuses(words)
    if not began and _text(told, "type") in _BUSY_TYPES:
        return ProviderBusy(words, after=retry_after({}, told))
    if not began and _is_too_long(told):
        return PromptTooLong(words)
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
    for detail in details if isinstance(details, list) else ():
        delay = detail.get("retryDelay") if isinstance(detail, Mapping) else None
        if isinstance(delay, str) and (match := _DELAY.fullmatch(delay)):
            return float(match[1])
    return None


def _error_in(body: object) -> Mapping[str, Any] | None:
    """Return the error object of a body: with or without `error` around it, in a list as Gemini sends it, or not."""
    if isinstance(body, list):
        body = body[0] if body else None
    if isinstance(body, Mapping) and isinstance(body.get("error"), Mapping):
        body = body["error"]
    return body if isinstance(body, Mapping) else None


def _is_too_long(error: Mapping[str, Any] | None) -> bool:
    """Return True if an error says that the prompt does not fit into the model's context."""
    named = _text(error, "code") in _TOO_LONG or _text(error, "type") in _TOO_LONG
    return named or _message(error).startswith(_TOO_LONG_WORDS)


def _is_refusal(error: Mapping[str, Any] | None) -> bool:
    """Return True if an error says that the provider's policy withheld the answer."""
    if error is None:
        return False
    inner, metadata = error.get("innererror"), error.get("metadata")
    if isinstance(metadata, Mapping) and "flagged_input" in metadata:  # of OpenRouter
        return True
    names = [error.get("code"), error.get("type"), inner.get("code") if isinstance(inner, Mapping) else None]
    if any(_REFUSED.fullmatch(_SIGNS.sub("", str(name)[:_LONGEST_NAME]).lower()) for name in names):
        return True
    message = _message(error).lower()
    return any(words in message for words in _REFUSED_WORDS)


def _message(error: Mapping[str, Any] | None) -> str:
    return (_text(error, "message") or _text(error, "error") or _text(error, "detail")).strip()


def _text(error: Mapping[str, Any] | None, name: str) -> str:
    value = (error or {}).get(name)
    return value if isinstance(value, str) else ""
