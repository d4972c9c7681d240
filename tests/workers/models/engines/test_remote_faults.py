"""Faults of providers: each call ends as a value of the right category, in time, whatever the provider sends."""

import gzip
import re
import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.services.provider import Behaviour, Provider, Reply, providing
from tests.workers.models.engines.remote_models import REMOTE_ENGINES, ask, remote

from headrace_schemas import Category, HeadraceError
from headrace_schemas.errors import ConfigurationError
from headrace_schemas.limits import MAX_TEXT
from headrace_schemas.reasons import shared_reason_of
from headrace_workers.core.ledger.outcome import ProviderBusy
from headrace_workers.models.engines.remote import generator
from headrace_workers.models.engines.remote.failures import (
    AnswerLost,
    CutByDeadline,
    ProviderRefuses,
    ProviderRejects,
    RemoteFailed,
    RequestRejected,
    ServerFailed,
)
from headrace_workers.models.generator import Completion, Generator, GivenUp, NotAsked


@pytest.fixture(params=REMOTE_ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine that asks a provider."""
    return str(request.param)


def outcome_of(home: Path, engine: str, behave: Behaviour, **entries: object) -> object:
    """Return the outcome of one call to a provider that behaves like this."""
    with providing(behave) as provider:
        return without_time(remote(home, engine, provider.url, **entries)).generate([ask("hi there")])[0]


def without_time(model: Generator) -> Generator:
    """Return this model, for whose rates no time passes: a pause is not over before the next call."""
    model._rates._clock = lambda: 1_000.0  # type: ignore[attr-defined]
    return model


def hangs(provider: Provider, _reply: Reply) -> None:
    provider.over.wait(60)


def pings(provider: Provider, reply: Reply) -> None:
    reply.start()
    while not provider.over.wait(0.05):
        reply.ping()


def stalls(provider: Provider, reply: Reply) -> None:
    """Begin to answer, then only keep the connection open."""
    reply.start()
    reply.text("Hel")
    while not provider.over.wait(0.05):
        reply.ping()


def drips(provider: Provider, reply: Reply) -> None:
    """Answer without end, a little at a time."""
    reply.start()
    while not provider.over.wait(0.05):
        reply.text("a")


def cuts(_provider: Provider, reply: Reply) -> None:
    reply.start()
    reply.text("Hel")


def errs(_provider: Provider, reply: Reply) -> None:
    """Answer 200, and send an error in the stream."""
    reply.start()
    reply.text("Hel")
    reply.event({"type": "error", "error": {"type": "api_error", "message": "the model crashed"}}, "error") if (
        reply.heard.is_anthropic
    ) else reply.error("the model crashed")


def truncates(_provider: Provider, reply: Reply) -> None:
    reply.start()
    reply.raw(b'event: content_block_delta\ndata: {"type": "content_block_del\n\n')


def is_no_stream(_provider: Provider, reply: Reply) -> None:
    reply.status(200, {"title": "Welcome"})


def floods(_provider: Provider, reply: Reply) -> None:
    reply.start()
    for _ in range(11 * 1024):
        reply.raw(b": " + b"x" * 1020 + b"\n\n")
    reply.end()


def never_ends_an_event(_provider: Provider, reply: Reply) -> None:
    """Send one event of more than 2 MB."""
    reply.start()
    for _ in range(2 * 1024):
        reply.raw(b": " + b"x" * 1021 + b"\n")


def has_many_lines(_provider: Provider, reply: Reply) -> None:
    """Send one event of many lines, for each of which a client may copy all of it."""
    reply.start()
    reply.raw(b":\n" * 100_000)


@pytest.mark.parametrize(
    ("behave", "entries", "words"),
    [
        (hangs, {"first_token": 0.5}, "no answer began within 0.5 s"),
        (pings, {"first_token": 0.5}, "no answer began within 0.5 s"),
        (stalls, {"idle": 0.5}, "stopped for longer than 0.5 s"),
        (drips, {"total": 1.0}, "took longer than 1 s"),
        (cuts, {}, "cut off before its end|connection was lost"),
        (errs, {}, "the model crashed"),
        (truncates, {}, "not valid JSON"),
        (is_no_stream, {}, "sent no part of an answer; is `url`"),
        (floods, {}, "more than 8,388,608 bytes"),
        (never_ends_an_event, {}, "an event of the answer has more than 1,048,576 bytes|more than 1,000 lines"),
        (has_many_lines, {}, "an event of the answer has more than 1,000 lines"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_answer_that_fails_is_reroutable(
    tmp_path: Path, engine: str, behave: Behaviour, entries: dict[str, object], words: str
) -> None:
    outcome = outcome_of(tmp_path, engine, behave, **entries)
    assert isinstance(outcome, RemoteFailed)
    assert outcome.billed or "connection was lost" in str(outcome)
    assert outcome.category is Category.REROUTABLE
    assert re.search(words, str(outcome)), str(outcome)


@pytest.mark.parametrize(
    ("behave", "at_most", "fair", "kind"),
    [(hangs, 0.5, 5.0, CutByDeadline), (stalls, 3.0, 0.1, CutByDeadline), (hangs, 0.5, 0.1, AnswerLost)],
)
def test_a_deadline_says_nothing_about_a_model_that_had_no_time(
    tmp_path: Path,
    engine: str,
    monkeypatch: pytest.MonkeyPatch,
    behave: Behaviour,
    at_most: float,
    fair: float,
    kind: type,
) -> None:
    monkeypatch.setattr(generator, "FAIR_SECONDS", fair)
    with providing(behave) as provider:
        (outcome,) = remote(tmp_path, engine, provider.url).generate([replace(ask("hi"), at_most=at_most)])
    assert type(outcome) is kind
    assert outcome.billed


def test_a_text_without_end_is_cut(tmp_path: Path, engine: str) -> None:
    def writes(provider: Provider, reply: Reply) -> None:
        reply.start()
        while not provider.over.is_set():
            reply.text("x" * 5000)

    outcome = outcome_of(tmp_path, engine, writes)
    assert isinstance(outcome, Completion)
    assert outcome.finish_reason == "length"
    assert MAX_TEXT < len(outcome.text) <= MAX_TEXT + 5000


def test_a_server_that_is_not_there_is_reroutable(tmp_path: Path, engine: str) -> None:
    with providing() as provider:
        url = provider.url
    (outcome,) = remote(tmp_path, engine, url).generate([ask("hi")])
    assert type(outcome) is RemoteFailed
    assert "could not be reached" in str(outcome)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, RequestRejected), (422, RequestRejected), (405, ProviderRejects), (401, RemoteFailed),
        (403, RemoteFailed), (404, RemoteFailed), (500, ServerFailed), (502, RemoteFailed),
        (429, ProviderBusy), (503, ProviderBusy), (529, ProviderBusy),
    ],
)  # fmt: skip
def test_the_status_decides_the_category(tmp_path: Path, engine: str, status: int, kind: type) -> None:
    outcome = outcome_of(tmp_path, engine, lambda _, reply: reply.status(status, {"error": {"message": "no,  thanks"}}))
    assert type(outcome) is kind
    assert not outcome.billed
    assert "no, thanks" in str(outcome) or kind is ProviderBusy


@pytest.mark.parametrize("status", [401, 429, 500, 503, None])
def test_what_is_shared_of_a_failure_quotes_no_provider(tmp_path: Path, engine: str, status: int | None) -> None:
    """Its words may be the prompt, which is for the job alone. None is an error in the stream."""
    told = {"error": {"message": "cannot read: my diagnosis", "code": "my diagnosis", "type": "my diagnosis"}}

    def fails(_provider: Provider, reply: Reply) -> None:
        if status is not None:
            reply.status(status, told)
            return
        reply.start()
        reply.event({"type": "error", **told}, "error") if reply.heard.is_anthropic else reply.error("my diagnosis")

    outcome = outcome_of(tmp_path, engine, fails)
    assert isinstance(outcome, HeadraceError)
    assert "my diagnosis" in str(outcome)
    shared = shared_reason_of(outcome)
    assert shared.endswith("with an error" if status is None else f"answered {status}")
    assert "diagnosis" not in shared


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_busy_provider_says_when_to_come_back(tmp_path: Path, engine: str, form: str) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(minutes=10), usegmt=True)
    header = "600" if form == "seconds" else later
    outcome = outcome_of(tmp_path, engine, lambda _, reply: reply.status(429, retry_after=header))
    assert isinstance(outcome, ProviderBusy)
    assert outcome.after == pytest.approx(600, abs=30)


def test_gemini_says_in_the_body_when_to_come_back(tmp_path: Path) -> None:
    body = [{"error": {"code": 429, "message": "slow down", "details": [{"retryDelay": "37.5s"}]}}]
    outcome = outcome_of(tmp_path, "openai", lambda _, reply: reply.status(429, body))
    assert isinstance(outcome, ProviderBusy)
    assert outcome.after == pytest.approx(37.5, abs=0.1)


def test_a_hard_quota_is_no_reason_to_wait(tmp_path: Path) -> None:
    body = {"error": {"message": "no credit", "code": "insufficient_quota"}}
    outcome = outcome_of(tmp_path, "openai", lambda _, reply: reply.status(429, body))
    assert type(outcome) is RemoteFailed


def test_an_overloaded_provider_may_say_so_in_the_stream(tmp_path: Path) -> None:
    def overloads(_provider: Provider, reply: Reply) -> None:
        reply.begin()
        reply.error("overloaded")

    assert isinstance(outcome_of(tmp_path, "anthropic", overloads), ProviderBusy)


def test_a_key_that_is_slowed_down_makes_no_call(tmp_path: Path, engine: str) -> None:
    with providing(lambda _, reply: reply.status(429, retry_after="30")) as provider:
        model = remote(tmp_path, engine, provider.url)
        first, second = model.generate([ask("a")])[0], model.generate([ask("b")])[0]
        assert isinstance(first, ProviderBusy)
        assert isinstance(second, ProviderBusy)
        assert len(provider.heard) == 1


def test_a_busy_provider_that_names_no_time_slows_only_those_down_who_wait_for_it(tmp_path: Path, engine: str) -> None:
    """Another model answers the others: they ask until the breaker opens, and never wait for a time that is a guess."""
    with providing(lambda _, reply: reply.status(503)) as provider:
        model = without_time(remote(tmp_path, engine, provider.url))
        hasty, waits = replace(ask("a"), patient=False), ask("b")
        found = [model.generate([request])[0] for request in (hasty, hasty, waits, hasty)]
        assert all(isinstance(completion, ProviderBusy) and not completion.is_sure for completion in found)
        assert [isinstance(completion, NotAsked) for completion in found] == [False, False, False, True]
        assert len(provider.heard) == 3


def test_a_redirect_is_not_followed(tmp_path: Path, engine: str) -> None:
    """A redirect could carry the prompt and the key to another host: it is a permanent error."""
    with providing() as other:
        outcome = outcome_of(tmp_path, engine, lambda _, reply: reply.status(307, location=other.url))
        assert isinstance(outcome, ProviderRejects)
        assert "redirect" in str(outcome)
        assert other.heard == []


def test_a_compressed_answer_is_refused(tmp_path: Path, engine: str) -> None:
    """A small body could hold gigabytes: none was asked for, and none is unpacked."""

    def compresses(_provider: Provider, reply: Reply) -> None:
        reply.begin(content_encoding="gzip")
        reply.raw(gzip.compress(b"data: {}\n\n" * 1000))

    outcome = outcome_of(tmp_path, engine, compresses)
    assert isinstance(outcome, RemoteFailed)
    assert "compressed" in str(outcome)


@pytest.mark.parametrize("days", [(-2, -1), (-1, 1)], ids=["expired", "self-signed"])
def test_a_bad_certificate_is_permanent(tmp_path: Path, engine: str, days: tuple[int, int]) -> None:
    """A certificate that cannot be trusted may be an attack: no prompt is sent, and no other try is made."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path, *days))
    with providing(context=context) as provider:
        (outcome,) = remote(tmp_path, engine, provider.url).generate([ask("hi")])
        assert isinstance(outcome, ProviderRejects)
        assert "certificate" in str(outcome)
        assert provider.heard == []


def test_half_of_a_character_does_not_lose_the_answer(tmp_path: Path, engine: str) -> None:
    """An emoji that the provider splits over two chunks is whole, and half of one is replaced: a failure here would ask
    the provider again for the whole group, at the price of the whole group.
    """

    def splits(_provider: Provider, reply: Reply) -> None:
        reply.start()
        for part in ("Hi \ud83d", "\ude00 and ", "\ud83d", "!"):
            reply.text(part)
        reply.end()

    outcome = outcome_of(tmp_path, engine, splits)
    assert isinstance(outcome, Completion), outcome
    assert outcome.text == "Hi \U0001f600 and \ufffd!"


@pytest.mark.parametrize("usage", [-5, "many", 1.5, True, None, 10**15])
def test_a_wrong_usage_does_not_lose_the_answer(tmp_path: Path, engine: str, usage: object) -> None:
    def lies(_provider: Provider, reply: Reply) -> None:
        reply.start(prompt_tokens=3)
        reply.text("Hello")
        reply.end(read=usage, written=usage)

    outcome = outcome_of(tmp_path, engine, lies)
    assert isinstance(outcome, Completion), outcome
    assert outcome.text == "Hello"
    assert outcome.remote is not None
    if usage is not True or engine != "anthropic":  # whose client takes it for 1
        assert not outcome.remote.has_usage
        assert (outcome.prompt_tokens, outcome.completion_tokens) == (0, 0)


def test_a_refusal_by_policy_is_permanent(tmp_path: Path, engine: str) -> None:
    """Another model is not asked what a provider refused: that would evade its policy."""

    def refuses(_provider: Provider, reply: Reply) -> None:
        reply.start()
        reply.end("refusal" if reply.heard.is_anthropic else "content_filter")

    outcome = outcome_of(tmp_path, engine, refuses)
    assert isinstance(outcome, ProviderRefuses)
    assert outcome.category is Category.PERMANENT


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"error": {"code": "content_policy_violation"}}),
        (400, {"error": {"code": "content_filter", "innererror": {"code": "ResponsibleAIPolicyViolation"}}}),
        (400, {"error": {"code": "BadRequest", "innererror": {"code": "ResponsibleAIPolicyViolation"}}}),
        (400, {"error": {"code": 400, "type": "content_filter", "message": "considered high risk"}}),
        (400, {"error": {"code": "invalid_prompt", "message": "your prompt was flagged as potentially violating …"}}),
        (400, {"error": {"code": "data_inspection_failed"}}),
        (400, {"error": {"code": "InputTextSensitiveContentDetected"}}),
        (400, {"error": {"code": "1301"}}),
        (400, {"error": {"code": "invalid_request_error", "message": "Content Exists Risk"}}),
        (400, {"error": {"type": "invalid_request_error", "message": "Output blocked by content filtering policy"}}),
        (403, {"error": {"code": 403, "metadata": {"reasons": ["violence"], "flagged_input": "x"}}}),
        (403, {"code": "permission-denied", "error": "Content violates usage guidelines."}),
        (422, {"detail": "Content Exists Risk"}),
    ],
)
def test_a_refusal_by_policy_may_be_an_error(tmp_path: Path, engine: str, status: int, body: object) -> None:
    """A job with `fallback_on_refusal` goes on to its next model, which a wrong request does not."""
    outcome = outcome_of(tmp_path, engine, lambda _, reply: reply.status(status, body))
    assert isinstance(outcome, ProviderRefuses)
    assert outcome.end_code == "content_policy"


