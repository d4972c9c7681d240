"""Rates of a provider's key: whether the next call may be made now, and else when.

All workers of a deployment that use one key share its rates through Redis. While Redis does not answer, each worker
keeps rates of its own, and the provider is asked more often than it should be.

A rate is kept as the time at which all calls that were made so far are paid for (the generic cell rate algorithm): so
models with different limits may share a key. A key that was slowed down by its provider takes no call until a time. A
caller that cannot be let through is given a place in a line: the callers come back one after another.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from headrace_workers.core.log import Action, log
from headrace_workers.core.outage import REDIS_ERRORS
from headrace_workers.models.catalogue import RemoteModel

if TYPE_CHECKING:
    import redis

_BURST: Final = 10.0  # seconds: calls of so long may be made at once
_GAP: Final = 0.05  # seconds between two callers that come back, where the rate allows more
_LONGEST_PLACE: Final = 300.0  # seconds: nobody comes back later than so long after the end of a pause
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0  # seconds, where a provider does not say for how long
_AWAY: Final = 5.0  # seconds without asking a Redis that did not answer
_MINUTE: Final = 60.0

_TAKE = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local request, token, burst, gap, longest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local kept = redis.call('HMGET', KEYS[1], 'requests', 'tokens', 'paused', 'line')
local requests, tokens = math.max(now, tonumber(kept[1]) or 0), math.max(now, tonumber(kept[2]) or 0)
local wait = math.max((tonumber(kept[3]) or 0) - now, requests - now - math.max(0, burst - request),
                      tokens - now - math.max(0, burst - token))
if wait <= 0 then
  redis.call('HSET', KEYS[1], 'requests', tostring(requests + request), 'tokens', tostring(tokens + token))
elseif ARGV[6] == '1' then
  local place = math.min(math.max(now + wait, tonumber(kept[4]) or 0) + gap, now + wait + longest)
  redis.call('HSET', KEYS[1], 'line', tostring(place))
  wait = place - now
end
redis.call('PEXPIRE', KEYS[1], math.ceil((math.max(requests + request, tokens + token, now + wait) - now + 300) * 1000))
return tostring(math.max(0, wait))
"""  # noqa: E501

_PAUSE = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local after, first, longest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local kept = redis.call('HMGET', KEYS[1], 'paused', 'pause', 'guess')
local paused, pause, guess = tonumber(kept[1]) or 0, tonumber(kept[2]) or 0, kept[3] or '0'
if after < 0 then
  if paused > now then return tostring(paused - now) end
  after = pause > 0 and now - paused < 2 * pause and math.min(longest, 2 * pause) or first
  guess = '1'
elseif now + after > paused then
  guess = '0'
end
paused = math.max(paused, now + after)
redis.call('HSET', KEYS[1], 'paused', tostring(paused), 'pause', tostring(after), 'guess', guess)
redis.call('PEXPIRE', KEYS[1], math.ceil((paused - now + 300) * 1000))
return tostring(paused - now)
"""

_GIVE_BACK = """
local tokens = redis.call('HGET', KEYS[1], 'tokens')
if tokens then redis.call('HSET', KEYS[1], 'tokens', tostring(tonumber(tokens) - tonumber(ARGV[1]))) end
return '0'
"""

_RESUME = """
redis.call('HDEL', KEYS[1], 'paused', 'pause', 'guess', 'line')
return '0'
"""

_GUESS = """
local kept = redis.call('HMGET', KEYS[1], 'paused', 'guess')
return kept[2] == '1' and (tonumber(kept[1]) or 0) > tonumber(redis.call('TIME')[1]) and '1' or '0'
"""


def key_of(model: RemoteModel) -> str:
    """Return the name of what a provider counts calls by: its address and the key's place, never the key itself."""
    words = "\0".join((model.provider, model.endpoint, str(model.api_key or "")))
    return hashlib.sha256(words.encode()).hexdigest()[:16]


