"""`python -m headrace_workers` is the command line, for processes that are started without a script on the PATH."""

from headrace_workers.cli import main

if __name__ == "__main__":
    main()