def test_a_refusal_by_policy_may_be_an_error_in_the_stream(tmp_path: Path, engine: str) -> None:
    def errs(_provider: Provider, reply: Reply) -> None:
        reply.start()
        reply.text("Hel")
        error = {"type": "invalid_request_error", "message": "Output blocked by content filtering policy"}
        reply.event({"type": "error", "error": error}, "error" if reply.heard.is_anthropic else None)

    assert isinstance(outcome_of(tmp_path, engine, errs), ProviderRefuses)


@pytest.mark.parametrize(
    "reason", ["SAFETY", "content_filter: PROHIBITED_CONTENT", "guardrail_intervened", "sensitive"]
)
def test_other_providers_withhold_an_answer_with_reasons_of_their_own(tmp_path: Path, reason: str) -> None:
    def withholds(_provider: Provider, reply: Reply) -> None:
        reply.start()
        reply.text("Hel")
        reply.end(reason)

    assert isinstance(outcome_of(tmp_path, "openai", withholds), ProviderRefuses)


def refuses_at_length(_provider: Provider, reply: Reply) -> None:
    """Refuse in 10 MB."""
    reply.start()
    for _ in range(1_000):
        reply.event(reply.chunk({"refusal": "I cannot help. " * 700}))
    reply.end()


def refuses_for_ever(provider: Provider, reply: Reply) -> None:
    reply.start()
    while not provider.over.wait(0.01):
        reply.event(reply.chunk({"refusal": "n"}))


