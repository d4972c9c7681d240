from datetime import date
from pathlib import Path

import pytest

from headrace_schemas.errors import ConfigurationError
from headrace_workers.core.ledger.charges import UNKNOWN, Price
from headrace_workers.features.spend.prices import DeploymentPrices, snapshot
from headrace_workers.features.spend.settings import SpendSettings
from headrace_workers.models.catalogue import read_catalogue
from headrace_workers.models.registry import Registry
from headrace_workers.testing import make_echo_model

LUNA = """
[models.luna]
engine = "openai"
model = "gpt-6-luna"
context_length = {context}

[models.strange]
engine = "openai"
model = "no-such-model"
context_length = 1000

[models.near]
engine = "openai"
model = "qwen3"
endpoint = "http://localhost:11434/v1"
context_length = 1000
"""


def prices(home: Path, catalogue: str = "", **settings: object) -> DeploymentPrices:
    (home / "models.toml").write_text(catalogue)
    return DeploymentPrices(Registry(home), SpendSettings.model_validate(settings))


def test_the_snapshot_says_where_and_when_it_comes_from():
    found = snapshot()
    assert found.source.startswith("genai-prices 0.2.3, https://github.com/pydantic/")
    assert date.fromisoformat(found.date) >= date(2026, 11, 29)
    assert found.currency == "USD"
    assert {"openai", "anthropic", "google", "mistral"} <= found.providers.keys()


@pytest.mark.parametrize("name", ["gpt-6-luna", "GPT-6-luna", "gpt-6-luna-2026-10-01"])
def test_a_public_model_has_its_providers_price(name: str):
    assert snapshot().price("openai", name, 128_000) == Price("USD", 100_000, 10_000, 500_000)


def test_a_model_that_takes_long_prompts_has_their_price():
    """Nothing costs more than its price says, however long a prompt is."""
    assert snapshot().price("openai", "gpt-6-luna", 272_000) == Price("USD", 100_000, 10_000, 500_000)
    assert snapshot().price("openai", "gpt-6-luna", 400_000) == Price("USD", 200_000, 20_000, 750_000)


def test_a_price_that_nobody_knows_is_not_known(tmp_path: Path):
    here = prices(tmp_path, LUNA.format(context=1_000))
    assert here.price("luna") == Price("USD", 100_000, 10_000, 500_000)
    assert [here.price(name) for name in ("strange", "near", "absent")] == [UNKNOWN, None, UNKNOWN]
    assert snapshot().price("anthropic", "gpt-6-luna", 1_000) is None
    assert prices(tmp_path, LUNA.format(context=1_000), currency="EUR").price("luna") is UNKNOWN


def test_a_machine_of_ours_costs_by_the_hour(tmp_path: Path):
    make_echo_model(tmp_path)
    here = prices(tmp_path, LUNA.format(context=1_000), machine_price=0.36)
    assert here.price("echo") == here.price("near") == Price("USD", hour=360_000, longest_ms=60_000)


def test_models_toml_sets_the_price_of_any_model_and_is_followed(tmp_path: Path):
    here = prices(tmp_path, LUNA.format(context=1_000), currency="EUR")
    (tmp_path / "models.toml").write_text(
        LUNA.format(context=1_000) + "[prices.luna]\ninput = 0.5\noutput = 2\n[prices.near]\nhour = 1.5\nlongest = 4\n"
    )
    assert here.price("luna") == Price("EUR", 500_000, 500_000, 2_000_000)
    assert here.price("near") == Price("EUR", hour=1_500_000, longest_ms=4_000)


def test_the_price_of_training_is_set_beside_that_of_calls_or_alone(tmp_path: Path):
    make_echo_model(tmp_path)
    here = prices(tmp_path, "[prices.echo]\ntraining = 3\n[prices.near]\ninput = 1\n", machine_price=0.36)
    assert here.training("echo") == Price("USD", 3_000_000)
    assert here.price("echo") == Price("USD", hour=360_000, longest_ms=60_000)
    assert [here.training(name) for name in ("near", "absent")] == [None, None]


def test_a_price_that_says_nothing_is_refused(tmp_path: Path):
    """An empty one would be taken for 0."""
    (tmp_path / "models.toml").write_text("[prices.luna]\nlongest = 4\n")
    with pytest.raises(ConfigurationError, match="name a price"):
        read_catalogue(tmp_path)


def test_a_price_is_looked_for_once_a_second(tmp_path):
    make_echo_model(tmp_path)
    seconds = [0.0]
    registry = Registry(tmp_path, monotonic=lambda: seconds[0])
    assert registry.price("echo") is None
    (tmp_path / "models.toml").write_text("[prices.echo]\nhour = 0.36\n")
    assert registry.price("echo") is None
    seconds[0] += 2
    assert registry.price("echo") is not None
