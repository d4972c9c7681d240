"""What another tenant has is not there, wherever a body names it: nobody learns whether there is such a thing."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from tests.workers.gateway.served import Gateway
from tests.workers.gateway.test_tenants import a_file, a_response, a_store, an_endpoint, an_eval

Make = Callable[[httpx.Client], str]
Ask = Callable[[str], tuple[str, dict[str, Any]]]

CHAT = {"model": "echo", "messages": [{"role": "user", "content": "x"}]}
ASKED = {"model": "echo", "input": "x"}
ROWS = {"type": "jsonl"}
FILE_SEARCH = {"type": "file_search"}


def an_uploaded_part(client: httpx.Client) -> str:
    """A part of an upload of the client's tenant."""
    announced = {"bytes": 1, "filename": "x", "mime_type": "text/plain", "purpose": "user_data"}
    upload = client.post("/v1/uploads", json=announced).json()["id"]
    return str(client.post(f"/v1/uploads/{upload}/parts", files={"data": ("x", b"x")}).json()["id"])


def in_a_batch(name: str) -> dict[str, Any]:
    """A batch of this file."""
    return {"input_file_id": name, "endpoint": "/v1/chat/completions", "completion_window": "24h"}


# What is named, whose it is, and what of the asker's own the path has.
NAMED: dict[str, tuple[Make, Make | None, Ask]] = {
    "a batch's file": (a_file, None, lambda name: ("/v1/batches", in_a_batch(name))),
    "a store's files": (a_file, None, lambda name: ("/v1/vector_stores", {"file_ids": [name]})),
    "a file for a store": (a_file, a_store, lambda name: ("/v1/vector_stores/{own}/files", {"file_id": name})),
    "files for a store": (a_file, a_store, lambda name: ("/v1/vector_stores/{own}/file_batches", {"file_ids": [name]})),
    "an eval's rows": (
        a_file, an_eval,
        lambda name: ("/v1/evals/{own}/runs", {"data_source": {**ROWS, "source": {"type": "file_id", "id": name}}}),
    ),
    "a tool's store": (
        a_store, None,
        lambda name: ("/v1/responses", {**ASKED, "tools": [{**FILE_SEARCH, "vector_store_ids": [name]}]}),
    ),
    "a base": (a_store, None, lambda name: ("/v1/chat/completions", {**CHAT, "headrace": {"knowledge": name}})),
    "an earlier response": (
        a_response, None, lambda name: ("/v1/responses", {**ASKED, "previous_response_id": name}),
    ),
    "an endpoint": (
        an_endpoint, None, lambda name: ("/v1/jobs", {"model": "echo", "prompt": "x", "callback": {"endpoint": name}}),
    ),
    "an endpoint, by chat": (
        an_endpoint, None,
        lambda name: ("/v1/chat/completions", {**CHAT, "headrace": {"callback": {"endpoint": name}}}),
    ),
    "a batch's endpoint": (
        an_endpoint, a_file,
        lambda name: ("/v1/batches", {**in_a_batch("{own}"), "headrace": {"callback": {"endpoint": name}}}),
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", NAMED)
def test_what_is_another_s_is_told_as_what_is_nobody_s(gateway: Gateway, what: str):
    """The same status and the same words."""
    make, own, ask = NAMED[what]
    with gateway.client() as its_tenant, gateway.client(gateway.key("stranger")) as stranger:
        theirs = make(its_tenant)
        nobody_s = theirs[:-4] + ("0000" if theirs[-4:] != "0000" else "1111")

        mine = None if own is None else own(stranger)

        def tell(name: str) -> tuple[int, str]:
            path, body = ask(name)
            if mine is not None:
                path = path.replace("{own}", mine)
                body = {key: mine if value == "{own}" else value for key, value in body.items()}
            told = stranger.post(path, json=body)
            return told.status_code, (told.json().get("detail") or told.json()["error"]["message"]).replace(name, "IT")

        told = tell(theirs)
        assert told == tell(nobody_s)
        assert told[0] in (400, 404)


def test_a_part_of_another_s_upload_is_nobody_s(gateway: Gateway):
    """An upload is made of its own parts alone."""
    with gateway.client() as its_tenant, gateway.client(gateway.key("stranger")) as stranger:
        announced = {"bytes": 1, "filename": "x", "mime_type": "text/plain", "purpose": "user_data"}
        upload = stranger.post("/v1/uploads", json=announced).json()["id"]
        part = an_uploaded_part(its_tenant)
        told = [
            stranger.post(f"/v1/uploads/{upload}/complete", json={"part_ids": [each]})
            for each in (part, part[:-4] + ("0000" if part[-4:] != "0000" else "1111"))
        ]
        assert [each.status_code for each in told] == [400, 400]
        assert len({each.json()["error"]["message"].replace(part, "").split(":")[0] for each in told}) == 1
