"""Keys, tokens and passwords in URLs: detect-secrets' patterns, and JSON Web Tokens of any length."""

import base64
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from headrace_workers.features.moderation.detector import Detection, version_of
from headrace_workers.features.moderation.segments import outermost, windows

# JSON Web Tokens of any length (RFC 7515 and 7516), in linear time: found by their header, read whole.

# Base64 of `{"`, and of `{` with a space, a line feed or a carriage return after it.
_BEGIN: Final = r"ey[JA]|ew[o0]"
_SEGMENT: Final = re.compile(rf"(?:{_BEGIN})[A-Za-z0-9_\-=]+")
_START: Final = re.compile(_BEGIN)
_PAYLOAD: Final = re.compile(r"\.[A-Za-z0-9_\-+/=]*")
_TOKEN_REST: Final = re.compile(r"(?:\.[A-Za-z0-9_\-+/=]*)+")
# Places in one segment where a header may begin, when other characters stand before it. A segment with more of them,
# none of which is a header, is taken for a token: to try them all would be quadratic.
_MOST_STARTS: Final = 8


def jwts(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of each token in the text, signature included."""
    done = 0
    for segment in _SEGMENT.finditer(text):
        payload = _PAYLOAD.match(text, segment.end())
        if payload is None or segment.start() < done:
            continue
        start = _header_start(text, segment.start(), segment.end(), payload[0][1:])
        rest = None if start is None else _TOKEN_REST.match(text, segment.end())
        if start is not None and rest is not None and (tail := rest[0].rstrip(".")):  # else a sentence ended
            done = segment.end() + len(tail)
            yield start, done


def _header_start(text: str, start: int, end: int, payload: str) -> int | None:
    """Return the place where the token's header begins in text[start:end], or None."""
    for tried, candidate in enumerate(_START.finditer(text, start, end)):
        if tried == _MOST_STARTS:
            return start
        header = _decoded(text[candidate.start() : end])
        if isinstance(header, dict) and ("alg" in header or _decoded(payload) is not None):
            return candidate.start()
    return None


def _decoded(segment: str) -> Any:
    """Return the JSON value that a segment encodes in base64, or None."""
    unpadded = segment.rstrip("=")
    try:
        return json.loads(base64.urlsafe_b64decode(unpadded + "=" * (-len(unpadded) % 4)))
    except (ValueError, RecursionError):
        return None


_CATEGORY: Final = "secret"
_SCORE: Final = 1.0

# A key's header alone says nothing: what is secret follows it, up to the end line or the end of the text.
_KEY_BEGIN = re.compile(r"(?:-{2,5} ?)?BEGIN (?:[A-Z0-9]+ ){0,2}PRIVATE KEY(?: BLOCK)?|PuTTY-User-Key-File-\d")
_KEY_END = re.compile(r"END (?:[A-Z0-9]+ ){0,2}PRIVATE KEY(?: BLOCK)?(?: ?-{2,5})?|Private-MAC: ?[0-9a-f]+")
# Such a password is of any length, and its pattern linear: no character that it may hold begins another.
_URL_PASSWORD = re.compile(r"://[^:/?#\[\]@!$&'()*+,;=\s]+:([^:/?#\[\]@!$&'()*+,;=\s]+)@")
# Characters that continue a token where the pattern stops early, or where a window was cut.
_REST = re.compile(r"[A-Za-z0-9_\-+/=]*(?:\.[A-Za-z0-9_\-+/=]+)*")

# Tokens that detect-secrets 1.5 does not know (formats as their issuers document them).
_NEWER: Final = (
    (("github_pat_",), r"github_pat_[A-Za-z0-9_]{22,}"),
    (("aiza",), r"AIza[0-9A-Za-z_-]{35}"),
    (("sk-",), r"\bsk-(?:ant-|proj-|svcacct-)?[A-Za-z0-9_-]{32,}"),
    (("hf_",), r"\bhf_[A-Za-z0-9]{30,}"),
    (("npm_",), r"\bnpm_[A-Za-z0-9]{30,}"),
)

# Plugin, which group is the secret (0: the whole match), and what the text must contain (lower case) for it to match.
# Left out: the entropy and keyword plugins, which object to prose, IpPublic, which is personal data here, and those for
# tokens that may be longer than a window, JWT and passwords in URLs, which are looked for in the whole text.
_PLUGINS: Final = (
    ("artifactory", "ArtifactoryDetector", 0, ("akc", "ap")),
    ("aws", "AWSKeyDetector", 1, ("akia", "a3t", "abia", "acca", "asia", "aws")),
    ("azure_storage_key", "AzureStorageKeyDetector", 0, ("accountkey=",)),
    ("cloudant", "CloudantDetector", 1, ("cloudant", "clou", "cl")),
    ("discord", "DiscordBotTokenDetector", 0, (".",)),
    ("github_token", "GitHubTokenDetector", 0, ("gh",)),
    ("gitlab_token", "GitLabTokenDetector", 0, ("gl", "gr1348941")),
    ("ibm_cloud_iam", "IbmCloudIamDetector", 1, ("key", "pwd", "password", "pass", "token")),
    ("ibm_cos_hmac", "IbmCosHmacDetector", 1, ("secret",)),
    ("mailchimp", "MailchimpDetector", 0, ("-us",)),
    ("npm", "NpmDetector", 1, (":_authtoken=",)),
    ("openai", "OpenAIDetector", 0, ("t3blbkfj",)),
    ("pypi_token", "PypiTokenDetector", 0, ("pypi-",)),
    ("sendgrid", "SendGridDetector", 0, ("sg.",)),
    ("slack", "SlackDetector", 0, ("xox", "hooks.slack.com")),
    ("softlayer", "SoftlayerDetector", 1, ("softlayer", "sl")),
    ("square_oauth", "SquareOAuthDetector", 0, ("sq0csp-",)),
    ("stripe", "StripeDetector", 0, ("k_live_",)),
    ("telegram_token", "TelegramBotTokenDetector", 0, (":",)),
    ("twilio", "TwilioKeyDetector", 0, ("ac", "sk")),
)

# Every pattern, except for passwords in URLs and key files, needs a run of eight such characters with a digit in it: a
# test checks the gate against the patterns.
_RUN = r"A-Za-z_+/=.\-"
# Looked for from the beginning of each run alone: half of what it takes from every character.
_TOKEN = re.compile(rf"(?<![{_RUN}0-9])(?=[{_RUN}0-9]{{8}})[{_RUN}]*+[0-9]|://|:_auth")


@dataclass(frozen=True, slots=True)
class _Rule:
    """One pattern: `group` is the secret's, `needs` are strings of which the case-folded text must hold one."""

    pattern: re.Pattern[str]
    group: int
    needs: tuple[str, ...]


class SecretsDetector:
    """Finds credentials by their published formats. Its score is always 1."""

    name = "secrets"
    reads_words = False
    categories = frozenset({_CATEGORY})

    def detect(self, texts: Sequence[str]) -> list[list[Detection]]:
        """Return the secrets in each text. The plugins are loaded by the first call."""
        return [self._detect(text) for text in texts]

    @cached_property
    def version(self) -> str:
        """The version of the patterns."""
        return version_of("detect-secrets")

    @cached_property
    def _rules(self) -> list[_Rule]:
        return _load()

    def _detect(self, text: str) -> list[Detection]:
        spans = set(_private_keys(text))
        if _TOKEN.search(text):
            spans.update(jwts(text))
            spans.update(match.span(1) for match in _URL_PASSWORD.finditer(text))
            spans.update(self._patterned(text))
        return [Detection(_CATEGORY, _SCORE, start, end) for start, end in outermost(spans)]

    def _patterned(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield the matches of the patterns, window by window; a token that continues is followed to its end."""
        reached = 0
        for offset, window in windows(text):
            stop = offset + len(window)
            folded = window.casefold()
            for rule in self._rules:
                if not any(need in folded for need in rule.needs):
                    continue
                for start, end in _matches(rule, text, offset, stop):
                    if end == stop and rule.group == 0:
                        # The same end for every token that reaches this one: looked for once, so that all is linear.
                        if reached < stop:
                            reached = _token_end(text, stop, len(text))
                        yield start, reached
                    else:
                        yield start, end


def _matches(rule: _Rule, text: str, begin: int, stop: int) -> Iterator[tuple[int, int]]:
    for match in rule.pattern.finditer(text, begin, stop):
        start, end = match.span(rule.group)
        value = text[start:end]
        # In a word of prose there is none.
        if start < 0 or not any(c.isdigit() for c in value):
            continue
        if rule.group == 0:
            start += len(value) - len(value.lstrip(' \t\n=:"'))  # separators that a pattern takes in
            end = _token_end(text, start + len(text[start:end].rstrip(' \t\n"')), stop)
        yield start, end


def _token_end(text: str, at: int, stop: int) -> int:
    """Return the end of the token that text[:at] begins."""
    rest = _REST.match(text, at, stop)
    return rest.end() if rest else at


def _private_keys(text: str) -> Iterator[tuple[int, int]]:
    if "PRIVATE KEY" not in text and "PuTTY" not in text:
        return
    position = 0
    while begin := _KEY_BEGIN.search(text, position):
        end = _KEY_END.search(text, begin.end())
        position = end.end() if end else len(text)
        yield begin.start(), position


def _load() -> list[_Rule]:
    from importlib import import_module

    rules = [_Rule(re.compile(pattern), 0, needs) for needs, pattern in _NEWER]
    for module, name, group, needs in _PLUGINS:
        plugin = getattr(import_module(f"detect_secrets.plugins.{module}"), name)
        for pattern in plugin.denylist:
            # `findall` in the library yields `ghp` for a GitHub token: the group, not the token. So spans, not values.
            rules.append(_Rule(pattern, group if pattern.groups else 0, needs))
    return rules
