import re
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import given, settings
from jsonschema import Draft202012Validator
from tests.workers.changed_settings import changed
from tests.workers.http.served import Gateway, served

from headrace_producers.settings import DEFAULT_MODEL
from headrace_schemas.aliases import DEFAULT_EMBEDDER
from headrace_workers.features.knowledge.store.vector_stores import VectorStores
from headrace_workers.runtime.settings import GatewaySettings, ModelSettings
from headrace_workers.testing import make_echo_model, make_hash_embedder

METHODS = ("get", "post", "put", "patch", "delete")


def operations(document: dict) -> "list[tuple[str, str, dict]]":
    return [(m, path, item[m]) for path, item in document["paths"].items() for m in METHODS if m in item]


@pytest.fixture(scope="module")
def quick(gateway: Gateway) -> Iterator[Gateway]:
    """A gateway of the same deployment at which nobody waits long for an answer that does not come. It knows the models
    that examples name, which nobody serves, and their knowledge base.
    """
    make_echo_model(gateway.settings.home, DEFAULT_MODEL)
    make_hash_embedder(gateway.settings.home, DEFAULT_EMBEDDER)
    with served(
        changed(gateway.settings, GatewaySettings(max_answer_wait=0.1), ModelSettings(embedder=DEFAULT_EMBEDDER))
    ) as found:
        found.services.ledger.of(VectorStores).create(
            "default", "mill", name="mill", description=None, metadata={}, expire_days=None, files=()
        )
        yield found


@pytest.fixture
def document(quick: Gateway) -> dict:
    return dict(httpx.get(f"{quick.url}/openapi.json", timeout=60).json())


def test_every_operation_is_described(document: dict):
    for method, path, operation in operations(document):
        assert operation.get("description"), (method, path)
        assert any(status.startswith("2") for status in operation["responses"]), (method, path)
        if path not in ("/healthz", "/readyz"):
            assert "default" in operation["responses"], (method, path)
            assert operation.get("security"), (method, path)
        for parameter in operation.get("parameters", ()):
            assert parameter.get("description") or parameter["in"] == "path", (method, path, parameter["name"])


def test_all_that_is_referred_to_is_there(document: dict):
    schemas = document["components"]["schemas"]
    found: set[str] = set()

    def walk(node: object) -> None:
        if isinstance(node, dict):
            if isinstance(reference := node.get("$ref"), str):
                found.add(reference.removeprefix("#/components/schemas/"))
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(document)
    assert found <= schemas.keys()
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)


def test_the_examples_work(document: dict, quick: Gateway):
    sent = 0
    with quick.client() as client:
        for method, path, operation in operations(document):
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            for name, example in content.get("examples", {}).items():
                told = client.request(method.upper(), path, json=example["value"])
                expected = (404,) if name == "tuning" else (200, 202)  # its file was never uploaded
                assert told.status_code in expected, (path, name, told.text)
                sent += 1
    assert sent >= 4


def test_what_no_database_takes_is_no_fault_of_ours(document: dict, quick: Gateway):
    with quick.client() as client:
        for method, path, operation in operations(document):
            if "{" in path:
                answer = client.request(method, re.sub(r"\{[^}]+\}", "a%00b", path), json={})
                assert answer.status_code < 500, (method, path, answer.text)
            for name in [
                parameter["name"] for parameter in operation.get("parameters", ()) if parameter["in"] == "query"
            ]:
                if method == "get" and "{" not in path:
                    answer = client.get(path, params={name: "a\x00b"})
                    assert answer.status_code < 500, (path, name, answer.text)


@pytest.mark.slow
def test_nothing_that_can_be_sent_breaks_it(quick: Gateway):
    """Answers are as they are described, whatever is asked. What is valid to the schema may still be refused; that keys
    are looked at is tested by itself, since here one is always sent.
    """
    import schemathesis
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

    not_asked = [positive_data_acceptance, ignored_auth, not_a_server_error]
    headers = {"authorization": f"Bearer {quick.key('schemathesis')}"}
    for found in schemathesis.openapi.from_url(f"{quick.url}/openapi.json").get_all_operations():

        @given(case=found.ok().as_strategy())
        @settings(max_examples=2, deadline=None)
        def hold(case: schemathesis.Case) -> None:
            told = case.call_and_validate(headers=headers, excluded_checks=not_asked)
            assert told.status_code < 500 or told.status_code == 504  # an answer that did not come in time

        hold()
