"""Compiling of a grammar in a process of its own, whose time and memory are bounded: llguidance has bounds for some
grammars only, and one whose rules are nested too deep ends the process.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

from headrace_schemas.errors import Unavailable

CPU_SECONDS: Final = 1
MEMORY: Final = 1024**3  # bytes of addresses; the interpreter takes about a tenth
# Seconds until a machine counts as too busy to tell. A bridge then asks about the same record again, and takes no
# others meanwhile: so this is long enough for a process that gets a thirtieth of a core.
_WAIT: Final = 30.0
_LONGEST: Final = 500  # characters of a message
_CHILD: Final = Path(__file__).with_name("compiled_apart.py")


def why_not_compiled(grammar: str) -> str | None:
    """Return why a grammar cannot be compiled within its bounds; None where it can.

    Raise Unavailable where the process had too little of the machine to tell.
    """
    bounds = json.dumps({"cpu": CPU_SECONDS, "memory": MEMORY})
    try:
        ended = subprocess.run(
            [sys.executable, "-I", str(_CHILD), bounds],
            input=grammar.encode(),
            capture_output=True,
            timeout=_WAIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Unavailable("the machine is too busy to compile the format: try again later") from None
    except OSError as error:
        raise Unavailable(f"no process could be started to compile the format: {error.strerror}") from error
    if ended.returncode:
        return (
            f"it takes more than {CPU_SECONDS} s, {MEMORY >> 20} MB or levels of nesting than are given to compile it"
        )
    return ended.stdout.decode("utf-8", "replace")[:_LONGEST] or None
