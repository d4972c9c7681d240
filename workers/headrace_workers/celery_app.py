"""The Celery application: JSON only, no results, no retries of its own. The ledger alone decides about those."""

from typing import Any, Final, Literal

from celery import Celery
from kombu.entity import Exchange, Queue

TASK: Final = "headrace.run"
PREFIX: Final = "headrace."

# Each has a Redis list of its own, by its priority, and workers look at them in this order. `ahead` is batch work that
# was overtaken long enough.
Line = Literal["ahead", "interactive", "batch"]
PRIORITIES: Final[dict[Line, int]] = {"ahead": 0, "interactive": 3, "batch": 9}
# Transport options of a reader that takes nothing of the batch lane.
INTERACTIVE_ONLY: Final = {"priority_steps": [PRIORITIES["interactive"]]}
_SEPARATOR = "\x06\x16"  # kombu's, between a queue's name and its priority


def redis_queue(queue: str) -> str:
    """The name of a queue in Redis."""
    return f"{PREFIX}{queue}"


def redis_key(queue: str, line: Line) -> str:
    """The Redis list that holds one line of a queue."""
    priority = PRIORITIES[line]
    return f"{redis_queue(queue)}{_SEPARATOR}{priority}" if priority else redis_queue(queue)


def create_app(redis_url: str) -> Any:
    """A Celery application over this Redis, with nothing registered yet."""
    app = Celery("headrace", broker=redis_url, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        event_serializer="json",
        result_backend=None,
        task_ignore_result=True,
        task_acks_late=False,  # a lost message is sent again when its lease ends
        task_default_queue=redis_queue("default"),
        task_default_exchange="",
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,  # order stays in the ledger
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        worker_enable_remote_control=False,
        worker_soft_shutdown_timeout=20.0,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        # A worker that loses Redis starts afresh, see worker.py. Celery counts the first loss as one "on startup".
        broker_connection_retry=False,
        broker_connection_retry_on_startup=False,
        broker_transport_options={
            "priority_steps": sorted(PRIORITIES.values()),
            "queue_order_strategy": "priority",
            "socket_keepalive": True,
            "socket_connect_timeout": 5,
            "health_check_interval": 10,
        },
    )
    return app


def queue_of(queue: str) -> Queue:
    """A queue on the default exchange: its binding needs no entry in Redis, so a wiped Redis still routes."""
    name = redis_queue(queue)
    # Nothing is acknowledged: the lease is the receipt. A worker whose acknowledgement failed, because Redis had just
    # died, would count that message as in hand for ever, and take no other.
    return Queue(name, Exchange(""), routing_key=name, no_ack=True)
