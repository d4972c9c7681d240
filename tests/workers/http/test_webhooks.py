"""Receivers of webhooks, registered by the unmodified `openai` client, which also reads what they are sent."""

import threading
from collections.abc import Iterator

import openai
import pytest
from openai.types.webhooks import BatchCompletedWebhookEvent, ResponseCompletedWebhookEvent
from tests.services.eventually import eventually
from tests.workers.changed_settings import changed
from tests.workers.features.webhooks.office import Office
from tests.workers.features.webhooks.receiver import Heard, Receiver, closes, receiving, says
from tests.workers.http.conftest import bridge_of
from tests.workers.http.served import Gateway, answer, served
from tests.workers.ledger_jobs import take_in
from tests.workers.runtime.bridge.records import evaluation

from headrace_workers.core.sql.database import writing
from headrace_workers.features.webhooks.settings import HttpUse, WebhookSettings
from headrace_workers.features.webhooks.store.deliveries import Range
from headrace_workers.features.webhooks.store.webhooks import Webhooks
from headrace_workers.runtime.settings import Settings


@pytest.fixture
def gateway(settings: Settings) -> Iterator[Gateway]:
    with served(changed(settings, WebhookSettings(webhook_http=HttpUse.LOOPBACK))) as found:
        yield found


@pytest.fixture
def client(gateway: Gateway) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key(), max_retries=0)


def read(client: openai.OpenAI, heard: Heard, secret: str) -> object:
    return client.webhooks.unwrap(heard.body, heard.headers, secret=secret)


def test_the_resource_webhooks_of_openais_client_works(gateway: Gateway, client: openai.OpenAI):
    with receiving() as receiver:
        made = client.webhooks.create(event_types=["batch.completed"], name="shop", url=receiver.url)
        assert (made.object, made.name, made.event_types) == ("webhook_endpoint", "shop", ["batch.completed"])
        assert made.signing_secret.startswith("whsec_")
        tried = client.webhooks.test(made.id, event_type="batch.completed")
        assert (tried.status_code, tried.success, tried.webhook_endpoint_id) == (200, True, made.id)
        event = read(client, receiver.heard[-1], made.signing_secret)
        assert isinstance(event, BatchCompletedWebhookEvent)
        changed = client.webhooks.update(made.id, name="new", event_types=["batch.completed", "batch.failed"])
        assert (changed.name, changed.url) == ("new", receiver.url)
        (listed,) = client.webhooks.list()
        assert (listed.id, listed.signing_secret_hint) == (made.id, made.signing_secret_hint)
        assert made.signing_secret not in listed.to_json()
        rotated = client.webhooks.rotate_secret(made.id, keep_old_secret_active_for_24_hours=True)
        client.webhooks.test(made.id, event_type="batch.failed")
        for secret in (made.signing_secret, rotated.signing_secret):
            assert read(client, receiver.heard[-1], secret)
        again = client.webhooks.rotate_secret(made.id)
        client.webhooks.test(made.id, event_type="batch.failed")
        assert read(client, receiver.heard[-1], again.signing_secret)
        with pytest.raises(openai.InvalidWebhookSignatureError):
            read(client, receiver.heard[-1], rotated.signing_secret)
    assert "response.completed" in client.webhooks.event_types.list().data
    assert client.webhooks.delete(made.id).deleted
    assert list(client.webhooks.list()) == []


def test_a_receiver_that_does_not_take_a_sample_is_told(client: openai.OpenAI):
    with receiving(says(503)) as receiver:
        made = client.webhooks.create(event_types=["batch.failed"], name="a", url=receiver.url)
        assert client.webhooks.test(made.id, event_type="batch.failed").status_code == 503
        receiver.answer = closes
        with pytest.raises(openai.BadRequestError, match="was not reached"):
            client.webhooks.test(made.id, event_type="batch.failed")
    with pytest.raises(openai.BadRequestError, match=r"response\.completed"):
        client.webhooks.test(made.id, event_type="video.failed")
    with pytest.raises(openai.NotFoundError):
        client.webhooks.test("we_unknown", event_type="batch.failed")


