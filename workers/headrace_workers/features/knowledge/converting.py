"""The program that turns HTML, PDF and Office files into text: documents in at stdin, texts out at stdout.

A document is a line of JSON with its suffix and size, and then its bytes; an answer is a line of JSON with a text or a
reason for none. It may hang, crash, or want all memory, which a stranger's document can bring about in any such
library: so it is a process that its parent can end, and it may take so much memory and no more.
"""

import contextlib
import json
import os
import sys
from typing import BinaryIO

from headrace_workers.features.knowledge.decoding import decoded_html
from headrace_workers.features.knowledge.documents import DocumentRefused


def main() -> None:
    """Answer until stdin ends."""
    _limit_memory(int(sys.argv[1]))
    # Output of libraries goes to stderr, not between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    while line := sys.stdin.buffer.readline():
        request = json.loads(line)
        answer = _answer(request["suffix"], sys.stdin.buffer, request["size"])
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _answer(suffix: str, source: BinaryIO, size: int) -> dict[str, str]:
    data = source.read(size)
    try:
        if suffix == ".html":
            from headrace_workers.features.knowledge.hypertext import to_markdown as html_to_markdown

            return {"text": html_to_markdown(decoded_html(data))}
        from headrace_workers.features.knowledge.markitdown import to_markdown

        return {"text": to_markdown(data, suffix)}
    except DocumentRefused as refused:
        return {"refused": str(refused)}
    except MemoryError:
        return {"refused": "it takes too much memory to read"}
    except Exception as error:  # whatever a stranger's file makes a library raise
        return {"refused": f"it cannot be read as {suffix} ({type(error).__name__}): is it whole?"}


def _limit_memory(size: int) -> None:
    # macOS and Windows know no such limit.
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (size, size))


if __name__ == "__main__":
    main()
