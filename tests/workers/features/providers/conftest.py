from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.workers.core.ledger.conftest import tables_of
from tests.workers.features.providers.remote_models import Deployment, Provider, provider, write_catalogue

from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.features.providers import boundary


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger, on each database."""
    for url in tables_of(request, tmp_path):
        ledger = Ledger.at(url)
        yield ledger
        ledger.close()


@pytest.fixture
def openai() -> Iterator[Provider]:
    """The provider `openai`, with the model `large`."""
    with provider() as found:
        yield found


@pytest.fixture
def anthropic() -> Iterator[Provider]:
    """The provider `anthropic`, with the model `wise`."""
    with provider() as found:
        yield found


@pytest.fixture
def near() -> Iterator[Provider]:
    """A server of the deployment itself, with the model `near`."""
    with provider() as found:
        yield found


@pytest.fixture
def home(tmp_path: Path, openai: Provider, anthropic: Provider, near: Provider) -> Path:
    """A home whose catalogue has these models, and the chain `careful`."""
    models = {"large": ("openai", openai), "wise": ("anthropic", anthropic), "near": ("own", near)}
    write_catalogue(tmp_path / "home", models, careful=["near", "large", "wise"])
    return tmp_path / "home"


@pytest.fixture
def deployment(ledger: Ledger, home: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """A deployment whose workers read the lists anew for each call."""
    monkeypatch.setattr(boundary.allows, "__defaults__", (0.0,))
    return Deployment(ledger, home)
