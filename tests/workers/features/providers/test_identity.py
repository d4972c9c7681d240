"""The identity of remote models: on the receipt, and in the key of cached answers."""

from pathlib import Path

import pytest
from sqlalchemy import Connection
from tests.workers.features.providers.remote_models import Deployment, Provider, provider, write_catalogue

from headrace_schemas import GenerationJob, Result
from headrace_schemas.recall import CacheTier
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.sql.database import writing
from headrace_workers.features.generation.store.model_generations import ModelGenerations, ReturnedModel, model_versions
from headrace_workers.features.providers.store import AllowedProviders
from headrace_workers.models.registry import Registry

pytestmark = pytest.mark.integration  # providers open sockets


def asking(prompt: str = "Where is it?", model: str | tuple[str, ...] = "large") -> GenerationJob:
    """A job of the shop, for which an earlier answer to the same request will do."""
    return GenerationJob(model=model, prompt=prompt, tenant="shop", cache="exact")


def tier(result: Result) -> CacheTier:
    assert result.answer is not None
    assert result.answer.recall is not None
    return result.answer.recall.tier


@pytest.fixture
def shop(deployment: Deployment, ledger: Ledger) -> Deployment:
    """A deployment whose tenant `shop` allows both providers."""
    ledger.of(AllowedProviders).allow("shop", ["openai", "anthropic"])
    return deployment


def test_a_receipt_names_alias_provider_and_returned_model(shop: Deployment, openai: Provider) -> None:
    openai.returned = "large-2026-11-01"
    answer = shop.answered(asking()).answer
    assert answer is not None
    assert (answer.model, answer.provider, answer.returned_model) == ("large", "openai", "large-2026-11-01")


def test_answers_of_another_model_under_the_same_alias_are_not_served(shop: Deployment, openai: Provider) -> None:
    assert tier(shop.answered(asking())) is CacheTier.NONE
    served = shop.answered(asking())
    assert (tier(served), served.seen_by) == (CacheTier.EXACT, ("openai",))
    assert len(openai.seen) == 1
    openai.returned = "model-2"
    shop.answered(asking("another question"))
    assert tier(shop.answered(asking())) is CacheTier.NONE
    assert tier(shop.answered(asking())) is CacheTier.EXACT
    assert len(openai.seen) == 3


def test_an_answer_of_a_later_model_of_a_chain_is_not_cached_as_the_first_ones(
    shop: Deployment, openai: Provider, anthropic: Provider
) -> None:
    openai.status = 502
    first = shop.answered(asking(model=("large", "wise")))
    assert first.answer is not None
    assert first.answer.model == "wise"
    openai.status = 200
    again = shop.answered(asking(model=("large", "wise")))
    assert again.answer is not None
    assert (tier(again), again.answer.model) == (CacheTier.NONE, "large")
    assert tier(shop.answered(asking(model=("large", "wise")))) is CacheTier.EXACT
    assert tier(shop.answered(asking())) is CacheTier.EXACT
    assert len(anthropic.seen) == 1


def test_an_answer_of_a_later_model_of_a_chain_is_cached_as_its_own(
    shop: Deployment, openai: Provider, anthropic: Provider
) -> None:
    openai.status = 502
    assert tier(shop.answered(asking(model=("large", "wise")))) is CacheTier.NONE
    for model in ("wise", ("wise", "large")):
        served = shop.answered(asking(model=model))
        assert served.answer is not None
        assert (tier(served), served.answer.model) == (CacheTier.EXACT, "wise")
    assert len(anthropic.seen) == 1
    anthropic.returned = "model-2"
    shop.answered(asking("another question", model="wise"))
    assert tier(shop.answered(asking(model="wise"))) is CacheTier.NONE


def test_a_generation_rises_only_when_the_returned_name_changes(ledger: Ledger) -> None:
    def saw(alias: str, *names: str) -> int:
        def write(tx: Connection) -> None:
            for name in names:
                ReturnedModel(alias, name).write(tx)

        with writing(ledger.engine) as tx:
            write(tx)
        return ledger.of(ModelGenerations).generation(alias)

    assert ledger.of(ModelGenerations).generation("large") == 0
    assert saw("large", "a") == 0
    assert saw("large", "a", "a") == 0
    assert saw("large", "b") == 1
    assert saw("large", "b", "a") == 2
    assert saw("wise", "z") == 0


def test_the_version_of_a_remote_model_has_its_endpoint(ledger: Ledger, home: Path, openai: Provider) -> None:
    now = [0.0]
    version = model_versions(Registry(home, monotonic=lambda: now[0]), ledger, 0.0)
    before = version("large")
    assert before == f"large/{openai.url}#large/0"
    with provider() as other:
        write_catalogue(home, {"large": ("openai", other)})
        now[0] += 1.0
        assert version("large") == f"large/{other.url}#large/0"
    with writing(ledger.engine) as tx:
        ReturnedModel("large", "a").write(tx)
        ReturnedModel("large", "b").write(tx)
    assert version("large").endswith("/1")
    assert version("gone") == "gone"
