"""Recognition of files that are meant to be JSON lines and are another format as a whole, so that one error names
it.
"""

import json
from collections.abc import Sequence
from typing import Any, Final

HEAD: Final = 4_096  # bytes of a text that tell
WANTED: Final = (
    'headrace takes JSON Lines: one JSON object a line, in UTF-8, such as {"prompt": "Name three rivers."}, or a '
    "request with custom_id, method, url and body"
)
_MAGIC: Final = {
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"Obj\x01": "an Avro file",
    b"PK\x03\x04": "a ZIP archive, such as an Excel or Word file",
    b"SQLite format 3\0": "an SQLite database",
    b"%PDF-": "a PDF",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ\0": "compressed with xz",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"\0\0\xfe\xff": "UTF-32",
}
_BOM: Final = b"\xef\xbb\xbf"
_SEPARATORS: Final = {b",": "CSV", b";": "CSV with semicolons", b"\t": "tab-separated values"}


def unlike_lines(head: bytes, *, whole: bool) -> str | None:
    """Return the format of a text with this `head` if it certainly is not JSON lines. `whole`: it has no more text.

    A first line that is merely wrong says nothing of the others.
    """
    for magic, name in _MAGIC.items():
        if head.startswith(magic):
            return name
    if b"\0" in head[:4]:  # no JSON has one, and in UTF-16 every second byte of such a text is one
        return "UTF-16 or UTF-32"
    text = head.removeprefix(_BOM).lstrip()
    lines = [line.strip() for line in (text if whole else text.rpartition(b"\n")[0]).splitlines() if line.strip()]
    if text.startswith(b"<"):
        return "XML or HTML"
    if text.startswith((b"[", b"{")):
        return _document(lines, whole=whole)
    return _table(lines)


def _document(lines: Sequence[bytes], *, whole: bool) -> str | None:
    """Recognise one JSON document over several lines, or a list of all in one line."""
    if len(lines) > 1 and lines[0] == b"[" and lines[1].startswith(b"{"):
        return "one JSON array"
    if len(lines) > 1 and lines[0] == b"{" and lines[1].startswith(b'"') and not _is_json(lines[1]):
        return "one JSON document over several lines"
    in_one = len(lines) == 1 and whole and isinstance(_value(lines[0]), list)
    return "one JSON array" if in_one and isinstance(next(iter(_value(lines[0])), None), dict) else None


def _table(lines: Sequence[bytes]) -> str | None:
    if len(lines) < 2 or any(_is_json(line) or line.startswith(b"{") for line in lines):
        return None
    for separator, name in _SEPARATORS.items():
        if all(separator in line for line in lines):
            return name
    return None


def _is_json(line: bytes) -> bool:
    return _value(line) is not None or line == b"null"


def _value(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
