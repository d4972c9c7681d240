from pathlib import Path
from typing import Any

import pytest
import yaml


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave what needs a Docker Engine and many minutes to `make test-compose`."""
    return True if collection_path.name == "test_running.py" and config.option.markexpr != "compose" else None


@pytest.fixture(scope="session")
def root() -> Path:
    return Path(__file__).parents[2]


@pytest.fixture(scope="session")
def compose(root: Path) -> dict[str, Any]:
    """docker-compose.yml with its anchors merged and its variables as written."""
    return yaml.safe_load((root / "docker-compose.yml").read_text("utf-8"))


@pytest.fixture(scope="session")
def services(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return compose["services"]
