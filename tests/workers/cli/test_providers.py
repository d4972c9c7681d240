import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.services.provider import Provider, Reply, echoes, providing
from tests.workers.cli.conftest import Call
from tests.workers.models.engines.remote_models import catalogue

from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.features.providers.store import AllowedProviders
from headrace_workers.models.catalogue import read_catalogue
from headrace_workers.runtime.settings import home_of


def test_providers_are_allowed_listed_and_revoked(call: Call, ledger: Ledger):
    code, _, err = call("providers", "allow", "shop", "openai, anthropic")
    assert (code, "shop allows these providers to see its texts: anthropic, openai" in err) == (0, True)
    assert call("providers", "allow", "shop", "gemini")[0] == 0
    assert call("providers", "allow", "bank", "openai")[0] == 0
    told = [json.loads(line) for line in call("providers", "list", "--json")[1].splitlines()]
    assert told == [
        {"tenant": "bank", "providers": ["openai"]},
        {"tenant": "shop", "providers": ["anthropic", "gemini", "openai"]},
    ]
    assert "anthropic, gemini, openai" in call("providers", "list", "--tenant", "shop")[1]
    code, _, err = call("providers", "revoke", "shop", "openai")
    assert (code, "shop allows anthropic, gemini" in err) == (0, True)
    code, _, err = call("providers", "revoke", "shop")
    assert (code, "shop uses local models alone" in err) == (0, True)
    assert ledger.of(AllowedProviders).by_tenant(["shop", "bank"]) == {"bank": {"openai"}}


def test_a_model_is_added_once_it_has_answered(call: Call, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FAR_KEY", "sk-of-far-away-0123456789")
    with providing(echoes) as provider:
        add = ("providers", "add", "openai", "--model", "gpt-5-mini", "--url", f"{provider.url}/v1/",
               "--key", "env:FAR_KEY", "--price", "0.25:2")  # fmt: skip
        code, _, err = call(*add)
        assert code == 0, err
        (heard,) = provider.heard
        assert heard.headers["authorization"] == "Bearer sk-of-far-away-0123456789"
        assert "gpt-5-mini answered: it read" in err
        assert "writes 200 costs 0.000525" in err
        assert "sk-of-far" not in err
        assert not any("gpt-5-mini" in thread.name for thread in threading.enumerate())  # each call is over
        found = read_catalogue(home_of())
        assert (str(found.models["gpt-5-mini"].api_key), found.prices["gpt-5-mini"].output) == ("env:FAR_KEY", 2.0)
        code, _, err = call(*add)
        assert (code, "was not changed" in err) == (0, True)


def _refuses(_provider: Provider, reply: Reply) -> None:
    reply.status(401, {"error": {"message": "Incorrect API key provided: sk-wrong-0123456789."}})


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["--key", "env:FAR_KEY"], "nothing was added, since one call of m failed"),
        (["--key", "env:NO_SUCH_KEY"], "the environment variable NO_SUCH_KEY is not set"),
        (["--key", "sk-wrong-0123456789"], "must say where the key is"),
        (["--price", "cheap"], "give two numbers, such as 0.25:2"),
        (["--price", "-1:2"], "a price is from 0"),
        (["--url", "ftp://models"], "must be a URL"),
    ],
)
def test_a_model_that_cannot_be_asked_is_not_added(
    call: Call, monkeypatch: pytest.MonkeyPatch, more: list[str], reason: str
):
    monkeypatch.setenv("FAR_KEY", "sk-wrong-0123456789")
    with providing(_refuses) as provider:
        code, _, err = call("providers", "add", "openai", "--model", "m", "--url", f"{provider.url}/v1", *more)
    assert (code, reason in err) == (2, True), err
    assert "sk-wrong" not in err
    assert not (home_of() / "models.toml").exists()


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="the system does not say what a process was told")
@pytest.mark.parametrize(
    ("env", "told"),
    [
        ({}, "was started without FAR_KEY: start it again"),
        ({"FAR_KEY": "sk-far-0123"}, "The stack that runs serves it"),
    ],
)
def test_a_stack_that_was_started_without_the_variable_of_a_key_is_told_of(
    call: Call, monkeypatch: pytest.MonkeyPatch, env: dict[str, str], told: str
):
    """The key is right in the shell that adds the model, and the workers would never see it."""
    monkeypatch.setenv("FAR_KEY", "sk-far-0123")
    waits = [sys.executable, "-S", "-c", "print(flush=True); input()"]
    with (
        providing(echoes) as provider,
        subprocess.Popen(waits, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as stack,
    ):
        assert stack.stdout is not None
        stack.stdout.readline()  # it is this program by now, with this environment
        home_of().mkdir(parents=True, exist_ok=True)
        run = {"kafka": "k:1", "redis": "redis://r", "ledger": "sqlite:///l", "pid": stack.pid}
        (home_of() / "run.json").write_text(json.dumps(run))
        code, _, err = call(
            "providers", "add", "openai", "--model", "m", "--url", f"{provider.url}/v1", "--key", "env:FAR_KEY"
        )
        stack.communicate("\n")
    assert (code, told in err) == (0, True), err


def test_a_provider_of_no_model_is_allowed_with_a_warning(call: Call, ledger: Ledger):
    catalogue(home_of(), "openai", "https://models.example.com", provider="someone")
    for name, warned in (("someone", False), ("sombody", True)):
        code, _, err = call("providers", "allow", "shop", name)
        assert code == 0
        assert ("warning: no model in models.toml is of sombody; the providers there are: someone" in err) is warned


def test_a_revocation_that_changes_nothing_is_an_error(call: Call, ledger: Ledger):
    """Someone who mistypes a name must not believe that a provider is shut out."""
    call("providers", "allow", "shop", "openai")
    code, _, err = call("providers", "revoke", "shop", "opnai")
    assert (code, "did not allow opnai" in err) == (1, True)
    code, _, err = call("providers", "revoke", "bank")
    assert (code, "bank allows no provider" in err) == (1, True)


def test_names_that_no_provider_has_are_refused(call: Call, ledger: Ledger):
    """Nothing is allowed then; `own` needs no permission."""
    for names, reason in (
        ("Open AI", "cannot name a provider"),
        (",", "no provider is named"),
        ("own", "need no permis"),
    ):
        code, _, err = call("providers", "allow", "shop", names)
        assert (code, reason in err) == (2, True), err
    assert "every tenant uses local models alone" in call("providers", "list")[2]
    assert "shop uses local models alone" in call("providers", "list", "--tenant", "shop")[2]


def test_many_lists_are_shown_a_page_at_a_time(call: Call, ledger: Ledger):
    for tenant in ("c", "a", "b"):
        call("providers", "allow", tenant, "openai")
    _, out, err = call("providers", "list", "--json", "--limit", "2")
    assert [json.loads(line)["tenant"] for line in out.splitlines()] == ["a", "b"]
    assert "--after b shows the next" in err
    assert [
        json.loads(line)["tenant"] for line in call("providers", "list", "--json", "--after", "b")[1].splitlines()
    ] == ["c"]