def refuses_and_hangs(provider: Provider, reply: Reply) -> None:
    reply.start()
    reply.event(reply.chunk({"refusal": "I cannot help."}))
    provider.over.wait(60)


def refuses_and_breaks(_provider: Provider, reply: Reply) -> None:
    reply.start(content_length="10000")
    reply.event(reply.chunk({"refusal": "I cannot help."}))


@pytest.mark.parametrize(
    ("behave", "entries"),
    [
        (refuses_at_length, {}), (refuses_for_ever, {}), (refuses_and_hangs, {}), (refuses_and_breaks, {}),
        (refuses_and_hangs, {"first_token": 0.3}), (refuses_for_ever, {"total": 0.3}),
    ],
)  # fmt: skip
def test_a_refusal_without_an_end_is_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behave: Behaviour, entries: dict[str, object]
) -> None:
    """Another model must not be asked because of the way in which a provider refuses."""
    monkeypatch.setattr(generator, "REFUSAL_SECONDS", 60.0 if entries else 0.5)
    outcome = outcome_of(tmp_path, "openai", behave, **entries)
    assert isinstance(outcome, ProviderRefuses)
    assert len(str(outcome)) <= 400


def test_an_error_shows_no_tenant_where_its_provider_is(tmp_path: Path, engine: str) -> None:
    """Endpoints in a private network are the operator's."""

    def quotes(provider: Provider, reply: Reply) -> None:
        reply.status(404, {"error": {"message": f"POST {provider.url}/v1 at 127.0.0.1: no such model at 10.1.2.3:80"}})

    with providing() as provider:
        gone = provider.url
    (unreachable,) = remote(tmp_path, engine, gone).generate([ask("hi")])
    for outcome in (unreachable, *(outcome_of(tmp_path, engine, behave) for behave in (quotes, errs, truncates, cuts))):
        assert isinstance(outcome, RemoteFailed)
        assert not re.search(r"127\.0\.0\.1|10\.1\.2\.3|localhost|https?:|:\d", str(outcome)), str(outcome)


