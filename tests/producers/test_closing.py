import os
import signal
import subprocess
import sys

import pytest
from tests.producers.deliveries import generate, sent_jobs
from tests.services.eventually import eventually

from headrace_producers import KafkaSettings, Producer
from headrace_producers.kafka import KafkaSink
from headrace_schemas import HeadraceError
from headrace_schemas.errors import ConfigurationError


def test_mistakes_in_on_delivery_are_the_callers_own(broker, caplog):
    """It may raise, ask to exit, send, or try to flush: every record is told all the same, and nothing hangs."""
    heard: list[str] = []

    def careless(job_id: str, _error: HeadraceError | None) -> None:
        heard.append(job_id)
        if len(heard) == 1:
            raise SystemExit
        if len(heard) == 2:
            producer.flush()
        if len(heard) == 3:
            producer.generate(prompt="from within")

    producer = Producer(KafkaSink(broker.settings(), on_delivery=careless))
    generate(producer, 3)
    eventually(lambda: len(heard) == 4)
    producer.close()
    told = [record.getMessage() for record in caplog.records if record.name.startswith("headrace")]
    assert [message.rpartition(": ")[2] for message in told] == ["SystemExit", "HeadraceError"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"delivery_timeout": 0},
        {"delivery_timeout": float("nan")},
        {"buffer_bytes": 0},
        {"max_block": -1},
        {"linger_ms": -1},
    ],
)
def test_wrong_settings_are_named(wrong):
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        KafkaSink(KafkaSettings.at("127.0.0.1:1"), **wrong)


_ENDS = {
    "not closed": "",
    "not closed, broker gone": "broker_gone()",
    "collected": "producer.flush(); del producer; import gc; gc.collect()",
    "in a fork": "import os\nif os.fork() == 0: raise SystemExit(0)\nos.wait()",
    "in a fork, with": "import os\nwith producer:\n  if os.fork() == 0: raise SystemExit(0)\n  os.wait()",
    "interrupted": "import os, signal; producer.flush(); os.kill(os.getpid(), signal.SIGINT)",
}


@pytest.mark.parametrize("end", _ENDS)
def test_a_process_ends_without_noise(broker, end):
    program = f"""
import os, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # who runs tests in the background may have it ignored
from headrace_producers import Producer, KafkaSettings
from headrace_producers.kafka import KafkaSink
def broker_gone():
    os.killpg({broker.pid}, signal.SIGKILL)
    producer.generate(prompt="lost")
producer = Producer(KafkaSink(KafkaSettings.at("{broker.address}")))
job_id = producer.generate(prompt="hello")
print(job_id)
{_ENDS[end]}
"""
    environment = {**os.environ, "PYTHONPATH": "producers:schemas"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=240, check=False
    )
    allowed = {"interrupted": "KeyboardInterrupt", "not closed, broker gone": "not confirmed when the process ended"}
    lines = [line for line in done.stderr.splitlines() if not line.startswith(("Traceback", "  File", "    "))]
    assert "Exception ignored" not in done.stderr
    assert all(
        allowed.get(end, "no line") in line or "ECONNREFUSED" in line or "kafka" in line.lower() for line in lines
    ), done.stderr
    assert done.returncode == (0 if end != "interrupted" else -signal.SIGINT)
    if end != "not closed, broker gone":
        assert sent_jobs(broker.settings()) == [done.stdout.split()[0]]
