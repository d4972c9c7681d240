"""HTML to Markdown, as far as chunks need it: headings, paragraphs, lists, tables, code. Hidden text is left out.

Scripts, navigation, and elements that are hidden by an attribute or their own style do not reach the text, nor do
comments: a visitor of the page does not see them. A page that says which part of it is the main one is that part.
"""

import re
from html.parser import HTMLParser
from typing import Final

_UNSEEN: Final = frozenset(
    {"script", "style", "template", "noscript", "svg", "head", "nav", "footer", "button", "select", "iframe", "object"}
)
_VOID: Final = frozenset({"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"})
_BLOCKS: Final = frozenset(
    {"address", "article", "aside", "blockquote", "body", "caption", "dd", "details", "div", "dl", "dt", "fieldset"}
    | {"figcaption", "figure", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "legend", "li", "main", "ol"}
    | {"p", "pre", "section", "summary", "table", "tbody", "td", "tfoot", "th", "thead", "title", "tr", "ul"}
)
_HEADING: Final = {f"h{level}": level for level in range(1, 7)}
_HIDING: Final = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden|(?:font-size|opacity)\s*:\s*0(?![.\d])", re.I)
_SPACE: Final = re.compile(r"\s+")
_MARKDOWN: Final = re.compile(r"#{1,6}(?:\s|$)|`{3}|~{3}")


def to_markdown(html: str) -> str:
    """Return the page's text. Blocks are parted by empty lines; broken HTML gives what can be made of it."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return reader.text()


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._blocks: list[str] = []
        self._words: list[str] = []
        self._prefix = ""
        self._verbatim = 0  # open <pre>
        self._unseen: list[str] = []  # the element that is not shown, once for each of its name open within
        self._main: tuple[str, int] | None = None  # the main part's element, and how many of its name are open
        self._mains: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._unseen:
            # A paragraph ends where another block begins, whether its end is written or not.
            if self._unseen[0] != "p" or tag not in _BLOCKS:
                self._unseen += [tag] if tag == self._unseen[0] else []
                return
            self._unseen.clear()
        if tag in _BLOCKS or tag == "br":
            self._end_block()
        if tag not in _VOID and _is_unseen(tag, dict(attrs)):
            self._unseen.append(tag)
            return
        if self._main is not None:
            self._main = (tag, self._main[1] + 1) if tag == self._main[0] else self._main
        elif tag == "main" or ("role", "main") in attrs:
            self._main = (tag, 1)
        if tag == "pre":
            self._verbatim += 1
        elif tag == "li":
            self._prefix = "- "
        elif tag in _HEADING:
            self._prefix = "#" * _HEADING[tag] + " "

    def handle_endtag(self, tag: str) -> None:
        if self._unseen:
            if tag == self._unseen[0]:
                self._unseen.pop()
            return
        if tag in _BLOCKS:
            self._end_block()
        if tag == "pre":
            self._verbatim = max(0, self._verbatim - 1)
        if self._main is not None and tag == self._main[0]:
            self._main = (tag, self._main[1] - 1) if self._main[1] > 1 else None

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self._words.append(data)

    def close(self) -> None:
        super().close()
        self._end_block()

    def text(self) -> str:
        """Return the blocks of the main part, or of the whole if none is named or nothing is in it."""
        return "\n\n".join(self._mains or self._blocks)

    def _end_block(self) -> None:
        raw, prefix = "".join(self._words), self._prefix
        self._words.clear()
        if self._verbatim:
            block = _fenced(raw.strip("\n").rstrip()) if raw.strip() else ""
        else:
            block = _SPACE.sub(" ", raw).strip()
            block = block.removesuffix("¶").rstrip() if prefix.startswith("#") or block.endswith(")¶") else block
            block = prefix + (f"\\{block}" if _MARKDOWN.match(block) else block) if block else ""
        if block:
            self._prefix = ""
            (self._mains if self._main else self._blocks).append(block)


def _is_unseen(tag: str, attrs: dict[str, str | None]) -> bool:
    return (
        tag in _UNSEEN
        or "hidden" in attrs
        or attrs.get("aria-hidden") == "true"
        or attrs.get("role") in {"navigation", "search"}
        or bool(_HIDING.search(attrs.get("style") or ""))
    )


def _fenced(code: str) -> str:
    longest = max((len(run) for run in re.findall(r"`{3,}", code)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}\n{code}\n{fence}"
