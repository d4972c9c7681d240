"""The user's own list of what must not be said: terms and regular expressions, in linear time (RE2)."""

from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from headrace_schemas.errors import ConfigurationError
from headrace_workers.features.moderation.detector import MAX_DETECTIONS, Detection, with_part

MAX_FILE_BYTES: Final = 1_000_000
MAX_ENTRIES: Final = 10_000
MAX_REGEXES: Final = 500  # each is a scan of its own
MAX_LINE: Final = 500  # characters
_MEMORY: Final = 64 << 20  # bytes that RE2 may use for one compiled pattern
# Characters of terms in one pattern: with four times as many, RE2 found no room for its tables in a hostile text, and
# was a thousand times slower without them.
_CHARACTERS: Final = 20_000

_CATEGORY: Final = "blocklist"
# RE2's \b knows ASCII only; these know letters and digits of every script.
_BEFORE, _AFTER = r"(?:\A|[^\pL\pN_])", r"(?:\z|[^\pL\pN_])"


class BlocklistDetector:
    """Finds the terms (whole words, whatever their case) and regexes of a list. Its score is always 1."""

    name = "blocklist"
    reads_words = True
    categories = frozenset({_CATEGORY})

    def __init__(self, lines: Iterable[str], where: str = "blocklist") -> None:
        """Compile the lines. Raise ConfigurationError with file, line and reason of the first bad one."""
        terms, regexes = _read(lines, where)
        self.version = with_part(sha256(repr((terms, regexes)).encode()).hexdigest()[:12])
        self._terms = _compile_terms(terms, where)
        self._regexes = [_compile_regex(pattern, f"{where}, line {number}") for number, pattern in regexes]

    @classmethod
    def from_files(cls, paths: Sequence[Path]) -> "BlocklistDetector":
        """Return a detector for lists in UTF-8 files: one entry a line, `re:` before a regex, `#` before a comment."""
        lists = [_lines(path) for path in paths]
        for path, lines in zip(paths, lists, strict=True):
            alone = cls(lines, f"blocklist {path}")  # an error names its file
        return alone if len(paths) == 1 else cls([line for lines in lists for line in lines], "the blocklists together")

    def detect(self, texts: Sequence[str]) -> list[list[Detection]]:
        """Return the listed terms in each text; at most `MAX_DETECTIONS` a text, which is more than a verdict can
        list.
        """
        return [self._detect(text) for text in texts]

    def _detect(self, text: str) -> list[Detection]:
        # Bytes, because RE2's binding encodes a str anew in every call.
        data = text.encode()
        spans = set()
        for start, end in self._spans(data):
            spans.add((start, end))
            if len(spans) >= MAX_DETECTIONS:
                break
        to_char = _char_offsets(data, spans)
        return [Detection(_CATEGORY, 1.0, to_char[start], to_char[end]) for start, end in sorted(spans)]

    def _spans(self, data: bytes) -> Iterator[tuple[int, int]]:
        for pattern in self._terms:
            position = 0
            while match := pattern.search(data, position):
                yield match.span(1)
                # On from inside the term: the separator after it may be the one before the next.
                position = match.start(1) + 1
        for pattern in self._regexes:
            for match in pattern.finditer(data):
                if match.start() < match.end():
                    yield match.span()


def _lines(path: Path) -> list[str]:
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise ConfigurationError(f"blocklist {path} has {size} bytes; at most {MAX_FILE_BYTES} are taken")
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"blocklist {path} cannot be read: {error}") from error


def _read(lines: Iterable[str], where: str) -> tuple[list[str], list[tuple[int, str]]]:
    """Return the terms, and the regexes with their line numbers."""
    terms: list[str] = []
    regexes: list[tuple[int, str]] = []
    for number, raw in enumerate(lines, start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if len(line) > MAX_LINE:
            raise ConfigurationError(f"{where}, line {number}: {len(line)} characters; at most {MAX_LINE} are taken")
        if line.startswith("re:"):
            regexes.append((number, line[3:].strip()))
        else:
            terms.append(line)
        if len(terms) + len(regexes) > MAX_ENTRIES:
            raise ConfigurationError(f"{where}, line {number}: more than {MAX_ENTRIES} entries")
        if len(regexes) > MAX_REGEXES:
            raise ConfigurationError(f"{where}, line {number}: more than {MAX_REGEXES} regexes")
    return terms, regexes


def _compile_terms(terms: Sequence[str], where: str) -> list[Any]:
    """Return patterns for each kind of edge: a term that begins with a letter must not begin inside a word."""
    import re2

    groups: dict[tuple[str, str], list[str]] = {}
    for term in terms:
        edges = (_BEFORE if _wordlike(term[0]) else "", _AFTER if _wordlike(term[-1]) else "")
        # White space in a term stands for any white space.
        groups.setdefault(edges, []).append(r"\s+".join(re2.escape(word) for word in term.split()))
    return [
        _compile(f"{before}({'|'.join(part)}){after}", where, longest=True)
        for (before, after), group in groups.items()
        for part in _parts(sorted(set(group)))
    ]


def _parts(patterns: Sequence[str]) -> Iterator[list[str]]:
    """Yield the patterns in lists of at most `_CHARACTERS` characters."""
    part: list[str] = []
    size = 0
    for pattern in patterns:
        if part and size + len(pattern) > _CHARACTERS:
            yield part
            part, size = [], 0
        part.append(pattern)
        size += len(pattern)
    if part:
        yield part


def _compile_regex(pattern: str, where: str) -> Any:
    if not pattern:
        raise ConfigurationError(f"{where}: no regex after re:")
    compiled = _compile(pattern, where)
    if compiled.search(b""):
        raise ConfigurationError(f"{where}: the regex matches the empty text, and so every text")
    return compiled


def _compile(pattern: str, where: str, longest: bool = False) -> Any:
    import re2

    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    options.longest_match = longest
    options.max_mem = _MEMORY
    try:
        return re2.compile(pattern.encode(), options)
    except re2.error as error:
        reason = error.args[0] if error.args else error
        text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise ConfigurationError(f"{where}: no RE2 regex: {text}") from error


def _wordlike(character: str) -> bool:
    return character.isalnum() or character == "_"


def _char_offsets(data: bytes, spans: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Return the offset in characters for each offset in bytes."""
    found: dict[int, int] = {}
    byte = char = 0
    for position in sorted({offset for span in spans for offset in span}):
        char += len(data[byte:position].decode())
        byte = position
        found[position] = char
    return found