def test_a_sample_beside_one_that_has_no_answer_yet_is_told(client: openai.OpenAI):
    may_answer, kept = threading.Event(), list[object]()

    def late(receiver: Receiver, handler: object, heard: Heard) -> None:
        may_answer.wait(60)
        says()(receiver, handler, heard)

    with receiving(late) as receiver:
        made = client.webhooks.create(event_types=["batch.failed"], name="shop", url=receiver.url)
        first = threading.Thread(target=lambda: kept.append(_sample(client, made.id)))
        first.start()
        try:
            eventually(lambda: receiver.heard)
            with pytest.raises(openai.BadRequestError, match="has not answered an earlier sample yet"):
                client.webhooks.test(made.id, event_type="batch.failed")
        finally:
            may_answer.set()
            first.join()
    assert len(receiver.heard) == len(kept) == 1


def _sample(client: openai.OpenAI, endpoint_id: str) -> object:
    try:
        return client.webhooks.test(endpoint_id, event_type="batch.failed")
    except openai.BadRequestError as error:  # the machine was so busy that its own time was over
        return error


def test_a_batch_s_end_reaches_the_receiver(gateway: Gateway, client: openai.OpenAI):
    with receiving() as receiver:
        made = client.webhooks.create(event_types=["batch.completed"], name="a", url=receiver.url)
        ledger = gateway.services.ledger
        with writing(ledger.engine) as tx:
            ledger.of(Webhooks).announce(tx, tenant="default", event_type="batch.completed", subject="batch_1")
        Office(ledger).deliver()
        event = read(client, receiver.heard[0], made.signing_secret)
    assert isinstance(event, BatchCompletedWebhookEvent)
    assert event.data.id == "batch_1"


def test_deliveries_are_looked_at_and_sent_again(gateway: Gateway):
    ledger = gateway.services.ledger
    office = Office(ledger)
    with gateway.client() as client, receiving(says(410)) as receiver:
        asked = {
            "event_types": ["job.completed"],
            "name": "a",
            "url": receiver.url,
            "headrace": {"whole": True, "signature": "v1a"},
        }
        made = client.post("/v1/webhook_endpoints", json=asked).json()
        path = f"/v1/webhook_endpoints/{made['id']}"
        assert made["signing_secret"].startswith("whpk_")
        take_in(ledger, [evaluation(input=str(n)) for n in range(3)])
        office.end()
        office.deliver()
        told = client.get(f"{path}/deliveries", params={"state": "dropped"}).json()["data"]
        assert {item["state"] for item in told} == {"dropped"}
        assert len(told) == 3
        assert "410" in client.get(path).json()["disabled"]
        assert client.post(f"{path}/enable").json()["disabled"] is None
        receiver.answer = says()
        assert client.post(f"{path}/replay", json={"dry_run": True}).json()["failed"] == 3
        assert client.post(f"{path}/replay", json={"delivered": True}).json()["sent"] == 3
        office.deliver()
        again = client.post(f"{path}/replay", json={"delivered": True}).json()
        assert (again["sent"], again["just_now"]) == (0, 3)
        assert client.post(f"{path}/disable", json={"reason": "moves"}).json()["disabled"] == "moves"
        take_in(ledger, [evaluation(input="later")])
        assert office.end() == 0


def test_a_background_response_s_end_reaches_the_receiver(gateway: Gateway, client: openai.OpenAI):
    with receiving() as receiver:
        made = client.webhooks.create(event_types=["response.completed"], name="a", url=receiver.url)
        wish = {"headrace": {"callback": {"url": receiver.url.replace("us", "me"), "events": ["job.completed"]}}}
        response = client.responses.create(model="echo", input="x", background=True, extra_body=wish)
        ledger, job_id = gateway.services.ledger, response.id.removeprefix("resp_")
        with bridge_of(gateway.settings):
            eventually(lambda: ledger.job(job_id))
            answer(ledger, job_id)
            eventually(lambda: len(ledger.of(Webhooks).deliveries(Range(), 3)) == 2)
        Office(ledger).deliver()
        (registered,) = [heard for heard in receiver.heard if heard.path.endswith("=us")]
        (named,) = [heard for heard in receiver.heard if heard.path.endswith("=me")]
        event = read(client, registered, made.signing_secret)
    assert isinstance(event, ResponseCompletedWebhookEvent)
    assert event.data.id == response.id
    assert b'"response.completed"' in named.body
