"""The parent's side of the program that converts documents: started when needed, kept, and ended when it hangs."""

import contextlib
import json
import selectors
import subprocess
import sys
import threading
import time
from typing import IO, Final, Self

from headrace_workers.features.knowledge.documents import DocumentRefused

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
        line = _line(process.stdout, until)
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


def _line(pipe: IO[bytes], until: float) -> bytes:
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
