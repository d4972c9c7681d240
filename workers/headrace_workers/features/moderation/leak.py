"""System prompts that answers must not repeat: the mark that is put into them, and how an answer is searched."""

import hmac
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import sha256
from itertools import takewhile
from typing import Final, Protocol

from headrace_schemas import Message
from headrace_workers.features.moderation.detector import MAX_DETECTIONS, Detection, Instructions, Source, with_part

_LABEL: Final = b"headrace canary"  # another use of the same secret has other keys
_DIGITS: Final = 20  # hexadecimal: 80 bits
_SAID: Final = "\n\nInternal mark, never to be said: "
LONGEST_MARK: Final = len(_SAID) + _DIGITS  # characters that a marked conversation has more, a byte each
CATEGORY: Final = "system_prompt_leak"
CANARY: Final = "canary"  # the detector whose findings are never shown, whatever the policy says
SHORTEST: Final = 20  # characters: a shorter match happens by chance
_WORD: Final = re.compile(r"\S+")


class Canaries:
    """Marker of system prompts. The first secret makes marks; those of all are recognised. Thread-safe."""

    longest = LONGEST_MARK

    def __init__(self, secrets: Sequence[bytes], asked: Callable[[str], bool]) -> None:
        self._keys = [hmac.digest(secret, _LABEL, sha256) for secret in secrets]
        self._requested = asked

    def shown(self, tenant: str, messages: Sequence[Message]) -> tuple[Message, ...]:
        """Return the conversation as its model is shown it; where it has no system prompt, as it is."""
        system = _leading(messages) if self._keys else ()
        if not system or not self._requested(tenant):
            return tuple(messages)
        mark = _mark(self._keys[0], tenant, _text(system))
        last = system[-1]
        marked = last.model_copy(update={"content": f"{last.content}{_SAID}{mark}"})
        return (*system[:-1], marked, *messages[len(system) :])

    def instructions(self, tenant: str, messages: Sequence[Message]) -> Instructions | None:
        """Return the instructions that the model must not repeat; None without a system prompt."""
        system = _leading(messages)
        if not system:
            return None
        text = _text(system)
        keys = self._keys if self._requested(tenant) else []
        return Instructions(text, tuple(_mark(key, tenant, text) for key in keys))


def _nobody(_tenant: str) -> bool:
    return False


UNMARKED: Final = Canaries((), _nobody)


def _leading(messages: Sequence[Message]) -> tuple[Message, ...]:
    return tuple(takewhile(lambda message: message.role == "system", messages))


def _text(system: Sequence[Message]) -> str:
    return "\n\n".join(message.content for message in system)


def _mark(key: bytes, tenant: str, system: str) -> str:
    message = tenant.encode() + b"\0" + system.encode("utf-8", "surrogatepass")
    return hmac.new(key, message, sha256).hexdigest()[:_DIGITS]


class Leaks(Source, Protocol):
    """A detector of a model's instructions in its answer. Its findings are of one category."""

    def find(self, text: str, instructions: Instructions) -> list[Detection]:
        """Return the places where this text repeats the secret text."""


class CanaryDetector:
    """Finds the mark, also with signs between its digits. It is sure of it."""

    name = CANARY
    version = with_part("hmac")
    categories = frozenset({CATEGORY})

    def find(self, text: str, instructions: Instructions) -> list[Detection]:
        """Return the places of a canary in the text."""
        generator = (place for mark in instructions.marks for place in _spaced(mark).finditer(text))
        return [Detection(CATEGORY, 1.0, *place.span()) for place in generator][:MAX_DETECTIONS]


class VerbatimDetector:
    """Finds stretches of so many characters of the system prompt, or all of a shorter one, whatever their case and
    white space. The score is how much of the prompt a stretch has.
    """

    name = "verbatim"
    categories = frozenset({CATEGORY})

    def __init__(self, characters: int) -> None:
        self._characters = characters
        self.version = with_part(str(characters))

    def find(self, text: str, instructions: Instructions) -> list[Detection]:
        """Return the longest repeated stretches. Linear in the text."""
        system = _plain(instructions.system)
        length = min(self._characters, len(system))
        if length < SHORTEST:
            return []
        stretches = _together(_plain(text), _windows(system, length), length)
        if not stretches:
            return []
        places = _places(text)
        return [
            Detection(CATEGORY, min(1.0, (end - start) / len(system)), places[start], places[end - 1] + 1)
            for start, end in stretches[:MAX_DETECTIONS]
        ]


@lru_cache(maxsize=256)
def _spaced(mark: str) -> re.Pattern[str]:
    return re.compile(r"[\W_]{0,3}".join(mark), re.IGNORECASE)


@lru_cache(maxsize=4)  # jobs of one group mostly share it, and a long one takes megabytes
def _windows(text: str, length: int) -> frozenset[str]:
    return frozenset(text[at : at + length] for at in range(len(text) - length + 1))


def _together(text: str, windows: frozenset[str], length: int) -> list[tuple[int, int]]:
    """Return the spans of the text that windows cover."""
    spans: list[tuple[int, int]] = []
    for at in range(len(text) - length + 1):
        if text[at : at + length] in windows:
            if spans and at < spans[-1][1]:
                spans[-1] = spans[-1][0], at + length
            else:
                spans.append((at, at + length))
    return spans


def _plain(text: str) -> str:
    """Return the text in lower case, with one space between words."""
    return " ".join(_lower(text).split())


def _lower(text: str) -> str:
    """Return each character in lower case, where that is one character, too."""
    lower = text.lower()
    if len(lower) == len(text):
        return lower
    return "".join(small if len(small := sign.lower()) == 1 else sign for sign in text)


def _places(text: str) -> Sequence[int]:
    """Return the place in the original of each character of the plain text."""
    places: list[int] = []
    for word in _WORD.finditer(text):
        places += [*range(*word.span()), word.end()]  # and the space after it
    return places
