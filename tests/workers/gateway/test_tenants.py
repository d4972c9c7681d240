"""A tenant sees its own alone: every route is walked with another's key."""

import httpx
from tests.workers.gateway.served import Gateway

JOB = {"model": "echo", "prompt": "x"}
METHODS = ("get", "post", "put", "patch", "delete")


def a_job(client: httpx.Client) -> str:
    """A job of the client's tenant."""
    return str(client.post("/v1/jobs", json=JOB).json()["id"])


def an_endpoint(client: httpx.Client) -> str:
    """A receiver of webhooks of the client's tenant."""
    asked = {"name": "a", "url": "https://shop.example/hooks", "event_types": ["endpoint.disabled"]}
    return str(client.post("/v1/webhook_endpoints", json=asked).json()["id"])


# How the first tenant comes by a thing of which a path has the id, by the name of the parameter.
OTHERS = {"job_id": a_job, "endpoint_id": an_endpoint}


def walked(gateway: Gateway) -> list[tuple[str, str]]:
    """Method and path of every operation about one thing."""
    paths = gateway.server.config.app.openapi()["paths"]
    return [(method, path) for path, methods in paths.items() for method in METHODS if method in methods if "{" in path]


def test_every_operation_about_a_thing_is_walked(gateway: Gateway):
    """A new parameter needs a line in OTHERS."""
    found = {part.strip("{}") for _, path in walked(gateway) for part in path.split("/") if part.startswith("{")}
    assert found == set(OTHERS), "a path parameter without a thing of the first tenant's"


def test_what_is_another_tenant_s_is_not_there(gateway: Gateway):
    """404 for each, and nothing has happened to it; to its own tenant it is there."""
    with gateway.client() as own, gateway.client(gateway.key("stranger")) as stranger:
        for method, path in walked(gateway):
            things = {name: make(own) for name, make in OTHERS.items()}
            url = path.format(**things)
            told = stranger.request(method.upper(), url, json={} if method in ("post", "put", "patch") else None)
            assert told.status_code == 404, (method, path, told.text)
            if method == "get":
                assert own.get(url).status_code == 200, (method, path)
        cancelled = own.get(f"/v1/jobs/{things['job_id']}").json()["state"]
        assert cancelled != "cancelled"


def test_no_route_is_open_by_mistake(gateway: Gateway):
    """Without a key every operation is refused but those that say whether the gateway lives."""
    opened = {"/healthz", "/readyz"}
    paths = gateway.server.config.app.openapi()["paths"]
    for path, methods in paths.items():
        for method in METHODS:
            if method in methods and path not in opened:
                url = gateway.url + path.format(**dict.fromkeys(OTHERS, "7d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00"))
                assert httpx.request(method.upper(), url).status_code == 401, (method, path)
