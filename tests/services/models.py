"""SmolLM2 and MiniLM for tests, made once for all processes of a run."""

import fcntl
import os
from pathlib import Path

import pytest

from headrace_workers.models.pull import pull

SMOLLM2 = "smollm2-135m-instruct"
MINILM = "all-minilm-l6-v2"


def smollm2(quantization: str, factory: pytest.TempPathFactory) -> Path:
    """A home with the model. Others read it, too: write nothing there."""
    return _home_with(SMOLLM2, quantization, factory)


def minilm(quantization: str, factory: pytest.TempPathFactory) -> Path:
    """A home with the embedder. Others read it, too: write nothing there."""
    return _home_with(MINILM, quantization, factory)


def _home_with(name: str, quantization: str, factory: pytest.TempPathFactory) -> Path:
    alone = "PYTEST_XDIST_WORKER" not in os.environ
    home = (factory.getbasetemp() if alone else factory.getbasetemp().parent) / f"{name}-{quantization}"
    home.mkdir(exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        pull(name, home, quantization)  # what is there already is left as it is
    return home
