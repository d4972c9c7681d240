"""From files to documents: which files a path names, what is in which format, and the program that converts."""

import contextlib
import errno
import glob
import hashlib
import json
import os
import selectors
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import IO, Final, Self

from headrace_workers.features.knowledge.converting import CONVERTERS
from headrace_workers.features.knowledge.documents import Document, DocumentRefused, Format, clean, decoded

Told = Callable[[Path, str], None]  # a path that was passed over, and why


@dataclass(frozen=True, slots=True)
class FoundFiles:
    """A file, and the name of its document: the folder's name and the path within it, `guide/install.md`."""

    path: Path
    name: str


def find_files(paths: Iterable[str], passed_over: Told = lambda path, why: None) -> Iterator[FoundFiles]:
    """Return the files, in the same order each time. Raise DocumentRefused for a path that names nothing.

    Folders' hidden entries (names with a leading dot) are skipped, and so are links that lead out of the folder or to
    other folders; `passed_over` is called with links and with unreadable folders. A file that is named itself is always
    taken.
    """
    for named in paths:
        for path in _named(named):
            if path.is_dir():
                root = path.resolve()
                yield from _walk(path, root, PurePath(root.name), passed_over)
            else:
                yield FoundFiles(path, _name(PurePath(path.name)))


def _named(named: str) -> Iterator[Path]:
    path = Path(named)
    if path.exists():
        yield path
        return
    matches = map(Path, sorted(glob.iglob(named, recursive=True)) if glob.has_magic(named) else [])
    # A shell would have named folders, too, and they are walked; `**` names a folder and what is in it.
    paths = [path for path in matches if "**" not in named or not path.is_dir()]
    if not paths:
        raise DocumentRefused(f"{named}: there is no such file or folder, and no file that it stands for")
    yield from paths


def _walk(folder: Path, root: Path, name: PurePath, passed_over: Told) -> Iterator[FoundFiles]:
    try:
        with os.scandir(folder) as entries:
            here = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        passed_over(folder, f"cannot be read: {error.strerror or error}")
        return
    for entry in here:
        path = folder / entry.name
        if entry.name.startswith("."):
            continue
        if entry.is_symlink() and (why := _led_astray(path, root)):
            passed_over(path, why)
        elif entry.is_dir(follow_symlinks=False):
            yield from _walk(path, root, name / entry.name, passed_over)
        elif entry.is_file():
            yield FoundFiles(path, _name(name / entry.name))


def _led_astray(link: Path, root: Path) -> str:
    """Why the link is not followed; nothing where it is."""
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError):
        return "is a link to nothing"
    if not target.is_relative_to(root):
        return "is a link that leaves the folder"
    if target.is_dir():
        return "is a link to a folder"
    if any(part.startswith(".") for part in target.relative_to(root).parts):
        return "is a link to a hidden file"
    return ""


def _name(path: PurePath) -> str:
    """Return the path with slashes; bytes that are not UTF-8 become replacement characters."""
    return os.fsencode(path.as_posix()).decode("utf-8", "replace")


MEMORY: Final = 4 << 30  # bytes of address space
_PROGRAM: Final = "headrace_workers.features.knowledge.converting"


class Converter:
    """Converts one document at a time, in a process of its own. Thread-safe. Close it, or use it as a context."""

    def __init__(self, time_limit: float, memory: int = MEMORY) -> None:
        """`time_limit` is in seconds, for each document."""
        self._time_limit = time_limit
        self._memory = memory
        self._one_at_a_time = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process, if there is one."""
        with self._one_at_a_time:
            self._end()

    def convert(self, data: bytes, suffix: str) -> str:
        """Return the document's text. Raise DocumentRefused with the reason alone."""
        with self._one_at_a_time:
            process = self._process = self._process or self._start()
            try:
                answer = _ask(process, data, suffix, time.monotonic() + self._time_limit)
            except BaseException:
                self._end()
                raise
        if "refused" in answer:
            raise DocumentRefused(answer["refused"])
        return answer["text"]

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", _PROGRAM, str(self._memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()
            self._process = None


