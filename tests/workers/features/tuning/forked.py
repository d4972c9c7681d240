"""What `training` uses of the module `subprocess`, for processes that begin with torch loaded.

To load it is most of what each of them takes. A process that has it, which is started once, forks them.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from multiprocessing import reduction
from subprocess import PIPE, TimeoutExpired
from typing import IO, Any, Final

__all__ = ["PIPE", "STOPS_AFTER", "Popen", "TimeoutExpired", "stop_after"]

STOPS_AFTER: Final = "STOPS_AFTER_STEP"  # the step after whose checkpoint a process that trains stops, as by SIGSTOP

_CONTEXT: Final = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([
    "torch._dynamo", "transformers.models.llama.modeling_llama", "peft", "ctranslate2.converters.transformers",
    "headrace_workers.wiring", "headrace_workers.features.tuning.publish",
])  # fmt: skip


class _Descriptor:
    """A descriptor of this process, which the new one gets."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> Any:
        return reduction.DupFd(self.number).detach, ()


class Popen:
    """As there, for a program in Python that is given as text."""

    def __init__(
        self, argv: Sequence[str], *, stderr: IO[bytes], pass_fds: Sequence[int], **_pipes_and_session: Any
    ) -> None:
        program, *arguments = argv[2:]
        (read, write), (told, tell) = os.pipe(), os.pipe()
        files = [_Descriptor(number) for number in (read, tell, stderr.fileno(), *pass_fds)]
        self._process = _CONTEXT.Process(
            target=_become, args=(program, arguments, dict(os.environ), files), daemon=True
        )
        self._process.start()
        os.close(read)
        os.close(tell)
        self.stdin, self.stdout = os.fdopen(write, "w"), os.fdopen(told)

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if timeout is not None and self._process.exitcode is None:
            raise TimeoutExpired("the process", timeout)
        return self._process.exitcode or 0

    def kill(self) -> None:
        self._process.kill()


def _become(program: str, arguments: list[str], environment: dict[str, str], files: list[int]) -> None:
    """Be what `python -c` is. Does not return."""
    os.setsid()
    for number, file in enumerate(files[:3]):  # those after them are locks, which are held to the end
        os.dup2(file, number)
        os.close(file)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["-c", *arguments]
    if step := environment.get(STOPS_AFTER):
        stop_after(int(step))
    exec(program, {"__name__": "__main__"})


def stop_after(step: int) -> None:
    """Let this process go no further than to this checkpoint, however fast it is."""
    from headrace_workers.features.tuning import network

    tell = network.tell

    def tell_and_stop(kind: str, **facts: Any) -> None:
        tell(kind, **facts)
        if kind == "checkpoint" and facts["step"] == step:
            os.kill(os.getpid(), signal.SIGSTOP)

    network.tell = tell_and_stop
