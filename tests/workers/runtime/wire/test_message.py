import base64
import json

from tests.workers.serving import NAMES

from headrace_workers.core.ledger.claims import Claim
from headrace_workers.core.redis import PRIORITIES
from headrace_workers.runtime.wire.celery_app import create_app, queue_of
from headrace_workers.runtime.wire.taskqueue import TASK

_UNIQUE = {"id", "root_id", "correlation_id", "delivery_tag"}


def read(raw):
    """A message, its body decoded, and what is never twice the same left out of what is compared."""
    told = json.loads(raw)
    told["body"] = json.loads(base64.b64decode(told["body"]))
    for part in ("headers", "properties"):
        for name in _UNIQUE & told[part].keys():
            assert told[part][name]
            told[part][name] = ...
    return told


def test_it_says_what_celery_itself_would_say(tasks, redis_server):
    app = create_app(redis_server.url)
    for line, priority, lane in (("interactive", PRIORITIES["interactive"], 0), ("batch", PRIORITIES["batch"], 1)):
        tasks.send(Claim(7, "judge", "judge", lane, 1))
        queue = queue_of(NAMES, "judge")
        app.send_task(TASK, (7, tasks._ledger), queue=queue, priority=priority, ignore_result=True)
        theirs, ours = (read(raw) for raw in tasks._redis.lrange(NAMES.line("judge", line), 0, -1))
        for part in ("headers", "properties"):
            theirs[part] = {name: value for name, value in theirs[part].items() if name in ours[part]}
        assert ours == theirs


def test_no_two_have_the_same_name(tasks):
    """Celery tells messages apart by it."""
    for _ in range(2):
        tasks.send(Claim(7, "judge", "judge", 0, 1))
    one, other = (json.loads(raw) for raw in tasks._redis.lrange(NAMES.line("judge", "interactive"), 0, -1))
    assert one["headers"]["id"] != other["headers"]["id"]
    assert one["properties"]["delivery_tag"] != other["properties"]["delivery_tag"]
