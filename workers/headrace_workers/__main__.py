"""The `headrace` command, also as `python -m headrace_workers`. This starts it and turns errors into exit codes.

Exit codes: 0 done; 1 what was asked for failed (a job died, there is no such thing, a service is away, the output
cannot be written); 2 the call was wrong; 130 interrupted; 141 nobody reads the output any more.
"""

import sys

_MISSING = "the command line needs the worker extra: pip install 'headrace[worker]'"


def main() -> None:
    """Entry point of the `headrace` script."""
    try:
        raise SystemExit(_run())
    except KeyboardInterrupt:  # while it was loading, or while it was cleaning up
        raise SystemExit(130) from None


def _run() -> int:
    if sys.argv[1:2] == ["health"]:
        from headrace_workers.runtime.health.reports import check

        if (code := check(sys.argv[2:])) is not None:
            return code
    try:
        import typer  # noqa: F401
    except ImportError:
        sys.stderr.write(f"headrace: {_MISSING}\n")
        return 2
    from headrace_workers.cli import streams
    from headrace_workers.wiring.command_line import run

    streams.guard()
    return run(sys.argv[1:])


if __name__ == "__main__":
    main()
