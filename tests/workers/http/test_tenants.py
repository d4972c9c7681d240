import re
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import update
from tests.services.eventually import eventually
from tests.workers.features.reviews.review_rows import ended
from tests.workers.http.served import IDLE, Gateway

from headrace_schemas import GenerationJob
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import NEVER, STEPS

JOB = {"model": "echo", "prompt": "x"}
METHODS = ("get", "post", "put", "patch", "delete")


def a_job(client: httpx.Client) -> str:
    return str(client.post("/v1/jobs", json=JOB).json()["id"])


def an_endpoint(client: httpx.Client) -> str:
    """A receiver of webhooks of the client's tenant, which may have a hundred."""
    if there := client.get("/v1/webhook_endpoints").json()["data"]:
        return str(there[0]["id"])
    asked = {"name": "a", "url": "https://shop.example/hooks", "event_types": ["endpoint.disabled"]}
    return str(client.post("/v1/webhook_endpoints", json=asked).json()["id"])


def a_response(client: httpx.Client) -> str:
    """A response of the client's tenant, which may be cancelled."""
    body = {"model": "echo", "input": "x", "background": True}
    return str(client.post("/v1/responses", json=body).json()["id"])


def a_file(client: httpx.Client, purpose: str = "batch") -> str:
    sent = client.post("/v1/files", files={"file": ("x.jsonl", b'{"prompt":"x"}')}, data={"purpose": purpose})
    return str(sent.json()["id"])


def an_upload(client: httpx.Client) -> str:
    announced = {"bytes": 3, "filename": "x", "mime_type": "text/plain", "purpose": "batch"}
    return str(client.post("/v1/uploads", json=announced).json()["id"])


def a_batch(client: httpx.Client) -> str:
    wanted = {"input_file_id": a_file(client), "endpoint": "/v1/jobs", "completion_window": "24h"}
    return str(client.post("/v1/batches", json=wanted).json()["id"])


def a_run(client: httpx.Client) -> str:
    asked = {"model": "echo", "training_file": a_file(client, "fine-tune")}
    return str(client.post("/v1/fine_tuning/jobs", json=asked).json()["id"])


def a_store(client: httpx.Client) -> str:
    return str(client.post("/v1/vector_stores", json={}).json()["id"])


CHECK = {"type": "string_check", "name": "x", "input": "{{item.x}}", "reference": "x", "operation": "eq"}


def an_eval(client: httpx.Client) -> str:
    asked = {"data_source_config": {"type": "custom", "item_schema": {}}, "testing_criteria": [CHECK]}
    return str(client.post("/v1/evals", json=asked).json()["id"])


def a_held_job(client: httpx.Client, ledger: Ledger) -> str:
    """A held job of the client's tenant, of a model that nobody runs."""
    job_id = str(client.post("/v1/jobs", json={"model": IDLE, "prompt": "x"}).json()["id"])
    held = update(STEPS).where(STEPS.c.job_id == job_id).values(state="held", held_at=1_000, ready_at=NEVER)

    def hold() -> bool:
        with writing(ledger.engine) as tx:
            return bool(tx.execute(held).rowcount)

    eventually(hold)
    return job_id


def an_item(client: httpx.Client, ledger: Ledger) -> str:
    return ended(ledger, GenerationJob(model="m", prompt="x", tenant="default"))[1]


# How the first tenant comes by a thing of which a path has the id, by the name of the parameter.
OTHERS = {
    "job_id": a_job,
    "response_id": a_response,
    "file_id": a_file,
    "upload_id": an_upload,
    "batch_id": a_batch,
    "fine_tuning_job_id": a_run,
    "endpoint_id": an_endpoint,
    "vector_store_id": a_store,
    "eval_id": an_eval,
}
# The same for things that are made in the ledger, too.
IN_LEDGER = {"held_job_id": a_held_job, "item_id": an_item}
# What must be said where nothing is no request.
BODIES = {
    "/v1/evals/{eval_id}/runs": {"data_source": {"type": "jsonl", "source": {"type": "file_id", "id": "file-1"}}},
    "/v1/held/{held_job_id}/withhold": {"reason": "x"},
    "/v1/reviews/items/{item_id}": {"wanted": 2},
    "/v1/reviews/items/{item_id}/decision": {"labels": [{"criterion": "good", "value": 1}], "lease": 1},
    "/v1/reviews/items/{item_id}/skip": {"lease": 1},
}
# A thing within another, of which test_vector_stores.py and test_evals.py walk the paths; and what is of no tenant.
APART = ("{store_file_id}", "{file_batch_id}", "{run_id}", "{model}")


