"""The Celery application: JSON only, no results, no retries of its own. The ledger alone decides about those."""

from typing import Any, Final

from celery import Celery
from kombu.entity import Exchange, Queue

from headrace_workers.core.redis import ANSWER_SECONDS, PRIORITIES, RedisNames

# Transport options of a reader that takes nothing of the batch lane.
INTERACTIVE_ONLY: Final = {"priority_steps": [PRIORITIES["interactive"]]}


def create_app(redis_url: str, seconds: float = ANSWER_SECONDS) -> Any:
    """Return a Celery application over this Redis, with nothing registered yet. Redis has so many seconds for an
    answer.
    """
    app = Celery("headrace", broker=redis_url, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        event_serializer="json",
        result_backend=None,
        task_ignore_result=True,
        task_acks_late=False,  # a lost message is sent again when its lease ends
        task_default_exchange="",
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,  # order stays in the ledger
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        worker_enable_remote_control=False,
        worker_soft_shutdown_timeout=20.0,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_enable_prefetch_count_reduction=False,  # nothing is prefetched
        # Redis may come and go: the consumer connects again, see consumer.py, and nothing else is begun anew.
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "priority_steps": sorted(PRIORITIES.values()),
            "queue_order_strategy": "priority",
            # Nothing is acknowledged, so there is nothing to take back, and no key that other users of Redis share.
            "ack_emulation": False,
            # Half-open connections look alive to the kernel. Each read has a bound of ours; BRPOP comes back by itself
            # after a second, and is given up after this interval more.
            "socket_timeout": seconds,
            "socket_connect_timeout": seconds,
            "socket_keepalive": True,
            "health_check_interval": seconds,
        },
    )
    return app


def queue_of(names: RedisNames, queue: str) -> Queue:
    """Return a queue on the default exchange: its binding needs no entry in Redis, so a wiped Redis still routes."""
    name = names.queue(queue)
    # Nothing is acknowledged: the lease is the receipt. A worker whose acknowledgement failed, because Redis had just
    # died, would count that message as in hand for ever, and take no other.
    return Queue(name, Exchange(""), routing_key=name, no_ack=True)
