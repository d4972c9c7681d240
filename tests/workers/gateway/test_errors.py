"""Refusals in the shape of the path's family."""

import httpx
import pytest


def test_our_own_paths_speak_of_problems(client: httpx.Client):
    """RFC 9457, also for what no route takes."""
    told = client.put("/v1/jobs", json={})
    assert (told.status_code, told.headers["content-type"]) == (405, "application/problem+json")
    assert told.headers["allow"] == "POST"
    assert told.json()["type"] == "urn:headrace:problem:method_not_allowed"


@pytest.mark.parametrize(
    "path", ["/v1/fine_tuning/jobs", "/v1/nothing", "/v1/jobsx", "/chat/completions", "/v1/v1/models"]
)
def test_openai_s_paths_speak_as_openai_does(client: httpx.Client, path: str):
    """Its clients read `error`, also of what there is no route for: mostly their base URL is wrong, which it says."""
    told = client.get(path)
    assert (told.status_code, told.headers["content-type"]) == (404, "application/json")
    assert told.json()["error"]["code"] == "not_found"
    assert told.json()["error"]["type"] == "invalid_request_error"
    assert "the base URL of OpenAI's clients ends in /v1" in told.json()["error"]["message"]
