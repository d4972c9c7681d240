"""Secrets in the words of a provider: its key in any common encoding, and the addresses of machines. Pure.

A provider may quote the key that it was sent, whole or in base64, percent-encoded, in upper case, or with white space
in it. `masked` looks for the key in the text without all that, and hides the part of the text where it stands.
"""

import re
from base64 import b64encode
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from headrace_workers.models.catalogue import is_near

_LEAST_SECRET: Final = 8  # characters: a shorter key may be a word of the answer
_HIDDEN: Final = "[secret]"  # no longer than the shortest secret: no text grows
_LOWER: Final = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")  # keeps the length
_ESCAPE: Final = re.compile(r'%(?:25)*([0-9a-f]{2})|(?<!\\)\\++(?:u([0-9a-f]{4})|([nrt])|(["/]))')
_ADDRESS: Final = r"\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-f]*:[0-9a-f:.]+\]"
_URL: Final = re.compile(r"https?://[^\s\"'<>]+", re.IGNORECASE)

_View = tuple[str, list[int], list[int]]  # a text, and the places where each of its characters begins and ends


def masked(text: str, key: str | None) -> str:
    """Return a text without the key. At its end, where it may be cut off, the beginning of a key is enough."""
    if key is None or len(key) < _LEAST_SECRET:
        return text
    forms, spans = _forms(key), list[tuple[int, int]]()
    for plain, begins, ends in _views(text):
        for form in forms:
            at = plain.find(form)
            while at >= 0:
                spans.append((begins[at], ends[at + len(form) - 1]))
                at = plain.find(form, at + len(form))
            cut = next((n for n in range(len(form) - 1, _LEAST_SECRET - 1, -1) if plain.endswith(form[:n])), None)
            if cut is not None:
                spans.append((begins[-cut], len(text)))
    shown, done = list[str](), 0
    for begin, end in sorted(spans):
        if begin >= done:
            shown += (text[done:begin], _HIDDEN)
        done = max(done, end)
    return "".join([*shown, text[done:]])


def without_addresses(text: str, endpoint: str) -> str:
    """Return a text without this endpoint's host, all IP addresses, and URLs of private networks. Tenants read it."""
    text = _URL.sub(lambda url: "[address]" if _is_private(url[0]) else url[0], text)
    host = re.escape(urlsplit(endpoint).hostname or "")
    known = rf"(?:https?://)?(?<![\w.-])(?:{host}|{_ADDRESS})(?![\w-]|\.\w)(?::\d+)?(?:/[^\s\"'<>]*)?"
    return re.sub(known, "[address]", text, flags=re.IGNORECASE)


def _is_private(url: str) -> bool:
    try:
        return is_near(url)
    except ValueError:  # it cannot be read: nobody misses it
        return True


def _forms(key: str) -> set[str]:
    """Return the key as it may stand in a text, without white space and in lower case: plain, and in base64 of both
    alphabets behind any number of bytes.
    """
    content = key.encode()
    coded = set[str]()
    for before, lost in ((0, 0), (1, 2), (2, 3)):  # characters that also hold bits of what stands before
        text = b64encode(bytes(before) + content).decode()[lost : 8 * (before + len(content)) // 6]
        coded |= {text, text.replace("+", "-").replace("/", "_")}
    return {form.translate(_LOWER) for form in {"".join(key.split()), *coded} if len(form) >= _LEAST_SECRET}


def _views(text: str) -> Iterator[_View]:
    """Yield a text in lower case, without what cannot be seen; and again with its escapes decoded, if it has any."""
    begins = [at for at, letter in enumerate(text) if not letter.isspace() and letter.isprintable()]
    plain = "".join([text[at] for at in begins]).translate(_LOWER)
    ends = [at + 1 for at in begins]
    yield plain, begins, ends
    if "%" in plain or "\\" in plain:
        yield _decoded(plain, begins, ends)


def _decoded(plain: str, begins: list[int], ends: list[int]) -> _View:
    parts, first, last, done = list[str](), list[int](), list[int](), 0
    for escape in _ESCAPE.finditer(plain):
        begin, end = escape.span()
        parts.append(plain[done:begin])
        first += begins[done:begin]
        last += ends[done:begin]
        letter = escape[4] or ("" if escape[3] else chr(int(escape[1] or escape[2], 16)))
        if letter and not letter.isspace() and letter.isprintable():
            parts.append(letter.translate(_LOWER))
            first.append(begins[begin])
            last.append(ends[end - 1])
        done = end
    return "".join([*parts, plain[done:]]), first + begins[done:], last + ends[done:]
