"""Countries, capitals and states in pairs, from `questions-words.txt`, which ships in the wheel of gensim.

Mikolov, Chen, Corrado and Dean, "Efficient Estimation of Word Representations in Vector Space" (2013).
"""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from headrace_schemas.errors import Unavailable

_WHEEL = "gensim==4.4.0"
_FILE = "gensim/test/test_data/questions-words.txt"


def pairs(text: str, section: str) -> dict[str, str]:
    """The first of each pair of a section (`capital-world`), and the second, in the order of the file."""
    found: dict[str, str] = {}
    inside = False
    for line in text.splitlines():
        if line.startswith(":"):
            inside = line[1:].strip() == section
        elif inside:
            words = line.split()
            found |= {words[place]: words[place + 1] for place in (0, 2) if words[place] not in found}
    return found


def download() -> str:
    """The file's text. Unavailable without a network, or where pip finds no wheel for this Python."""
    with tempfile.TemporaryDirectory(prefix="headrace-bench-gensim-") as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
                   "--only-binary", ":all:", "--dest", folder, _WHEEL]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            raise Unavailable(f"{_WHEEL} cannot be downloaded: {done.stderr.strip()[-300:] or 'pip brought no wheel'}")
        with zipfile.ZipFile(wheels[0]) as wheel:
            return wheel.read(_FILE).decode("utf-8")