def _ask(process: subprocess.Popen[bytes], data: bytes, suffix: str, until: float) -> dict[str, str]:
    assert process.stdin is not None  # noqa: S101 - both are pipes
    assert process.stdout is not None  # noqa: S101
    try:
        # The program reads a document whole before it looks at it, so that writing it does not wait long.
        _write(process.stdin, json.dumps({"suffix": suffix, "size": len(data)}).encode() + b"\n" + data)
        line = _read_line(process.stdout, until)
    except BrokenPipeError:
        line = b""
    if not line.endswith(b"\n"):
        raise DocumentRefused("the program that reads it died of it")
    answer: dict[str, str] = json.loads(line)
    return answer


def _write(pipe: IO[bytes], data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[pipe.write(left) :]


def _read_line(pipe: IO[bytes], until: float) -> bytes:
    """Return the text up to the line's end, or the end of all. Raise DocumentRefused if it does not come in time."""
    parts: list[bytes] = []
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while not parts or not parts[-1].endswith(b"\n"):
            if not selector.select(max(0.0, until - time.monotonic())):
                raise DocumentRefused("reading it takes too long: part it, or convert it to Markdown or text yourself")
            part = pipe.read(1 << 20)
            if not part:
                break
            parts.append(part)
    return b"".join(parts)


SIZE_LIMIT: Final = 50_000_000  # bytes
TIME_LIMIT: Final = 300.0  # seconds: two hundred pages a minute are usual for a PDF

MARKDOWN: Final = frozenset({".md", ".markdown", ".mdown", ".mkd", ".mdx"})
_HTML: Final = frozenset({".html", ".htm", ".xhtml"})
_COMPOUND: Final = bytes.fromhex("d0cf11e0a1b11ae1")  # an encrypted Office file is one, and so is an old one
_UNDERLINED: Final = frozenset({".rst", ".rest", ".txt", ".text"})


@dataclass(frozen=True, slots=True)
class Loaded:
    """A file's bytes. `name` is its document's; `suffix` is in small letters. `sha256` is enough to know it again."""

    name: str
    suffix: str
    data: bytes
    sha256: str


def load(path: Path, name: str, size_limit: int = SIZE_LIMIT) -> Loaded:
    """Read the file; DocumentRefused for what is no file, cannot be opened, is empty or too large."""
    try:
        # A pipe would wait for its writer.
        with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise DocumentRefused(f"{path}: it is no regular file")
            data = file.read(size_limit + 1)
    except OSError as error:
        why = "it is no regular file" if error.errno in {errno.ENXIO, errno.EISDIR} else error.strerror or error
        raise DocumentRefused(f"{path}: {why}") from error
    if not data:
        raise DocumentRefused(f"{path}: it is empty")
    if len(data) > size_limit:
        raise DocumentRefused(f"{path}: it has more than {size_limit:,} bytes: part it")
    return Loaded(name, path.suffix.lower(), data, hashlib.sha256(data).hexdigest())


class Reader:
    """Turns what was loaded into documents. Thread-safe. Close it, or use it as a context."""

    def __init__(self, time_limit: float = TIME_LIMIT) -> None:
        """`time_limit` is in seconds, for each document that must be converted."""
        self._converter = Converter(time_limit)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process that converts, if it was started."""
        self._converter.close()

    def read(self, loaded: Loaded) -> Document:
        """Return the document. Raise DocumentRefused, which names it and says why it cannot become text."""
        try:
            text = self._text(loaded)
            if not text.strip():
                raise DocumentRefused(_no_text(loaded.suffix))
        except DocumentRefused as refused:
            raise DocumentRefused(f"{loaded.name}: {refused}") from refused
        return Document(loaded.name, text, loaded.sha256, format_of(loaded.suffix))

    def _text(self, loaded: Loaded) -> str:
        if loaded.data.startswith(_COMPOUND):
            raise DocumentRefused("it is encrypted, or of an Office from before 2007: save it anew without a password")
        if loaded.suffix in _HTML:
            return clean(self._converter.convert(loaded.data, ".html"))
        if loaded.suffix in CONVERTERS:
            return clean(self._converter.convert(loaded.data, loaded.suffix))
        return decoded(loaded.data)


def format_of(suffix: str) -> Format:
    """Return how documents of the suffix mark their headings; an unknown suffix is plain text, such as source code."""
    if suffix in MARKDOWN or suffix in _HTML or suffix in CONVERTERS:
        return Format.MARKDOWN
    return Format.UNDERLINED if suffix in _UNDERLINED else Format.PLAIN


def _no_text(suffix: str) -> str:
    if suffix == ".pdf":
        return "it holds no text: pages that were scanned need text recognition (OCR) first"
    return "it holds no text"
