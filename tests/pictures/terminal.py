"""What a command prints in a terminal of 80 columns, as an SVG that needs nothing else."""

import os
import pty
import re
import subprocess
from collections.abc import Mapping, Sequence
from html import unescape
from io import StringIO
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

WIDTH: Final = 80
_FONTS: Final = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
_CELL: Final = 12.2  # width of a character
_AT_ONCE: Final = 65_536  # bytes


def printed(argv: Sequence[str], folder: Path, env: Mapping[str, str]) -> str:
    """Return what a command prints on standard output, as a terminal gets it. Raise RuntimeError if it fails.

    `folder` is where it runs. What it says on standard error is about progress, and is left out.
    """
    reading, writing = pty.openpty()
    size = {"COLUMNS": str(WIDTH), "LINES": "60", "TERM": "xterm-256color"}
    with (folder / "errors.log").open("w+") as errors:
        process = subprocess.Popen(
            argv, cwd=folder, env={**env, **size}, stdin=subprocess.DEVNULL, stdout=writing, stderr=errors
        )
        os.close(writing)
        data = b"".join(_read(reading))
        os.close(reading)
        if process.wait():
            errors.seek(0)
            raise RuntimeError(f"{' '.join(argv)} ended with {process.returncode}:\n{errors.read()}")
    return data.decode().replace("\r\n", "\n")


def _read(reading: int) -> list[bytes]:
    found = []
    try:
        while chunk := os.read(reading, _AT_ONCE):
            found.append(chunk)
    except OSError:  # how Linux says that the other side is closed
        pass
    return found


def picture(command: str, output: str, name: str) -> str:
    """Return an SVG of a terminal with this command and its output. `name` is unique among the pictures of a page."""
    console = Console(record=True, width=WIDTH, file=StringIO(), force_terminal=True, highlight=False)
    console.print(Text.assemble(("$ ", "green"), (command, "bold")), soft_wrap=True)
    console.print(Text.from_ansi(output.rstrip()), end="\n\n")  # else the frame hides underscores of the last line
    drawn = console.export_svg(title=command.split(" -", maxsplit=1)[0], unique_id=name)
    # The fonts that Rich names would be fetched from elsewhere.
    drawn = re.sub(r"@font-face\s*{[^}]*}", "", drawn)
    drawn = re.sub(r"font-family: (?:Fira Code|arial)[^;]*;", f"font-family: {_FONTS};", drawn)
    drawn = re.sub(r"<!--.*?-->", "", drawn, flags=re.DOTALL)
    return re.sub(r"[ \t]+\n", "\n", re.sub(r"\n\s*\n+", "\n", drawn))


def words_of(svg: str) -> str:
    """Return the text of a picture, a line of the terminal on each line, without lines that are empty."""
    lines: dict[float, str] = {}
    found = re.findall(r'<text[^>]*? x="([\d.]+)" y="([\d.]+)"[^>]* clip-path=[^>]*>(.*?)</text>', svg)
    for x, y, text in found:  # Rich leaves out what is only spaces
        before = lines.get(float(y), "")
        lines[float(y)] = before.ljust(round(float(x) / _CELL)) + unescape(text).replace("\xa0", " ")
    return "\n".join(line.rstrip() for _, line in sorted(lines.items()))
