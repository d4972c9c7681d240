"""Health check of containers: `headrace health KIND` where the environment names the deployment.

It runs every half minute in each container, so it costs a twentieth of a second of CPU time: it reads no settings but
the names of the deployment, and loads the standard library and the few modules below.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from headrace_workers.runtime.health.own_file import deployment_named
from headrace_workers.runtime.health.reports import KINDS, judge, reports

_PREFIX: Final = "headrace."  # DEFAULT_PREFIX of headrace_schemas, whose import costs ten times this check


def check(arguments: Sequence[str], env: Mapping[str, str] = os.environ) -> int | None:
    """Print what `headrace health` prints and return its exit code. Return None if that takes the whole command line:
    there are options, the kind is unknown, or the addresses are those of a running `headrace up`.
    """
    home, redis, ledger = (env.get(f"HEADRACE_{name}") for name in ("HOME", "REDIS", "LEDGER"))
    if len(arguments) != 1 or arguments[0] not in KINDS or not (home and redis and ledger):
        return None
    (kind,) = arguments
    deployment = deployment_named(Path(home), env.get("HEADRACE_TOPIC_PREFIX") or _PREFIX, redis, ledger)
    healthy, words = judge(kind, reports(deployment, kind))
    with suppress(OSError):  # the exit code is the answer
        os.write(1 if healthy else 2, f"{'' if healthy else 'headrace: '}{words}\n".encode(errors="backslashreplace"))
    return 0 if healthy else 1
