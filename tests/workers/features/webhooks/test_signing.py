import base64
import json
import os
import time

import openai
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from openai.types.webhooks import BatchCompletedWebhookEvent
from standardwebhooks import Webhook

from headrace_schemas.errors import ConfigurationError
from headrace_workers.features.webhooks import signing
from headrace_workers.features.webhooks.signing import Sealer, sealing_keys
from headrace_workers.features.webhooks.store.deliveries import body

BODY = body(message="5d0c9f8a-0000-5000-8000-000000000000", event_type="batch.completed", at_ms=1_700_000_000_123,
            data={"id": "batch_1", "text": "„Grüße“ 🌍"})  # fmt: skip


def signed(*keys: str, at: float | None = None, content: bytes = BODY) -> dict[str, str]:
    return signing.headers("msg-1", int(at or time.time()), content, keys)


def test_the_librarys_receiver_verifies():
    secret = signing.new_secret("v1")
    read = Webhook(secret).verify(BODY, signed(secret))
    assert (read["type"], read["data"]["id"]) == ("batch.completed", "batch_1")
    assert read["timestamp"] == "2023-11-14T22:13:20.123Z"


def test_openais_client_unwraps():
    secret = signing.new_secret("v1")
    client = openai.OpenAI(api_key="none", webhook_secret=secret)
    event = client.webhooks.unwrap(BODY, signed(secret))
    assert isinstance(event, BatchCompletedWebhookEvent)
    assert (event.object, event.created_at, event.data.id) == ("event", 1_700_000_000, "batch_1")


def test_while_a_secret_rotates_both_verify():
    new, old = signing.new_secret("v1"), signing.new_secret("v1")
    headers = signed(new, old)
    assert headers["webhook-signature"].count("v1,") == 2
    for secret in (new, old):
        assert Webhook(secret).verify(BODY, headers)["id"]
        assert openai.OpenAI(api_key="none", webhook_secret=secret).webhooks.unwrap(BODY, headers).id


def test_a_private_key_signs_and_its_public_key_verifies():
    secret, old = signing.new_secret("v1a"), signing.new_secret("v1")
    headers = signed(secret, old)
    asymmetric, symmetric = headers["webhook-signature"].split(" ")
    version, _, signature = asymmetric.partition(",")
    shown = signing.shown(secret)
    assert (version, shown[:5], secret[:5]) == ("v1a", "whpk_", "whsk_")
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(shown.removeprefix("whpk_")))
    content = f"msg-1.{headers['webhook-timestamp']}.".encode() + BODY
    public.verify(base64.b64decode(signature), content)
    with pytest.raises(InvalidSignature):
        public.verify(base64.b64decode(signature), content + b"!")
    assert symmetric.startswith("v1,")
    assert Webhook(old).verify(BODY, headers)["id"]


def test_secrets_are_as_the_standard_wants_them():
    assert signing.check_secret(signing.new_secret("v1")) == "v1"
    assert signing.check_secret(signing.new_secret("v1a")) == "v1a"
    assert signing.check_secret("whsec_" + base64.b64encode(bytes(24)).decode()) == "v1"
    for wrong in ("", "hunter2", "whsec_", "whsec_!!!!", "whsec_" + base64.b64encode(bytes(23)).decode(),
                  "whsec_" + base64.b64encode(bytes(65)).decode(), "whsk_" + base64.b64encode(bytes(31)).decode(),
                  base64.b64encode(bytes(32)).decode()):  # fmt: skip
        with pytest.raises(ConfigurationError) as caught:
            signing.check_secret(wrong)
        assert len(wrong) < 7 or wrong not in str(caught.value)


def test_a_hint_gives_nothing_away():
    secret = signing.new_secret("v1")
    assert signing.hint(secret) == f"whsec_…{secret[-4:]}"
    assert signing.hint(signing.new_secret("v1a")).startswith("whpk_…")


def test_the_standards_receiver_in_javascript_verifies(node):
    new, old = signing.new_secret("v1"), signing.new_secret("v1")
    headers = signed(new, old)
    script = """
import { Webhook } from "standardwebhooks";
const [secret, headers, body] = [process.argv[2], JSON.parse(process.argv[3]), process.argv[4]];
console.log(new Webhook(secret).verify(body, headers).data.id);
try {
  new Webhook(secret).verify(body + " ", headers);
} catch (error) {
  console.log("refused");
}
"""
    for secret in (new, old):
        said = node.run(script, secret, json.dumps(headers), BODY.decode()).split()
        assert said == ["batch_1", "refused"]


def test_what_is_sealed_shows_nothing_and_opens():
    sealer = Sealer([os.urandom(32)])
    one, two = sealer.seal("whsec_abc", "we_1"), sealer.seal("whsec_abc", "we_1")
    assert one != two
    assert "whsec" not in one
    assert b"whsec" not in base64.b64decode(one.removeprefix("sealed:"))
    assert sealer.open(one, "we_1") == sealer.open(two, "we_1") == "whsec_abc"
    with pytest.raises(ConfigurationError, match="we_2"):
        sealer.open(one, "we_2")


def test_keys_change_without_a_gap():
    old, new = os.urandom(32), os.urandom(32)
    kept = Sealer([old]).seal("whsec_abc", "we_1")
    assert Sealer([new, old]).open(kept, "we_1") == "whsec_abc"
    assert Sealer([new]).open(Sealer([new, old]).seal("whsec_abc", "we_1"), "we_1") == "whsec_abc"
    with pytest.raises(ConfigurationError, match="HEADRACE_WEBHOOK_KEY"):
        Sealer([new]).open(kept, "we_1")
    with pytest.raises(ConfigurationError):
        Sealer().open(kept, "we_1")


def test_without_a_key_secrets_are_kept_as_they_are():
    kept = Sealer().seal("whsec_abc", "we_1")
    assert (kept, Sealer().seals) == ("whsec_abc", False)
    assert Sealer([os.urandom(32)]).open(kept, "we_1") == "whsec_abc"


def test_keys_are_read_and_never_repeated():
    first, second = os.urandom(32), os.urandom(32)
    words = [base64.b64encode(key).decode() for key in (first, second)]
    assert sealing_keys(",".join(words)) == sealing_keys("\n".join(words)) == (first, second)
    assert sealing_keys(None) == sealing_keys("") == ()
    for wrong in ("hunter2hunter2", base64.b64encode(b"short").decode()):
        with pytest.raises(ConfigurationError) as caught:
            sealing_keys(wrong)
        assert wrong not in str(caught.value)
