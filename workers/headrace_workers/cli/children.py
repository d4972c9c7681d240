"""The processes of headrace itself that an embedded stack runs. Pure."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from headrace_workers.embedded.processes import ChildSpec
from headrace_workers.embedded.stack import Addresses

_COMMAND = (sys.executable, "-m", "headrace_workers")


def children_of(
    home: Path, models: Sequence[str], *, judge_model: str | None = None, engine_threads: int | None = None
) -> Callable[[Addresses], list[ChildSpec]]:
    """A bridge, a worker for each model, and one that moderates and judges, for the services at given addresses.

    `judge_model` answers rubrics that name no model: the first model when absent.
    """

    def specs(addresses: Addresses) -> list[ChildSpec]:
        env = {
            **addresses.env(),
            "HEADRACE_HOME": str(home.absolute()),
            "HEADRACE_JUDGE_MODEL": judge_model or models[0],
            **({"HEADRACE_INTER_THREADS": str(engine_threads)} if engine_threads else {}),
        }
        workers = [(f"generate-{model}", ("--role", "generate", "--model", model)) for model in models]
        workers.append(("moderate-judge", ("--role", "moderate", "--role", "judge")))
        return [
            ChildSpec(name="bridge", argv=(*_COMMAND, "bridge"), env=env),
            *(ChildSpec(name=name, argv=(*_COMMAND, "worker", *argv), env=env) for name, argv in workers),
        ]

    return specs
