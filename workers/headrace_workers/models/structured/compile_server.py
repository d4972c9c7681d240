"""The process that `compiling` starts. For each grammar it forks a process, which says why the grammar cannot be used:
a fork takes some milliseconds, and a new process, which imports llguidance, a hundred.

A message is the bounds, as JSON of `FRAME` bytes, with the socket on which the grammar comes and the answer goes.
"""

import json
import os
import resource
import signal
import socket
import sys
import threading
from typing import Any, Final

FRAME: Final = 64
# The parts of an answer. A process that is ended says no more than the first; its parent then adds the last.
BEGUN: Final = b"."
ENDED: Final = b"+"
BROKEN: Final = b"-"
_STACK: Final = 4 * 1024**2  # bytes; half of what a worker's threads have
_IDLE: Final = 60.0  # seconds without a grammar, then the process ends


def _serve(asked: socket.socket) -> None:
    from llguidance import LLTokenizer

    tokenizer = LLTokenizer("byte")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children, which wait for theirs
    asked.settimeout(_IDLE)
    while True:
        try:
            bounds, (answers,), _, _ = socket.recv_fds(asked, FRAME, 1)
        except (TimeoutError, ValueError):  # idle, or who asked has gone
            return
        if not os.fork():
            asked.close()
            _watch(socket.socket(fileno=answers), tokenizer, json.loads(bounds))
            os._exit(0)
        os.close(answers)


def _watch(answers: socket.socket, tokenizer: Any, bounds: dict[str, int]) -> None:
    """Answer in a process of its own. If that is ended, write by which signal: -9 for SIGKILL."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child = os.fork()
    if not child:
        os._exit(0 if _answer(answers, tokenizer, **bounds) else 1)
    _, status = os.waitpid(child, 0)
    if code := os.waitstatus_to_exitcode(status):
        answers.sendall(BROKEN + str(code).encode())


def _answer(answers: socket.socket, tokenizer: Any, cpu: int, memory: int) -> bool:
    """Read a grammar and write the CPU seconds that it took, and why it cannot be used, or nothing. Return False if it
    failed.
    """
    answers.settimeout(None)
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    answers.sendall(BEGUN)
    grammar = b"".join(iter(lambda: answers.recv(65_536), b"")).decode()

    done = []

    def compile_it() -> None:
        fault = _fault(grammar, tokenizer).split("\n<state>")[0]
        used = resource.getrusage(resource.RUSAGE_SELF)
        answers.sendall(ENDED + f"{used.ru_utime + used.ru_stime:.3f}\n{fault}".encode())
        done.append(True)

    threading.stack_size(_STACK)
    thread = threading.Thread(target=compile_it)
    thread.start()
    thread.join()
    return bool(done)


def _fault(grammar: str, tokenizer: Any) -> str:
    from llguidance import LLMatcher

    matcher = LLMatcher(tokenizer, grammar, log_level=0)
    if fault := matcher.get_error():
        return str(fault)
    matcher.compute_bitmask()
    return "no text satisfies it" if matcher.is_stopped() and not matcher.is_accepting() else ""


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
