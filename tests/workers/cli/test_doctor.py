"""Whether a deployment is as it should be, on real services; and how it is prepared."""

import json
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from sqlalchemy import text
from tests.services.eventually import eventually
from tests.services.kafka import KafkaServer
from tests.services.redis import RedisServer
from tests.workers.cli.conftest import Call

from headrace_producers.admin import ensure_topics, too_small, topic_limits, wanted_limit
from headrace_producers.settings import KafkaSettings
from headrace_schemas import Topic
from headrace_workers.cli import doctor_checks
from headrace_workers.core.feature import Check
from headrace_workers.core.ledger.ledger import Fact, Ledger
from headrace_workers.core.migrations import known_version
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import PROCESS_STARTS
from headrace_workers.features.generation.commands import model_checks
from headrace_workers.models.registry import read_card, write_card
from headrace_workers.runtime.settings import Settings
from headrace_workers.testing import make_tiny_model


@pytest.fixture
def env(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def name(kafka: KafkaSettings, redis: str) -> None:
        monkeypatch.setenv("HEADRACE_KAFKA", kafka.address)
        monkeypatch.setenv("HEADRACE_KAFKA_GROUPS", "on" if kafka.groups else "off")
        monkeypatch.setenv("HEADRACE_TOPIC_PREFIX", kafka.prefix)
        monkeypatch.setenv("HEADRACE_REDIS", redis)
        monkeypatch.setenv("HEADRACE_LEDGER", f"sqlite:///{tmp_path}/ledger.db")

    return name


def wrong(call: Call) -> dict[str, str | None]:
    code, out, _ = call("doctor", "--json")
    found = [json.loads(line) for line in out.splitlines()]
    assert code == (1 if any(not finding["ok"] for finding in found) else 0)
    return {finding["what"]: finding["wrong"] for finding in found}


def limit(kafka: KafkaSettings, topic: Topic, size: int) -> None:
    """Set a topic's largest record, and wait until it is known."""
    admin = KafkaAdminClient(**kafka.client_options())
    admin.alter_configs(
        [ConfigResource(ConfigResourceType.TOPIC, kafka.topic(topic), {"max.message.bytes": str(size)})]
    )
    admin.close()
    eventually(lambda: topic_limits(kafka, [topic]) == {topic: size})


def test_what_is_wrong_is_named_with_the_remedy(
    call: Call, env, apache_kafka: KafkaServer, redis_server: RedisServer, fresh_prefix: str
):
    kafka = apache_kafka.settings(fresh_prefix)
    env(kafka, redis_server.url)
    found = wrong(call)
    assert "`headrace init` creates them" in found["topics"]
    assert "headrace ledger migrate" in found["ledger"]
    assert call("init", "--partitions", "1")[0] == 0
    assert set(wrong(call).values()) == {None}
    assert call("doctor")[1].startswith("ok     topics\n")
    limit(kafka, Topic.RESULTS, 1_000_000)
    wanted = f"set its max.message.bytes to {wanted_limit(Topic.RESULTS)}"
    found = wrong(call)
    assert f"the topic {fresh_prefix}results takes 1,000,000 bytes in one record" in found["limits of topics"]
    assert found["limits of topics"].endswith(wanted)
    code, _, err = call("init")
    assert (code, wanted in err) == (0, True)
    code, out, _ = call("init", "--json")
    made = json.loads(out)
    assert (code, made["models"], made["topics"][-1].startswith(fresh_prefix)) == (0, [], True)
    assert [wanted in warning for warning in made["warnings"]] == [True]
    code, out, _ = call("ledger", "migrate", "--json")
    assert (code, json.loads(out)) == (0, {"tables": made["tables"], "version": known_version()})


@pytest.mark.integration
def test_services_that_are_away_are_told_each(call: Call, env):
    env(KafkaSettings.at("127.0.0.1:9"), "redis://127.0.0.1:9/0")
    found = wrong(call)
    assert "127.0.0.1:9" in found["topics"]
    assert "HEADRACE_REDIS" in found["redis"]


def test_no_service_waits_for_another(call: Call, env, monkeypatch: pytest.MonkeyPatch):
    env(KafkaSettings.at("127.0.0.1:9"), "redis://127.0.0.1:9/0")
    names = (
        "topics", "limits of topics", "ledger", "deployment", "redis", "bridges", "models", "models on other machines",
    )  # fmt: skip
    all_began = threading.Barrier(len(names))
    waiting = [Check(check.what, lambda _: [f"{all_began.wait(120) >= 0}"]) for check in doctor_checks.all_checks()]
    monkeypatch.setattr("headrace_workers.cli.doctor.all_checks", lambda: waiting)
    assert list(wrong(call).items()) == [(what, "True") for what in names]


def put_kills(ledger: Ledger, what: str, minutes: float) -> None:
    """Note three kills of a command, so long ago, and the process that runs since."""
    at = ledger.now() - int(minutes * 60_000)
    rows = [{"name": f"{what}-{n}", "killed_at": at} for n in range(3)] + [{"name": what, "killed_at": None}]
    with writing(ledger.engine) as tx:
        tx.execute(PROCESS_STARTS.insert(), [dict(row, what=what, host="h", pid=1, began=1, at=at) for row in rows])


def test_exit_code_1_is_for_faults_of_now_and_each_process_stands_under_its_name(
    call: Call, env, apache_kafka: KafkaServer, redis_server: RedisServer, fresh_prefix: str, tmp_path: Path
):
    env(apache_kafka.settings(fresh_prefix), redis_server.url)
    assert call("init", "--partitions", "1")[0] == 0
    ledger = Ledger.at(f"sqlite:///{tmp_path}/ledger.db")
    put_kills(ledger, "worker --role judge", 5)
    code, out, _ = call("doctor")
    assert (code, "ok     bridges\n" in out, "WRONG" in out) == (0, True, False)
    assert "was    worker --role judge: it was killed 3 times in half an hour, the last time 5 min ago" in out
    put_kills(ledger, "gateway", 0.1)
    ledger.tell("judge@h:1:ab", "claims", {"": "Redis does not answer"})
    found = {line["what"]: line for line in map(json.loads, call("doctor", "--json")[1].splitlines())}
    assert found["bridges"]["ok"]
    assert found["gateway"]["wrong"].startswith("it was killed 3 times in half an hour, and started again")
    assert found["judge"]["wrong"].startswith("claims: Redis does not answer (judge@h:1:ab, since ")
    assert (found["worker --role judge"]["ok"], found["worker --role judge"]["wrong"]) == (True, None)
    assert found["worker --role judge"]["was"].startswith("it was killed")
    assert call("doctor")[0] == 1
    ledger.close()


def test_a_refused_ledger_is_named_and_not_asked_further(
    call: Call, env, apache_kafka: KafkaServer, redis_server: RedisServer, fresh_prefix: str, tmp_path: Path
):
    """A question about tables that another version made fails with words that help nobody."""
    env(apache_kafka.settings(fresh_prefix), redis_server.url)
    assert call("init", "--partitions", "1")[0] == 0
    ledger = Ledger.at(f"sqlite:///{tmp_path}/ledger.db")
    with writing(ledger.engine) as tx:
        tx.execute(text("DROP TABLE review_rules"))
        tx.execute(text("DROP TABLE migrations"))
    ledger.close()
    found = wrong(call)
    assert [what for what, reason in found.items() if reason] == ["ledger"]
    assert "made by an earlier version, before 0.2.0" in found["ledger"]
    assert not {"deployment", "bridges"} & found.keys()


@pytest.mark.integration
def test_nothing_is_imported_side_by_side():
    program = """
import sys
import headrace_workers.wiring
from headrace_workers.cli.doctor_checks import all_checks, examine
from headrace_workers.core.feature import Check
all_checks()
before = set(sys.modules)
twice = 2 * [Check("", lambda settings: [str("sqlalchemy.dialects.postgresql.psycopg" in sys.modules)])]
print([each.wrong for each in examine(twice, None)], {"redis", "kafka.admin"} <= before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['True', 'True'] True"


def test_topics_take_what_may_be_written_to_them(apache_kafka: KafkaServer, fresh_prefix: str):
    kafka = apache_kafka.settings(fresh_prefix)
    ensure_topics(kafka)
    assert topic_limits(kafka) == {topic: wanted_limit(Topic.RESULTS) for topic in Topic}
    assert wanted_limit(Topic.GENERATION) <= 1_048_588


def test_a_broker_that_lets_nobody_set_limits_still_gets_topics(
    apache_kafka: KafkaServer, fresh_prefix: str, monkeypatch: pytest.MonkeyPatch
):
    create = KafkaAdminClient.create_topics

    def forbid(self, topics, **options):
        if any("configs" in topic for topic in topics.values()):
            return {"topics": [{"name": name, "error_code": 44, "error_message": "no"} for name in topics]}
        return create(self, topics, **options)

    monkeypatch.setattr(KafkaAdminClient, "create_topics", forbid)
    kafka = apache_kafka.settings(fresh_prefix)
    assert ensure_topics(kafka, partitions=1) == list(Topic)
    assert topic_limits(kafka)[Topic.RESULTS] == 1_048_588


def test_no_limit_is_wrong_where_topics_were_made_by_us(kafka: KafkaSettings):
    assert too_small(kafka, topic_limits(kafka)) == []
    assert too_small(kafka, {}) == []
    assert len(too_small(kafka, {Topic.DEAD: wanted_limit(Topic.DEAD) - 1})) == 1


@pytest.mark.parametrize("lacking", ["KAFKA", "LEDGER"])
def test_init_names_the_variable_that_is_missing(call: Call, env, monkeypatch: pytest.MonkeyPatch, lacking: str):
    env(KafkaSettings.at("127.0.0.1:9"), "")
    monkeypatch.delenv("HEADRACE_REDIS")
    monkeypatch.delenv(f"HEADRACE_{lacking}")
    code, _, err = call("init")
    assert code == 2
    assert f"HEADRACE_{lacking} is not set" in err
    assert f"set HEADRACE_{lacking}=" in err


def test_a_bridge_names_the_variable_that_is_missing(call: Call, env, monkeypatch: pytest.MonkeyPatch):
    env(KafkaSettings.at("127.0.0.1:9"), "")
    monkeypatch.delenv("HEADRACE_REDIS")
    code, _, err = call("bridge")
    assert (code, "HEADRACE_REDIS is not set" in err) == (2, True)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("alias", "source", "quantization", "command"),
    [
        ("all-minilm-l6-v2", "pypi:w==1/m#sha256=0", "int8", "headrace models pull all-minilm-l6-v2`."),
        (
            "mine",
            "file:m.gguf#sha256=0",
            "int8",
            "headrace models convert m.gguf --alias mine`, with the path of m.gguf",
        ),
        ("mine", "folder:m", "int8_float32", "convert m --alias mine --quantization int8_float32`, with the path of m"),
        ("mine", "hub:owner/name@12/m.gguf#sha256=0", "int8", "headrace models pull owner/name@12/m.gguf`."),
        ("qwen2.5-1.5b-instruct", "hub:o/n@12/m.gguf#sha256=0", "int8", "models pull qwen2.5-1.5b-instruct`."),
        ("mine", "hub:owner/name@12", "int8", "headrace models convert owner/name --alias mine`."),
    ],
)
def test_models_that_this_processor_computes_wrongly_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alias: str, source: str, quantization: str, command: str
):
    """With the command that makes each again; none on a processor that computes them right, and none made since."""
    services = {"HEADRACE_KAFKA": "nowhere:9", "HEADRACE_REDIS": "redis://nowhere", "HEADRACE_LEDGER": "sqlite:///none"}
    settings = Settings.from_env({"HEADRACE_HOME": str(tmp_path), **services})
    make_tiny_model(tmp_path, "float")
    folder = make_tiny_model(tmp_path, alias)
    old = replace(read_card(folder), source=source, quantization=quantization)
    write_card(folder, old)
    monkeypatch.setattr(model_checks, "int8_saturates", lambda: True)
    (said,) = model_checks.overflowing_models(settings)
    assert f"int8 weights of {alias} overflow" in said
    assert command in said
    monkeypatch.setattr(model_checks, "int8_saturates", lambda: False)
    assert model_checks.overflowing_models(settings) == []
    monkeypatch.setattr(model_checks, "int8_saturates", lambda: True)
    write_card(folder, replace(old, weight_range="pairs"))
    assert model_checks.overflowing_models(settings) == []


def test_a_ledger_of_another_deployment_is_named_and_bound_on_purpose(
    call: Call, env, apache_kafka: KafkaServer, redis_server: RedisServer, fresh_prefix: str, tmp_path: Path
):
    kafka = apache_kafka.settings(fresh_prefix)
    env(kafka, redis_server.url)
    assert call("init", "--partitions", "1")[0] == 0
    ledger = Ledger.at(f"sqlite:///{tmp_path}/ledger.db")
    ledger.deployment.restate({Fact.PREFIX: "other.", Fact.CLUSTER: "another"})
    found = wrong(call)["deployment"]
    assert found is not None
    assert "the Kafka cluster 'another'" in found
    code, _, err = call("worker", "--role", "judge")
    assert (code, "belongs to the topics that begin with 'other.'" in " ".join(err.split())) == (2, True)
    code, out, _ = call("ledger", "bind")
    assert (code, f"prefix: {fresh_prefix} (was other.)" in out, "(was another)" in out) == (0, True, True)
    assert set(wrong(call).values()) == {None}
    assert call("ledger", "bind", "--json")[0] == 0
    ledger.close()
