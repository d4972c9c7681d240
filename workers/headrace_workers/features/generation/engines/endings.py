"""Endings of JSON answers whose tokens run out: the quotes and brackets that close what is open.

An ending closes, and adds nothing: no key, no value. So it exists only where all that a schema asks for stands already.
"""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from numpy.typing import NDArray

_MOST: Final = 64  # tokens of an ending
_LONGEST: Final = 4  # bytes of a token that closes several brackets at once


class Endings:
    """The tokens that endings are made of, in the order in which they are tried."""

    def __init__(self, tokenizer: LLTokenizer, end_ids: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        texts = {each: tokenizer.decode_bytes([each]) for each in range(tokenizer.vocab_size) if each not in end_ids}
        short = sorted((-len(text), each) for each, text in texts.items() if 0 < len(text) <= _LONGEST)

        def those(wanted: Callable[[bytes], bool]) -> list[int]:
            return [each for _, each in short if wanted(texts[each])]

        brackets = those(lambda text: not text.strip(b"}]"))
        quotes = those(lambda text: text[:1] == b'"' and not text[1:].strip(b"}]"))
        self._brackets = np.array(brackets, dtype=np.int64)
        self._closing = np.array([*quotes, *brackets], dtype=np.int64)  # a string may hold brackets, too

    def find(self, matcher: LLMatcher, written: Sequence[int], most: int) -> list[int] | None:
        """Return tokens that end an answer of which `written` stands already; None if there are none, or `most` do not
        suffice. The matcher stays where it is.
        """
        matcher = matcher.deep_copy()
        found: list[int] = []
        while not matcher.is_accepting():
            bits = np.unpackbits(np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8), bitorder="little")
            token = _first(bits, self._closing) if found else self._first_of_all(bits, written)
            if token is None or len(found) == min(most, _MOST) or not matcher.try_consume_tokens([token]):
                return None
            found.append(token)
        return found

    def _first_of_all(self, bits: NDArray[np.uint8], written: Sequence[int]) -> int | None:
        """Return the token that closes what is open at the end of `written`; None where it would begin or cut
        something: a quote an item or a key, a bracket a number.
        """
        sign = self._tokenizer.decode_bytes(list(written[-_LONGEST:])).rstrip()[-1:]
        bracket = _first(bits, self._brackets)
        if sign in (b"{", b"["):
            return bracket
        is_within_a_string = bracket is not None or sign not in (b"", b",", b":")
        token = _first(bits, self._closing)
        if token is None or token == bracket:
            return None if sign.isalnum() else token
        return token if is_within_a_string else None


def _first(bits: NDArray[np.uint8], order: NDArray[np.int64]) -> int | None:
    """Return the first of these tokens that may follow, by its bit."""
    allowed = order[bits[order] == 1]
    return int(allowed[0]) if len(allowed) else None
