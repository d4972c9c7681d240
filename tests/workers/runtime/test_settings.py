import base64
import re
from pathlib import Path

import pytest
from tools.reference.settings_page import described

from headrace_schemas.errors import ConfigurationError
from headrace_workers.core.environment import allowed, variables_of
from headrace_workers.features.cache.settings import CacheSettings
from headrace_workers.features.webhooks.settings import SealingSettings, WebhookSettings
from headrace_workers.runtime.settings import (
    ModelSettings,
    Settings,
    home_of,
    ledger_url,
    other_groups,
    unknown_variables,
)

ENV = {"HEADRACE_KAFKA": "k:9092", "HEADRACE_REDIS": "redis://:secret@r", "HEADRACE_LEDGER": "sqlite:///x.db"}


def test_defaults_need_three_addresses():
    """Everything else has a default that works."""
    settings = Settings.from_env(ENV)
    assert (settings.redis, settings.ledger, settings.home) == (
        ENV["HEADRACE_REDIS"],
        "sqlite:///x.db",
        Path(".headrace"),
    )
    assert (settings.lease_ms, settings.group_size, settings.of(ModelSettings).judge_model) == (30_000, 64, None)


def test_everything_can_be_set(tmp_path):
    given = {
        "HEADRACE_LEASE": "2.5", "HEADRACE_QUANTUM": "0.5",
        "HEADRACE_MAX_ATTEMPTS": "4", "HEADRACE_MAX_ACTIVE": "6",
        "HEADRACE_RETENTION": "7", "HEADRACE_LONGEST_RUN": "8.5",
        "HEADRACE_INTER_THREADS": "2", "HEADRACE_JUDGE_MODEL": "big", "HEADRACE_POLICY": "p.yaml",
        "HEADRACE_CACHE": "semantic", "HEADRACE_CACHE_TTL": "9",
        "HEADRACE_CACHE_MAX_ENTRIES": "0",
        "HEADRACE_EMBEDDER": "own", "HEADRACE_SIMILARITY": "1",
        "HEADRACE_DEVICE": "cpu", "HEADRACE_COMPUTE_TYPE": "int8",
    }  # fmt: skip
    settings = Settings.from_env(ENV | given | {"HEADRACE_HOME": str(tmp_path)})
    groups = {kind: settings if kind is Settings else settings.of(kind) for kind in (Settings, *other_groups())}
    fields = {variable: kind for kind in groups for variable in variables_of(kind)}
    for name, text in given.items():
        value = getattr(groups[fields[name]], name.removeprefix("HEADRACE_").lower())
        assert type(value)(text) == value
    assert (settings.lease_ms, settings.home) == (2_500, tmp_path)


def test_a_variable_sets_one_field_only():
    """Two groups with one variable would have two defaults and two descriptions of it."""
    names = [name for kind in (Settings, *other_groups()) for name in variables_of(kind)]
    assert len(names) == len(set(names))


def test_every_default_may_be_set():
    """A default beyond its own bound could not be written down in a deployment's variables."""
    for kind in (Settings, *other_groups()):
        numbers = {name: field.default for name, field in variables_of(kind).items() if "number" in allowed(field)}
        kind.from_env(ENV | {name: str(value) for name, value in numbers.items() if value is not None})


def test_nothing_is_read_where_settings_are_built_in_code(monkeypatch):
    monkeypatch.setenv("HEADRACE_CACHE_TTL", "9")
    assert CacheSettings().cache_ttl == 7 * 86_400
    assert CacheSettings.from_env().cache_ttl == 9


def test_everything_that_is_wrong_is_told_at_once():
    wrong = {"HEADRACE_LEASE": "soon", "HEADRACE_QUANTUM": "0", "HEADRACE_CACHE": "often", "HEADRACE_REDIS": "r:1"}
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_env(ENV | wrong)
    told = str(caught.value).splitlines()
    assert len(told) == len(wrong)
    assert all(any(line.startswith(name) for line in told) for name in wrong)