def made(name: str, client: httpx.Client, ledger: Ledger) -> str:
    """Make a thing that this parameter names, and return its id."""
    return IN_LEDGER[name](client, ledger) if name in IN_LEDGER else OTHERS[name](client)


def walked(gateway: Gateway) -> list[tuple[str, str]]:
    """Method and path of every operation about one thing."""
    paths = gateway.server.config.app.openapi()["paths"]
    about_one = [path for path in paths if "{" in path and not any(name in path for name in APART)]
    return [(method, path) for path in about_one for method in METHODS if method in paths[path]]


def test_every_operation_about_a_thing_is_walked(gateway: Gateway):
    found = {part.strip("{}") for _, path in walked(gateway) for part in path.split("/") if part.startswith("{")}
    assert found == OTHERS.keys() | IN_LEDGER.keys(), "a path parameter without a thing of the first tenant's"


def test_what_is_another_tenant_s_is_not_there(gateway: Gateway):
    with gateway.client() as own, gateway.client(gateway.key("stranger")) as stranger:
        jobs = []
        for method, path in walked(gateway):
            names = re.findall(r"{(\w+)}", path)
            things = {name: made(name, own, gateway.services.ledger) for name in names}
            jobs += [things["job_id"]] if "job_id" in things else []
            url = path.format(**things)
            body = BODIES.get(path, {}) if method in ("post", "put", "patch") else None
            told = stranger.request(method.upper(), url, json=body)
            assert told.status_code == 404, (method, path, told.text)
            if method == "get":
                assert own.get(url).status_code == 200, (method, path)
        assert jobs
        assert "cancelled" not in {own.get(f"/v1/jobs/{job_id}").json()["state"] for job_id in jobs}


LISTS = {
    "/v1/files": "file_id", "/v1/batches": "batch_id", "/v1/vector_stores": "vector_store_id", "/v1/evals": "eval_id",
    "/v1/fine_tuning/jobs": "fine_tuning_job_id", "/v1/webhook_endpoints": "endpoint_id",
    "/v1/held": "held_job_id", "/v1/reviews/items": "item_id",
}  # fmt: skip


@pytest.mark.parametrize("path", LISTS)
def test_lists_show_nothing_of_another_tenant(gateway: Gateway, path: str):
    nobody_else = f"stranger-{uuid4().hex[:8]}"  # other tests made nothing as this tenant
    with gateway.client() as own, gateway.client(gateway.key(nobody_else)) as stranger:
        thing = made(LISTS[path], own, gateway.services.ledger)
        assert own.get(path, params={"limit": 1}).json()["data"]
        assert stranger.get(path).json()["data"] == []
        assert stranger.get(path, params={"after": thing}).status_code in (400, 404)


def test_no_route_is_open_by_mistake(gateway: Gateway):
    opened = {"/healthz", "/readyz"}
    paths = gateway.server.config.app.openapi()["paths"]
    ids = {
        **dict.fromkeys([*OTHERS, *IN_LEDGER], "7d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00"),
        "store_file_id": "file-1",
        "file_batch_id": "vsfb_1",
        "run_id": "evalrun_1",
        "output_item_id": "outputitem_1_0",
        "model": "echo",
    }
    with httpx.Client(base_url=gateway.url, timeout=60) as stranger:
        for path, methods in paths.items():
            for method in METHODS:
                if method in methods and path not in opened:
                    told = stranger.request(method.upper(), path.format(**ids))
                    assert told.status_code == 401, (method, path)