def test_a_key_that_changes_is_read_again(tmp_path: Path, engine: str) -> None:
    key = tmp_path / "key"
    key.write_text("first-key\n")

    def checks(_provider: Provider, reply: Reply) -> None:
        if "second-key" in reply.heard.headers.get("authorization", ""):
            reply.start()
            reply.text("ok")
            reply.end()
        else:
            reply.status(401, {"error": {"message": "this key was revoked"}})

    with providing(checks) as provider:
        model = remote(tmp_path, engine, provider.url, api_key=f"file:{key}")
        (revoked,) = model.generate([ask("hi")])
        assert type(revoked) is RemoteFailed
        assert "revoked" in str(revoked)
        assert "first-key" not in str(revoked)
        key.write_text("second-key\n")
        assert isinstance(model.generate([ask("hi")])[0], Completion)
        key.unlink()
        (missing,) = model.generate([ask("hi")])
        assert isinstance(missing, ConfigurationError)
        assert str(key) in str(missing)


def test_keys_of_the_environment_are_not_sent(tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.setenv(name, "the-secret")
    with providing() as provider:
        assert isinstance(remote(tmp_path, engine, provider.url).generate([ask("hi")])[0], Completion)
        assert "the-secret" not in str(provider.heard[0].headers)


def test_an_answer_that_nobody_wants_is_hung_up(tmp_path: Path, engine: str) -> None:
    with providing(drips) as provider:
        model = remote(tmp_path, engine, provider.url)
        (outcome,) = model.generate([ask("hi", given_up=lambda: bool(provider.heard))])
        assert isinstance(outcome, GivenUp)
        assert provider.left.wait(120)


def certificate(folder: Path, first_day: int, last_day: int) -> Path:
    """Return a file with a key and a certificate of 127.0.0.1 that nobody has signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=first_day))
        .not_valid_after(now + timedelta(days=last_day))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "server.pem"
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path
