"""The process that `compiling` starts: it reads a grammar and prints why it cannot be used, or nothing."""

import json
import sys
import threading

_STACK = 4 * 1024**2  # bytes; half of what a worker's threads have


def _print_fault() -> None:
    from llguidance import LLMatcher, LLTokenizer

    matcher = LLMatcher(LLTokenizer("byte"), sys.stdin.buffer.read().decode(), log_level=0)
    fault = matcher.get_error()
    if not fault:
        matcher.compute_bitmask()
        fault = "no text satisfies it" if matcher.is_stopped() and not matcher.is_accepting() else ""
    sys.stdout.buffer.write(fault.split("\n<state>")[0].encode())


def _bounded(cpu: int, memory: int) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


if __name__ == "__main__":
    _bounded(**json.loads(sys.argv[1]))
    threading.stack_size(_STACK)
    thread = threading.Thread(target=_print_fault)
    thread.start()
    thread.join()