@pytest.mark.parametrize(
    ("name", "text"),
    [("LEASE", "soon"), ("LEASE", "nan"), ("QUANTUM", "inf"), ("LEASE", "0"), ("MAX_ATTEMPTS", "1.5"),
     ("MAX_ACTIVE", "-1"), ("DEVICE", "tpu"), ("MAX_ERROR", "1"), ("MAX_ERROR", "0"), ("AUDIT_SHARE", "1.1"),
     ("AUDIT_SHARE", "few"), ("AUDIT_SHARE", "-1"), ("AUDIT_SHARE", "nan")],
)  # fmt: skip
def test_a_wrong_value_is_refused_by_name(name, text):
    with pytest.raises(ConfigurationError, match=f"HEADRACE_{name} is '{text}'"):
        Settings.from_env(ENV | {f"HEADRACE_{name}": text})


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [("LEASE", "0.05", "a number from 0.1 to 86,400"), ("LEASE", "90000", "a number from 0.1 to 86,400"),
     ("MAX_ATTEMPTS", "40000", "a whole number from 1 to 10,000"),
     ("RETENTION", "1e20", "a number above 0 and up to 3,153,600,000"),
     ("MAX_ACTIVE", "9" * 20, "a whole number above 0 and up to 3,153,600,000")],
)  # fmt: skip
def test_what_the_ledger_cannot_count_is_refused(name, text, wanted):
    with pytest.raises(ConfigurationError, match=f"HEADRACE_{name} is '{text}'; it must be {wanted}$"):
        Settings.from_env(ENV | {f"HEADRACE_{name}": text})


def _beyond(constraint):
    """Values beyond one bound, as near to it as a float of that size can be."""
    for name, away in (("gt", 0.0), ("ge", -1.0), ("lt", 0.0), ("le", 1.0)):
        if (bound := getattr(constraint, name, None)) is not None:
            yield bound + away


BEYOND = [
    pytest.param(kind, name, text, id=f"{name}={text}")
    for kind in (Settings, *other_groups())
    for name, field in variables_of(kind).items()
    if "number" in allowed(field)
    for text in (*(f"{value:.16g}" for item in field.metadata for value in _beyond(item)), "nan", "inf", "-inf", "some")
]


@pytest.mark.parametrize(("kind", "name", "text"), BEYOND)
def test_every_number_keeps_its_bounds(kind, name, text):
    with pytest.raises(ConfigurationError) as caught:
        kind.from_env(ENV | {name: text})
    assert str(caught.value) == f"{name} is {text!r}; it must be {allowed(variables_of(kind)[name])}"


def test_a_cosine_above_1_is_refused():
    """Nothing would ever be served, and nobody would be told why."""
    with pytest.raises(ConfigurationError, match=r"HEADRACE_SIMILARITY is '1\.01'"):
        Settings.from_env(ENV | {"HEADRACE_SIMILARITY": "1.01"})


def test_nothing_may_be_audited():
    assert CacheSettings.from_env({"HEADRACE_AUDIT_SHARE": "0"}).audit_share == 0.0
    assert CacheSettings.from_env({}).audit_share == 0.05


def test_what_the_cache_may_be_is_told():
    with pytest.raises(ConfigurationError, match="is 'often'; it may be off, exact, normalised, semantic"):
        Settings.from_env(ENV | {"HEADRACE_CACHE": "often"})


def test_an_empty_variable_is_as_none():
    empty = dict.fromkeys(("HEADRACE_LEASE", "HEADRACE_JUDGE_MODEL", "HEADRACE_POLICY", "HEADRACE_DEVICE"), "")
    assert Settings.from_env(ENV | empty) == Settings.from_env(ENV)
    assert home_of({"HEADRACE_HOME": ""}) == Path(".headrace")


