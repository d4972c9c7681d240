"""SmolLM2 for tests, made once for all processes of a run."""

import fcntl
import os
from pathlib import Path

import pytest

from headrace_workers.models.pull import pull

SMOLLM2 = "smollm2-135m-instruct"


def smollm2(quantization: str, factory: pytest.TempPathFactory) -> Path:
    """A home with the model. Others read it, too: write nothing there."""
    alone = "PYTEST_XDIST_WORKER" not in os.environ
    home = (factory.getbasetemp() if alone else factory.getbasetemp().parent) / f"smollm2-{quantization}"
    home.mkdir(exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        pull(SMOLLM2, home, quantization)  # what is there already is left as it is
    return home
