from dataclasses import replace
from shutil import rmtree

import openai
import pytest
from tests.workers.http.openai_client import openai_of
from tests.workers.http.served import Gateway
from tests.workers.models.engines.remote_models import catalogue

from headrace_workers.features.applications.definition import Definition
from headrace_workers.features.applications.store import SHARED, Applications
from headrace_workers.features.providers.store import AllowedProviders
from headrace_workers.models.registry import read_card, write_card
from headrace_workers.testing import make_echo_model


def test_models_are_listed_and_found(gateway: Gateway):
    with openai_of(gateway) as client:
        found = {model.id: model for model in client.models.list()}
        assert client.models.retrieve("echo") == found["echo"]
        assert found["echo"].model_extra["headrace"]["kind"] == "generator"
        assert found["echo"].created > 1_700_000_000
        told = found["echo"].model_extra["headrace"]
        assert (told["tools"], told["formats"], told["price"]) == ("prompt", [], None)
        with pytest.raises(openai.NotFoundError) as caught:
            client.models.retrieve("none-such")
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
        with pytest.raises(openai.NotFoundError) as caught:
            client.models.retrieve("HuggingFaceTB/none-such")  # as most models are called elsewhere
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
        with pytest.raises(openai.APIStatusError) as caught:
            client.models.delete("echo")
        assert caught.value.status_code == 404  # no tenant deletes what all share


CATALOGUE = """
[models.far]
engine = "openai"
model = "gpt-5-mini"
context_length = 8000
[chains.careful]
models = ["far", "echo"]
[prices.far]
input = 0.25
output = 2.0
"""


def test_models_of_a_provider_and_their_chains_are_listed_for_tenants_that_allow_it(gateway: Gateway):
    """A client may offer the list to its users: what it holds must not be refused."""
    (gateway.settings.home / "models.toml").write_text(CATALOGUE)
    try:
        with openai_of(gateway) as client:
            assert {"far", "careful"}.isdisjoint(model.id for model in client.models.list())
            with pytest.raises(openai.NotFoundError):
                client.models.retrieve("careful")
            gateway.services.ledger.of(AllowedProviders).allow("default", ["openai"])
            assert {"far", "careful"} <= {model.id for model in client.models.list()}
            assert client.models.retrieve("far").model_extra["headrace"]["price"]["output"] == 2.0
            chain = client.models.retrieve("careful")
            assert chain.model_extra["headrace"] == {"kind": "chain", "models": ["far", "echo"]}
    finally:
        (gateway.settings.home / "models.toml").unlink()
        gateway.services.ledger.of(AllowedProviders).revoke("default", None)


def test_a_model_on_another_machine_is_listed_with_its_provider(gateway: Gateway):
    home = gateway.settings.home
    gateway.services.ledger.of(AllowedProviders).allow("default", ["someone"])
    catalogue(home, "openai", "http://localhost:9", alias="far", api_key="env:FAR_KEY", provider="someone")
    try:
        with openai_of(gateway) as client:
            found = client.models.retrieve("far")
            assert "far" in {model.id for model in client.models.list()}
    finally:
        (home / "models.toml").unlink()
        gateway.services.ledger.of(AllowedProviders).revoke("default", None)
    assert found.owned_by == "someone"
    assert found.model_extra["headrace"]["tools"] == "native"
    assert found.model_extra["headrace"]["source"] == "http://localhost:9/v1#teacher"
    assert "FAR_KEY" not in found.to_json()


def _application(name: str, word: str) -> Definition:
    return Definition.model_validate(
        {
            "name": name,
            "problem": {"purpose": "Answer.", "owner": "desk", "task": "answers", "metric": "right"},
            "job": {"model": "echo"},
            "messages": [{"role": "user", "text": word}],
        }
    )


def test_applications_of_the_callers_tenant_are_listed_with_versions_and_labels(gateway: Gateway):
    applications = gateway.services.ledger.of(Applications)
    for scope, name in (("default", "triage"), (SHARED, "triage"), (SHARED, "summary"), ("mill", "other"),
                        ("default", "echo"), ("default", "draft")):  # fmt: skip
        for word in ("one", "two"):
            applications.push(scope, _application(name, word), "ada")
        if name != "draft":
            applications.move(scope, name, "production", 1, "ada")
    with openai_of(gateway) as client:
        listed = [model for model in client.models.list() if model.model_extra["headrace"]["kind"] == "application"]
        assert [(model.id, model.owned_by) for model in listed] == [("summary", "headrace"), ("triage", "default")]
        assert listed[1].model_extra["headrace"] == {
            "kind": "application", "labels": {"production": 1}, "newest": 2,
        }  # fmt: skip
        told = client.models.retrieve("triage").model_extra["headrace"]
        assert (told["version"], [version["version"] for version in told["versions"]]) == (1, [2, 1])
        assert told["purpose"] == "Answer."
        two = client.models.retrieve("triage@2")
        assert (two.id, two.model_extra["headrace"]["version"]) == ("triage@2", 2)
        assert client.models.retrieve("draft").model_extra["headrace"]["version"] == 2
        assert client.models.retrieve("echo").model_extra["headrace"]["kind"] == "generator"
        for name in ("other", "triage@3", "triage@next", "@"):
            with pytest.raises(openai.NotFoundError):
                client.models.retrieve(name)


def test_a_model_of_another_tenant_is_neither_listed_nor_found(gateway: Gateway):
    folder = make_echo_model(gateway.settings.home, "hers")
    try:
        with openai_of(gateway) as client:
            for tenant, is_here in (("acme", False), ("default", True)):
                write_card(folder, replace(read_card(folder), tenant=tenant))
                assert ("hers" in {model.id for model in client.models.list()}) is is_here
    finally:
        rmtree(folder)
