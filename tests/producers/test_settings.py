import json
import os

import pytest

from headrace_producers import KafkaSettings, ProducerSettings
from headrace_schemas.errors import ConfigurationError
from headrace_workers.runtime.embedded.home import HomeLock


def test_addresses_come_from_the_environment():
    settings = KafkaSettings.from_env({"HEADRACE_KAFKA": "a:1, b:2", "HEADRACE_TOPIC_PREFIX": "t."})
    assert (settings.bootstrap, settings.prefix) == (("a:1", "b:2"), "t.")
    assert settings.client_options() == {"bootstrap_servers": ["a:1", "b:2"], "security_protocol": "PLAINTEXT"}


def test_an_empty_variable_counts_as_unset():
    names = ("TOPIC_PREFIX", *(f"KAFKA_{name}" for name in ("SECURITY_PROTOCOL", "SASL_MECHANISM", "USERNAME",
             "PASSWORD", "CA_FILE", "GROUPS")))  # fmt: skip
    env = {"HEADRACE_KAFKA": "a:1"}
    assert KafkaSettings.from_env(env | {f"HEADRACE_{name}": "" for name in names}) == KafkaSettings.from_env(env)


def test_credentials_reach_the_client_and_never_a_log():
    """SASL and TLS become kafka-python's arguments; the password is not in the settings' repr."""
    settings = KafkaSettings.from_env(
        {
            "HEADRACE_KAFKA": "broker:9093",
            "HEADRACE_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "HEADRACE_KAFKA_SASL_MECHANISM": "SCRAM-SHA-256",
            "HEADRACE_KAFKA_USERNAME": "shop",
            "HEADRACE_KAFKA_PASSWORD": "hunter2",
            "HEADRACE_KAFKA_CA_FILE": "/ca.pem",
        }
    )
    assert settings.client_options() == {
        "bootstrap_servers": ["broker:9093"],
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-256",
        "sasl_plain_username": "shop",
        "sasl_plain_password": "hunter2",
        "ssl_cafile": "/ca.pem",
    }
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize(
    ("env", "named"),
    [
        ({"HEADRACE_KAFKA": "nowhere"}, "host:port"),
        ({"HEADRACE_KAFKA": "a:99999"}, "host:port"),
        ({"HEADRACE_KAFKA": ","}, "empty"),
        ({"HEADRACE_KAFKA": "a:1", "HEADRACE_KAFKA_SECURITY_PROTOCOL": "TLS"}, "SECURITY_PROTOCOL"),
        ({"HEADRACE_KAFKA": "a:1", "HEADRACE_KAFKA_GROUPS": "no"}, "HEADRACE_KAFKA_GROUPS"),
        ({"HEADRACE_KAFKA": "a:1", "HEADRACE_KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}, "SASL_MECHANISM"),
    ],
)
def test_a_wrong_setting_is_named(env, named):
    with pytest.raises(ConfigurationError, match=named):
        KafkaSettings.from_env(env)


def test_a_running_stack_is_found(tmp_path):
    content = {"kafka": "127.0.0.1:4", "redis": "redis://x", "ledger": "sqlite://", "pid": os.getpid()}
    (tmp_path / "run.json").write_text(json.dumps(content))
    assert KafkaSettings.from_env({"HEADRACE_HOME": str(tmp_path)}).address == "127.0.0.1:4"


@pytest.mark.parametrize(
    ("env", "model"),
    [({}, "echo"), ({"HEADRACE_MODEL": "m"}, "m"), ({"HEADRACE_KAFKA": "other:9092"}, ProducerSettings().model)],
)
def test_jobs_for_a_running_stack_have_its_first_model_as_their_default(tmp_path, env, model):
    content = {"kafka": "127.0.0.1:4", "redis": "", "ledger": "", "pid": os.getpid(), "model": "echo"}
    (tmp_path / "run.json").write_text(json.dumps(content))
    assert ProducerSettings.from_env({"HEADRACE_HOME": str(tmp_path), **env}).model == model


@pytest.mark.parametrize(
    ("told", "address", "groups"),
    [(None, "127.0.0.1:4", False), (None, "other:9092", True), ("on", "127.0.0.1:4", True), ("off", "other:1", False)],
)
def test_whether_groups_are_used_is_told_by_the_stack_or_by_hand(tmp_path, told, address, groups):
    content = {"kafka": "127.0.0.1:4", "redis": "redis://x", "ledger": "sqlite://", "pid": os.getpid(), "groups": "off"}
    (tmp_path / "run.json").write_text(json.dumps(content))
    env = {"HEADRACE_HOME": str(tmp_path), "HEADRACE_KAFKA": address, "HEADRACE_KAFKA_GROUPS": told or ""}
    assert KafkaSettings.from_env(env).groups is groups
    if address == "127.0.0.1:4":
        assert KafkaSettings.from_env({**env, "HEADRACE_KAFKA": ""}).groups is groups


@pytest.mark.parametrize("content", [None, "{", json.dumps({"kafka": "a:1", "redis": "", "ledger": "", "pid": 2**22})])
def test_without_a_running_stack_the_ways_are_named(tmp_path, content):
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(ConfigurationError, match=r"set HEADRACE_KAFKA=host:port, or start `headrace up`"):
        KafkaSettings.from_env({"HEADRACE_HOME": str(tmp_path)})


@pytest.mark.parametrize("content", [None, json.dumps({"kafka": "a:1", "redis": "", "ledger": "", "pid": 2**22})])
def test_a_stack_that_is_starting_is_waited_for(tmp_path, content):
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    lock = HomeLock(tmp_path).acquire()
    with pytest.raises(ConfigurationError, match=rf"is starting \(process {os.getpid()}\): try again"):
        KafkaSettings.from_env({"HEADRACE_HOME": str(tmp_path)})
    lock.release()


def test_what_a_producer_fills_in_comes_from_the_environment():
    assert ProducerSettings.from_env({}) == ProducerSettings()
    env = {"HEADRACE_TENANT": "acme", "HEADRACE_SOURCE": "/shop", "HEADRACE_MODEL": "tiny"}
    assert ProducerSettings.from_env(env) == ProducerSettings(tenant="acme", source="/shop", model="tiny")
    embedder = ProducerSettings.from_env({"HEADRACE_EMBEDDER": "sentence-transformers:owner/Some-Model"}).embedder
    assert embedder == "some-model"  # as jobs name it


def test_a_source_is_a_uri_reference():
    """What ingest would refuse is refused when it is set."""
    assert ProducerSettings.from_env({"HEADRACE_SOURCE": "urn:example:shop"}).source == "urn:example:shop"
    with pytest.raises(ConfigurationError, match="HEADRACE_SOURCE is 'my shop', and must be a URI reference"):
        ProducerSettings.from_env({"HEADRACE_SOURCE": "my shop"})
