from tests.workers.http.served import Gateway

from headrace_workers.features.providers.store import AllowedProviders

CATALOGUE = """
[models.large]
engine = "openai"
model = "gpt-5-mini"
context_length = 8000
"""
JOB = {"model": "large", "prompt": "Name three rivers."}


def test_a_tenant_reaches_only_providers_that_it_allows(alone: Gateway) -> None:
    (alone.settings.home / "models.toml").write_text(CATALOGUE)
    ledger = alone.services.ledger
    judged = {"model": "echo", "prompt": "hi", "criteria": [{"criterion": "rubric", "question": "?", "model": "large"}]}
    with alone.client() as client, alone.client(alone.key("shop")) as shop:
        for body in (JOB, judged, {**JOB, "model": ["echo", "large"]}):
            refused = client.post("/v1/jobs", json=body)
            assert (refused.status_code, refused.json()["param"]) == (403, "model"), refused.text
            assert "`headrace providers allow default openai`" in refused.json()["detail"]
        chat = {"model": "large", "messages": [{"role": "user", "content": "hi"}]}
        error = client.post("/v1/chat/completions", json=chat)
        assert (error.status_code, error.json()["error"]["code"]) == (403, "provider_not_allowed"), error.text
        ledger.of(AllowedProviders).allow("shop", ["openai"])
        assert shop.post("/v1/jobs", json=JOB).status_code == 202
        assert client.post("/v1/jobs", json=JOB).status_code == 403
        ledger.of(AllowedProviders).revoke("shop", None)
        assert shop.post("/v1/jobs", json=JOB).status_code == 403