@dataclass(slots=True)
class _Own:
    """Rates of this process alone, by the same rules as the scripts above."""

    requests: float = 0.0
    tokens: float = 0.0
    paused: float = 0.0
    pause: float = 0.0
    guess: bool = False
    line: float = 0.0

    def take(self, now: float, request: float, token: float, gap: float, *, in_line: bool) -> float:
        requests, tokens = max(now, self.requests), max(now, self.tokens)
        wait = max(
            self.paused - now,
            requests - now - max(0.0, _BURST - request),
            tokens - now - max(0.0, _BURST - token),
        )
        if wait <= 0:
            self.requests, self.tokens = requests + request, tokens + token
            return 0.0
        if in_line:
            self.line = min(max(now + wait, self.line) + gap, now + wait + _LONGEST_PLACE)
            return self.line - now
        return wait

    def slow_down(self, now: float, after: float | None) -> float:
        if after is None:
            if self.paused > now:
                return self.paused - now
            lately = self.pause > 0 and now - self.paused < 2 * self.pause
            after, self.guess = (min(_LONGEST_PAUSE, 2 * self.pause) if lately else _FIRST_PAUSE), True
        elif now + after > self.paused:
            self.guess = False
        self.paused, self.pause = max(self.paused, now + after), after
        return self.paused - now


class CallRates:
    """The rates of a model's key. Thread-safe. Without `redis` they are of this process alone."""

    def __init__(
        self,
        model: RemoteModel,
        redis: "redis.Redis | None" = None,
        name: str = "",
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._request = _MINUTE / model.requests_per_minute if model.requests_per_minute else 0.0
        self._token = _MINUTE / model.tokens_per_minute if model.tokens_per_minute else 0.0
        self._redis, self._name, self._clock = redis, name, clock
        self._own, self._lock = _Own(), threading.Lock()
        self._away_until = float("-inf")

    def take(self, tokens: int, *, in_line: bool = False) -> float:
        """Take the right to make a call of so many tokens, and return 0; else return in how many seconds to come back.

        With `in_line` each caller that must come back is told a time of its own.
        """
        request, token = self._request, self._token * tokens
        gap = max(_GAP, request, token)
        told = self._ask(_TAKE, request, token, _BURST, gap, _LONGEST_PLACE, int(in_line))
        if told is not None:
            return told
        with self._lock:
            return self._own.take(self._clock(), request, token, gap, in_line=in_line)

    def slow_down(self, after: float | None) -> float:
        """Let nobody use the key for so many seconds, and return how many are left. Without `after`, each pause that
        follows another is twice as long.
        """
        after = None if after is None else max(_FIRST_PAUSE, after)
        told = self._ask(_PAUSE, -1 if after is None else after, _FIRST_PAUSE, _LONGEST_PAUSE)
        if told is not None:
            return told
        with self._lock:
            return self._own.slow_down(self._clock(), after)

    def resume(self) -> bool:
        """Let the key be used again before its pause is over; return False if Redis does not answer."""
        with self._lock:
            self._own.paused = self._own.pause = self._own.line = 0.0
        return self._ask(_RESUME) is not None

    def is_guess(self) -> bool:
        """Return True while the key is slowed down until a time that its provider did not name."""
        told = self._ask(_GUESS)
        return (self._own.guess and self._own.paused > self._clock()) if told is None else told > 0

    def give_back(self, tokens: int) -> None:
        """Give back tokens that a call took and did not use; less than 0 for a call that used more."""
        if not tokens or not self._token:
            return
        if self._ask(_GIVE_BACK, self._token * tokens) is None:
            with self._lock:
                self._own.tokens -= self._token * tokens

    def _ask(self, script: str, *arguments: float) -> float | None:
        """Return what Redis says; None while it does not answer."""
        if self._redis is None or self._clock() < self._away_until:
            return None
        try:
            told: Any = self._redis.eval(script, 1, self._name, *arguments)
            return float(told)
        except REDIS_ERRORS as error:
            self._away_until = self._clock() + _AWAY
            log("models", logging.WARNING, Action.UNAVAILABLE,
                "Redis does not answer: this worker counts its calls of a provider by itself",
                reason=type(error).__name__)  # fmt: skip
            return None