def test_secrets_do_not_show():
    env = ENV | {"HEADRACE_LEDGER": "postgresql://u@h/d", "HEADRACE_LEDGER_PASSWORD": "hidden"}
    settings = Settings.from_env(env)
    assert "hidden" in settings.ledger
    assert ("secret" in repr(settings), "hidden" in repr(settings)) == (False, False)


def test_the_ledgers_password_may_lie_in_a_file(tmp_path):
    from sqlalchemy.engine import make_url

    file = tmp_path / "password"
    file.write_text("p@ss/word\n")
    env = {"HEADRACE_LEDGER": "postgresql://u@h/d", "HEADRACE_LEDGER_PASSWORD_FILE": str(file)}
    assert make_url(ledger_url(env)).password == "p@ss/word"
    with pytest.raises(ConfigurationError, match="PASSWORD_FILE"):
        ledger_url(env | {"HEADRACE_LEDGER_PASSWORD_FILE": str(tmp_path / "none")})


def test_a_ledger_that_is_no_url_is_refused_by_name():
    with pytest.raises(ConfigurationError, match="HEADRACE_LEDGER"):
        ledger_url({"HEADRACE_LEDGER": "nonsense", "HEADRACE_LEDGER_PASSWORD": "x"})


def test_nothing_set_and_nothing_running_says_what_to_do(tmp_path):
    """The message names the variable and the command that would do."""
    with pytest.raises(ConfigurationError, match="headrace up"):
        Settings.from_env({"HEADRACE_HOME": str(tmp_path)})


def test_where_webhooks_may_go():
    usual = WebhookSettings.from_env({}).reach
    assert (usual.networks, usual.ports, usual.http_loopback) == ((), {443, 8443}, False)
    named = WebhookSettings.from_env({
        "HEADRACE_WEBHOOK_NETWORKS": "10.0.0.0/8, fd12::/32",
        "HEADRACE_WEBHOOK_PORTS": "443,9443",
        "HEADRACE_WEBHOOK_HTTP": "loopback",
    }).reach  # fmt: skip
    assert ([str(network) for network in named.networks], named.ports) == (["10.0.0.0/8", "fd12::/32"], {443, 9443})
    assert named.http_loopback


@pytest.mark.parametrize(
    ("name", "value"),
    [("NETWORKS", "10.0.0.1/8"), ("NETWORKS", "here"), ("PORTS", "0"), ("PORTS", "https"), ("HTTP", "always"),
     ("KEY", "hunter2")],
)  # fmt: skip
def test_what_webhooks_cannot_use_is_refused_by_name(name, value):
    variable = f"HEADRACE_WEBHOOK_{name}"
    with pytest.raises(ConfigurationError, match=variable) as caught:
        (SealingSettings if name == "KEY" else WebhookSettings).from_env({variable: value})
    assert name != "KEY" or value not in str(caught.value)


def test_the_key_of_webhooks_may_lie_in_a_file(tmp_path):
    file = tmp_path / "key"
    file.write_text(base64.b64encode(bytes(32)).decode() + "\n")
    assert SealingSettings.from_env(
        {"HEADRACE_WEBHOOK_KEY_FILE": str(file), "HEADRACE_WEBHOOK_KEY": "x"}
    ).webhook_key == (bytes(32),)
    with pytest.raises(ConfigurationError, match="HEADRACE_WEBHOOK_KEY_FILE"):
        SealingSettings.from_env({"HEADRACE_WEBHOOK_KEY_FILE": str(tmp_path / "none")})


def test_variables_that_nothing_reads_are_known():
    compose = (Path(__file__).parents[3] / "docker-compose.yml").read_text("utf-8")
    names = {*described(), *re.findall(r"HEADRACE_\w+", compose)}
    assert unknown_variables(dict.fromkeys(names, "x")) == []
    slips = ["HEADRACE_KAFKA_PASSWORD_FILE", "HEADRACE_RETENTOIN"]
    assert unknown_variables({**dict.fromkeys([*slips, "PATH"], "x"), **ENV}) == slips
