import subprocess
import sys
from collections.abc import Iterator

import pytest

from headrace_workers.core.feature import ExtensionPoint, Feature, install
from headrace_workers.wiring.features import FEATURES


@pytest.fixture
def _own_features() -> Iterator[None]:
    yield
    install(FEATURES)


def test_a_process_without_wiring_is_told_what_to_import() -> None:
    code = "from headrace_workers.core.feature import installed; installed()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "RuntimeError: no features are installed: import headrace_workers.wiring first" in done.stderr


@pytest.mark.usefixtures("_own_features")
def test_extensions_come_in_the_order_of_the_features() -> None:
    point, other = ExtensionPoint[str](), ExtensionPoint[str]()
    first = Feature(name="first", extensions=(other.by(lambda: "elsewhere"), point.by(lambda: "first")))
    last = Feature(name="last", extensions=(point.by(lambda: "last"),))
    install((last, first))
    assert point.values() == ("last", "first")
