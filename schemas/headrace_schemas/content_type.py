"""The `content-type` of a record: JSON in binary mode, a CloudEvent in structured mode, or a refusal."""

import re
from collections.abc import Sequence
from typing import Final

from headrace_schemas.errors import InvalidRecord

NAME: Final = "content-type"
JSON: Final = "application/json"
STRUCTURED: Final = "application/cloudevents+json"
_USUAL: Final = JSON.encode()

_MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+", re.ASCII)
_CHARSET = re.compile(r"""charset\s*=\s*"?([^\s";]*)""", re.IGNORECASE)
_CHARSETS = ("utf-8", "utf8", "us-ascii")  # JSON is UTF-8 (RFC 8259, section 8.1)


def is_name(header: str) -> bool:
    """Return True if a header is the content type. Clients that come from HTTP write it in capitals, and mean the
    same.
    """
    return header.lower() == NAME


def is_structured(headers: Sequence[tuple[str, bytes | None]]) -> bool:
    """Return True if the value holds the whole CloudEvent. Without a content type it is JSON in binary mode."""
    found = [value for name, value in headers if len(name) == len(NAME) and is_name(name)]
    if found == [_USUAL]:  # nearly all records
        return False
    if len(set(found)) > 1:
        raise comes_twice(NAME)
    return bool(found) and check(found[0]) == STRUCTURED


def comes_twice(header: str) -> InvalidRecord:
    """Return the error for a header that a record has twice, with different values."""
    return InvalidRecord(f"header {header} comes twice, with different values")


def check(value: bytes | str | None) -> str:
    """Return JSON or STRUCTURED, without parameters. Raise InvalidRecord, which names the type found and those
    allowed.
    """
    text = value.decode("ascii", "backslashreplace") if isinstance(value, bytes) else value or ""
    media_type, _, parameters = text.partition(";")
    media_type = media_type.strip().lower()
    if media_type.startswith("application/cloudevents-batch"):
        raise InvalidRecord("a batch of CloudEvents in one record is not taken: send each event in a record of its own")
    if media_type not in (JSON, STRUCTURED):
        named = repr(media_type) if len(media_type) <= 100 and _MEDIA_TYPE.fullmatch(media_type) else "no media type"
        raise InvalidRecord(f"content-type is {named}; it must be {JSON}, or {STRUCTURED} in structured mode")
    if (charset := _CHARSET.search(parameters)) and charset[1].lower() not in _CHARSETS:
        raise InvalidRecord("content-type names another charset than UTF-8, and JSON is UTF-8")
    return media_type
