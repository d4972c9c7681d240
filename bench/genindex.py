"""Questions with the right pages, from the index that people made for Python's documentation (Debian: python3.13-doc).

An entry such as `b16decode() (in module base64)` is a question, and the pages that it leads to are right. A sub-entry
is asked for below its entry: `backslashreplace: error handler's name`.
"""

import re
from html.parser import HTMLParser
from pathlib import Path

HOME = Path("/usr/share/doc/python3.13/html")


def questions(home: Path = HOME) -> dict[str, set[str]]:
    """Each question, and the paths of its pages from `home`; symbols, which have no page `A` to `Z`, are left out."""
    found: dict[str, set[str]] = {}
    for page in sorted(home.glob("genindex-[A-Z].html")):
        reader = _Entries()
        reader.feed(page.read_text(encoding="utf-8"))
        for question, link in reader.found:
            found.setdefault(question, set()).add(link.partition("#")[0])
    return found


class _Entries(HTMLParser):
    """Lists within lists: the text of each item, and the links in it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self._above: list[str] = []  # the text of each item that is open
        self._link = ""
        self._table = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self._table = ("class", "indextable") in attrs
        elif tag == "li" and self._table:
            self._above.append("")
        elif tag == "a" and self._above:
            self._link = dict(attrs).get("href") or ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "table":
            self._table = False
        elif tag == "li" and self._above:
            self._above.pop()
        elif tag == "a" and self._link:
            # A further place of the same entry is a link `[1]`.
            names = [
                re.sub(r"\s+", " ", re.sub(r"(?:,? ?\[\d+\])+$", "", name.strip())).strip() for name in self._above
            ]
            self.found.append((": ".join(filter(None, names)), self._link))
            self._link = ""

    def handle_data(self, data: str) -> None:
        if self._above:
            self._above[-1] += data
