"""What bodies and URLs name: another tenant's is not there, and the asker's own needs the scope to read it."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import httpx
import pytest
from fastapi.routing import APIRoute
from tests.services.eventually import eventually
from tests.workers.http.served import Gateway, described
from tests.workers.http.test_tenants import METHODS, a_file, a_response, a_store, an_endpoint, an_eval

from headrace_workers.core.scopes import JOBS_WRITE, Scope, all_scopes, allows
from headrace_workers.features.batches.feature import BATCHES_WRITE
from headrace_workers.features.files.feature import FILES_READ, FILES_WRITE
from headrace_workers.features.generation.openai.request import OF_ANY, OF_GENERATION
from headrace_workers.http.caller import Needs
from headrace_workers.http.routes import FastRoute
from headrace_workers.wiring.gateway_app import ROUTERS

Make = Callable[[httpx.Client], str]
Ask = Callable[[str], tuple[str, dict[str, Any]]]

CHAT = {"model": "echo", "messages": [{"role": "user", "content": "x"}]}
TURN = {"model": "echo", "input": "x"}
ROWS = {"type": "jsonl"}
FILE_SEARCH = {"type": "file_search"}


def an_uploaded_part(client: httpx.Client) -> str:
    announced = {"bytes": 1, "filename": "x", "mime_type": "text/plain", "purpose": "user_data"}
    upload = client.post("/v1/uploads", json=announced).json()["id"]
    return str(client.post(f"/v1/uploads/{upload}/parts", files={"data": ("x", b"x")}).json()["id"])


def in_a_batch(name: str) -> dict[str, Any]:
    return {"input_file_id": name, "endpoint": "/v1/chat/completions", "completion_window": "24h"}


def to_learn(name: str) -> dict[str, Any]:
    return {"model": "echo", "training_file": name}


# What is named, whose it is, and what of the asker's own the path has.
NAMED: dict[str, tuple[Make, Make | None, Ask]] = {
    "a batch's file": (a_file, None, lambda name: ("/v1/batches", in_a_batch(name))),
    "a run's file": (a_file, None, lambda name: ("/v1/fine_tuning/jobs", to_learn(name))),
    "a run's file, by a job": (a_file, None, lambda name: ("/v1/jobs", {"kind": "tuning", **to_learn(name)})),
    "a store's files": (a_file, None, lambda name: ("/v1/vector_stores", {"file_ids": [name]})),
    "a file for a store": (a_file, a_store, lambda name: ("/v1/vector_stores/{own}/files", {"file_id": name})),
    "files for a store": (a_file, a_store, lambda name: ("/v1/vector_stores/{own}/file_batches", {"file_ids": [name]})),
    "an eval's rows": (
        a_file, an_eval,
        lambda name: ("/v1/evals/{own}/runs", {"data_source": {**ROWS, "source": {"type": "file_id", "id": name}}}),
    ),
    "a tool's store": (
        a_store, None,
        lambda name: ("/v1/responses", {**TURN, "tools": [{**FILE_SEARCH, "vector_store_ids": [name]}]}),
    ),
    "a base": (a_store, None, lambda name: ("/v1/chat/completions", {**CHAT, "headrace": {"knowledge": name}})),
    "an earlier response": (
        a_response, None, lambda name: ("/v1/responses", {**TURN, "previous_response_id": name}),
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
    with gateway.client() as its_tenant, gateway.client(gateway.key("stranger")) as stranger:
        announced = {"bytes": 1, "filename": "x", "mime_type": "text/plain", "purpose": "user_data"}
        upload = stranger.post("/v1/uploads", json=announced).json()["id"]
        part = an_uploaded_part(its_tenant)
        told = [
            stranger.post(f"/v1/uploads/{upload}/complete", json={"part_ids": [text]})
            for text in (part, part[:-4] + ("0000" if part[-4:] != "0000" else "1111"))
        ]
        assert [response.status_code for response in told] == [400, 400]
        assert len({response.json()["error"]["message"].replace(part, "").split(":")[0] for response in told}) == 1


# Fields that name a thing, or hold what does, and the family of scopes of that thing. "endpoint" is a webhook's within
# a callback; `whole` shows what is in jobs.
NAMES: Final = {
    "input_file_id": "files", "file_id": "files", "file_ids": "files", "files": "files", "data_source": "files",
    "training_file": "files", "validation_file": "files",
    "knowledge": "knowledge", "tools": "knowledge", "callback": "webhooks", "endpoint": "webhooks", "whole": "jobs",
    "previous_response_id": "jobs", "input": "jobs", "part_ids": "files", "headrace": None,
}  # fmt: skip
# Fields that name nothing which is kept, or only what the route itself is about, as labels are about a job.
_PLAIN: Final = """
anchor application arguments attempts attributes background bytes cache choices chunking_strategy completion_window
content context criteria criterion data data_source_config days deadline delivered description differs dimensions
dry_run encoding_format event_type event_types events expires_after expires_after[anchor] expires_after[seconds] file
fallback_on_refusal filename filters grammar guidance high hints id idempotency_key ignore_case in_prompt instructions
json_schema keep_old_secret_active_for_24_hours key kind knowledge_filter labels lane language levels low max_age
max_completion_tokens max_num_results max_output_tokens max_tokens max_words md5 messages metadata mime_type
min_quality min_words model name other output output_expires_after parallel_tool_calls parameters passing pattern
priority prompt purpose questions
query question ranker ranking_options reason reference response response_format rewrite_query role safety_identifier
sampling scale repetition_penalty score_threshold screen seconds seed service_tier share show signature since stop
store stream stream_options temperature template tenant testing_criteria text then tool_call_id tool_calls tool_choice
top_k top_p trim type uncertain until url user value variables variant without_passages
alpha batch_size dpo epochs hyperparameters integrations learning_rate_multiplier lora method n_epochs quantizations
rank reinforcement suffix supervised targets
action category corrected job_id label lease note probability recall revision rule score wanted when who
"""
PLAIN: Final = frozenset(_PLAIN.split())
# Of URLs: `after` and `before` name a thing of the route's own kind.
_QUERIES: Final = """
after before category criterion filter from job_id limit order order_by purpose rule since state status to until wait
who
"""
QUERIES: Final = frozenset(_QUERIES.split())
PATHS: Final = {
    "batch_id": "batches", "endpoint_id": "webhooks", "eval_id": "evals", "run_id": "evals", "output_item_id": "evals",
    "file_id": "files", "upload_id": "files", "job_id": "jobs", "response_id": "jobs", "model": "jobs",
    "vector_store_id": "knowledge", "store_file_id": "knowledge", "file_batch_id": "knowledge",
    "held_job_id": "reviews", "item_id": "reviews", "fine_tuning_job_id": "jobs",
}  # fmt: skip

JOB = {"model": "echo", "prompt": "x"}
ONE = {"criterion": "contains", "text": "x"}
HOOK = {"name": "a", "url": "https://shop.example/hooks", "event_types": ["endpoint.disabled"]}
Body = Callable[[str], dict[str, Any]]


def by_callback(rest: dict[str, Any]) -> Body:
    return lambda name: {**rest, "headrace": {"callback": {"endpoint": name}}}


def on_base(rest: dict[str, Any]) -> Body:
    return lambda name: {**rest, "headrace": {"knowledge": name}}


# By route, and the field of its body that names: how a thing is made, and the body.
ASKED: Final[dict[tuple[str, str], tuple[Make, Body]]] = {
    ("/v1/jobs", "knowledge"): (a_store, lambda name: {**JOB, "knowledge": name}),
    ("/v1/jobs", "callback"): (an_endpoint, lambda name: {**JOB, "callback": {"endpoint": name}}),
    ("/v1/evaluations", "callback"): (
        an_endpoint, lambda name: {"input": "x", "output": "x", "criteria": [ONE], "callback": {"endpoint": name}},
    ),
    ("/v1/chat/completions", "headrace.knowledge"): (a_store, on_base(CHAT)),
    ("/v1/chat/completions", "headrace.callback"): (an_endpoint, by_callback(CHAT)),
    ("/v1/completions", "headrace.knowledge"): (a_store, on_base(JOB)),
    ("/v1/completions", "headrace.callback"): (an_endpoint, by_callback(JOB)),
    ("/v1/responses", "headrace.knowledge"): (a_store, on_base(TURN)),
    ("/v1/responses", "headrace.callback"): (an_endpoint, by_callback(TURN)),
    ("/v1/responses", "tools"): (
        a_store, lambda name: {**TURN, "tools": [{**FILE_SEARCH, "vector_store_ids": [name]}]},
    ),
    ("/v1/embeddings", "headrace.callback"): (an_endpoint, by_callback({"model": "hash", "input": "x"})),
    ("/v1/moderations", "headrace.callback"): (an_endpoint, by_callback({"input": "x"})),
    ("/v1/decisions", "headrace.callback"): (
        an_endpoint, by_callback({**TURN, "questions": [{"type": "predicate", "instructions": "x"}]}),
    ),
    ("/v1/jobs", "training_file"): (a_file, lambda name: {"kind": "tuning", **to_learn(name)}),
    ("/v1/jobs", "validation_file"): (
        a_file, lambda name: {"kind": "tuning", **to_learn(name), "validation_file": name},
    ),
    ("/v1/fine_tuning/jobs", "training_file"): (a_file, to_learn),
    ("/v1/fine_tuning/jobs", "validation_file"): (a_file, lambda name: {**to_learn(name), "validation_file": name}),
    ("/v1/fine_tuning/jobs", "headrace.callback"): (an_endpoint, by_callback(to_learn("file-1"))),
    ("/v1/batches", "input_file_id"): (a_file, in_a_batch),
    ("/v1/batches", "headrace.callback"): (
        an_endpoint, lambda name: {**in_a_batch("file-1"), "headrace": {"callback": {"endpoint": name}}},
    ),
    ("/v1/evals/{eval_id}/runs", "data_source"): (
        a_file, lambda name: {"data_source": {**ROWS, "source": {"type": "file_id", "id": name}}},
    ),
    ("/v1/vector_stores", "file_ids"): (a_file, lambda name: {"file_ids": [name]}),
    ("/v1/vector_stores/{vector_store_id}/files", "file_id"): (a_file, lambda name: {"file_id": name}),
    ("/v1/vector_stores/{vector_store_id}/file_batches", "file_ids"): (a_file, lambda name: {"file_ids": [name]}),
    ("/v1/vector_stores/{vector_store_id}/file_batches", "files"): (
        a_file, lambda name: {"files": [{"file_id": name}]},
    ),
    ("/v1/webhook_endpoints", "headrace.whole"): (a_file, lambda _: {**HOOK, "headrace": {"whole": True}}),
    ("/v1/webhook_endpoints/{endpoint_id}", "headrace.whole"): (a_file, lambda _: {"headrace": {"whole": True}}),
}  # fmt: skip
# Fields that name what the route's own scope lets its caller read in any case: to write implies to read.
OWN: Final = {
    ("/v1/responses", "previous_response_id"), ("/v1/responses", "input"),
    ("/v1/uploads/{upload_id}/complete", "part_ids"),
}  # fmt: skip
# Of those names, fields that hold text or a vector's input here, and no item of a response.
NOT_HERE: Final = {
    *((f"/v1/{name}", "input") for name in ("jobs", "evaluations", "embeddings", "moderations", "decisions")),
    ("/v1/batches", "endpoint"),  # the URL of its lines
    ("/v1/jobs", "tools"), ("/v1/chat/completions", "tools"),  # functions alone
}  # fmt: skip


def routes(gateway: Gateway) -> Iterator[tuple[str, str, Scope, Mapping[str, Any]]]:
    """Method, path, scope and description of every operation that needs a key."""
    paths = described(gateway)["paths"]
    for router in ROUTERS:
        for route in router.routes:
            assert isinstance(route, APIRoute)
            scopes = {
                dependency.call.scope
                for dependency in route.dependant.dependencies
                if isinstance(dependency.call, Needs)
            }
            scopes |= {
                inner.call.scope
                for dependency in route.dependant.dependencies
                for inner in dependency.dependencies
                if isinstance(inner.call, Needs)
            }
            if isinstance(route, FastRoute):
                scopes = {route.scope}
            if not scopes:
                assert route.path in ("/", "/healthz", "/readyz") or not route.include_in_schema, route.path
                continue
            (scope,) = scopes
            for method in METHODS:
                if method.upper() in route.methods:
                    yield method, route.path_format, scope, paths[route.path_format][method]


def fields(schema: Any, whole: Mapping[str, Any], seen: frozenset[str] = frozenset()) -> Iterator[tuple[str, ...]]:
    """The fields of a body, each with those that it is in."""
    if not isinstance(schema, Mapping):
        return
    if (reference := schema.get("$ref")) is not None:
        if reference not in seen:
            found: Any = whole
            for part in reference.removeprefix("#/").split("/"):
                found = found[part]
            yield from fields(found, whole, seen | {reference})
        return
    for name, within in schema.get("properties", {}).items():
        yield (name,)
        yield from ((name, *deeper) for deeper in fields(within, whole, seen))
    within_it = [schema.get("items"), schema.get("additionalProperties")]
    for kind in ("anyOf", "oneOf", "allOf"):
        within_it += schema.get(kind, [])
    for item in within_it:
        yield from fields(item, whole, seen)


def test_every_field_and_parameter_is_known_to_name_something_or_nothing(gateway: Gateway):
    whole = described(gateway)
    wanted: set[tuple[str, str]] = set()
    for method, path, scope, told in routes(gateway):
        for parameter in told.get("parameters", ()):
            if parameter["in"] == "query":
                assert parameter["name"] in QUERIES, (method, path)
            if parameter["in"] == "path":
                assert scope.startswith(f"{PATHS[parameter['name']]}:"), (method, path, parameter["name"])
        for content in told.get("requestBody", {}).get("content", {}).values():
            for place in fields(content.get("schema"), whole):
                unknown = [name for name in place if name not in PLAIN | NAMES.keys()]
                assert not unknown, (method, path, place)
                if place[-1] == "headrace":
                    # What OpenAI's routes take there their descriptions do not say.
                    answers = path in ("/v1/chat/completions", "/v1/completions", "/v1/responses")
                    wishes = OF_GENERATION if answers else OF_ANY if scope is JOBS_WRITE else ()
                    wanted |= {(path, f"headrace.{wish}") for wish in wishes if wish in NAMES}
                elif place[-1] in NAMES and "callback" not in place[:-1] and "files" not in place[:-1]:
                    wanted.add((path, ".".join(place)))
    assert {wish for wish in OF_GENERATION if wish not in PLAIN | NAMES.keys()} == set()
    assert wanted - NOT_HERE == ASKED.keys() | OWN


@pytest.mark.parametrize("asked", ASKED, ids=" ".join)
def test_what_is_named_needs_the_scope_to_read_it(gateway: Gateway, asked: tuple[str, str]):
    """A key that may do all else is told what it lacks, be the thing there or not; one that may read it goes on."""
    (path, field), (make, body_of) = asked, ASKED[asked]
    family = NAMES[field.rpartition(".")[2]]
    own = next(scope for method, text, scope, _ in routes(gateway) if (method, text) == ("post", path))
    needed = Scope(f"{family}:read")
    others = [scope for scope in all_scopes() if not allows({scope}, needed)]
    beside = [FILES_READ] if path in ("/v1/batches", "/v1/fine_tuning/jobs") else []  # of what they read
    least = gateway.key("default", own, needed, *beside)
    with gateway.client() as all_of_it, gateway.client(gateway.key("default", *others)) as lacks:
        body = body_of(make(all_of_it))
        made = {"eval_id": an_eval, "vector_store_id": a_store, "endpoint_id": an_endpoint}
        url = path.format(**{name: thing(all_of_it) for name, thing in made.items() if f"{{{name}}}" in path})
        missing = body_of("file-0" if family == "files" else "none")
        for entry in (body, missing):
            told = lacks.post(url, json=entry)
            assert told.status_code == 403, told.text
            assert f"this key lacks the scope {needed}" in told.text
        with gateway.client(least) as reads:
            told = reads.post(url, json=missing)  # what is there would be waited for
            assert told.status_code != 403, told.text


@pytest.mark.parametrize("url", [None, "/v1/chat/completions"])
def test_lines_of_a_batch_name_what_the_key_that_submitted_it_may_read(gateway: Gateway, url: str | None):
    """A file of lines opens no knowledge base, and rings at no endpoint, that a body would not. Nor does it tell which
    there are.
    """
    few = gateway.key("default", BATCHES_WRITE, FILES_WRITE)
    with gateway.client() as own, gateway.client(few) as client:
        store, endpoint = a_store(own), an_endpoint(own)
        bases, endpoints = [store, "none"], [endpoint, f"we_{'2' * 24}"]
        wishes = [{}, *({"knowledge": name} for name in bases), *({"callback": {"endpoint": id}} for id in endpoints)]
        rows = [
            {"custom_id": f"{n}", "method": "POST", "url": url, "body": {**CHAT, "headrace": wish}}
            if url
            else JOB | wish
            for n, wish in enumerate(wishes)
        ]
        lines = "\n".join(map(json.dumps, rows)).encode()
        sent = client.post("/v1/files", files={"file": ("x.jsonl", lines)}, data={"purpose": "batch"})
        wanted = {**in_a_batch(sent.json()["id"]), "endpoint": url or "/v1/jobs"}
        batch = client.post("/v1/batches", json=wanted).json()["id"]

        def ended() -> dict[str, Any] | None:
            found = client.get(f"/v1/batches/{batch}").json()
            return found if found["status"] == "completed" else None

        eventually(ended)
        found = ended()
        assert found is not None
        assert found["request_counts"] == {"total": 5, "completed": 1, "failed": 4}
        errors = client.get(f"/v1/files/{found['error_file_id']}/content").text
        told = [json.dumps(json.loads(line)["error"]) for line in errors.splitlines()]
        assert ["knowledge:read" in text for text in told] == [True, True, False, False]
        assert ["webhooks:read" in text for text in told] == [False, False, True, True]
        assert (told[0], told[2]) == (told[1], told[3])
