"""The command line. Each command is a file here; this one only starts it and turns errors into exit codes.

Exit codes: 0 done; 1 what was asked for failed (a job died, a service is away); 2 the call was wrong; 130 interrupted.
"""

import sys

_MISSING = "the command line needs the worker extra: pip install 'headrace[worker]'"


def main() -> None:
    """Entry point of the `headrace` script."""
    try:
        import typer  # noqa: F401
    except ImportError:
        sys.stderr.write(f"headrace: {_MISSING}\n")
        raise SystemExit(2) from None
    from headrace_workers.cli.app import run

    raise SystemExit(run(sys.argv[1:]))
