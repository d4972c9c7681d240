"""The composition root: everything is built here, once a process, from the settings."""

import os
import socket
import threading
import uuid

import redis

from headrace_workers.bridge.bridge import Bridge, Duty
from headrace_workers.bridge.dispatch import Dispatch
from headrace_workers.bridge.ingest import Ingest
from headrace_workers.bridge.reap import Reap
from headrace_workers.bridge.relay import Relay
from headrace_workers.celery_app import create_app
from headrace_workers.clock import SystemClock
from headrace_workers.hand_over import HandOver
from headrace_workers.ledger.ledger import Ledger
from headrace_workers.models.registry import Registry
from headrace_workers.ports import Generator, Moderator
from headrace_workers.renew import Renewer
from headrace_workers.roles import Role, steps_of
from headrace_workers.run import Runner
from headrace_workers.settings import Settings
from headrace_workers.taskqueue import TaskQueue
from headrace_workers.wake import Bell, Ears, Hint


def process_name(kind: str) -> str:
    """A name for this process that no other has had: it holds claims and duties under it."""
    return f"{kind}@{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


def redis_client(settings: Settings) -> redis.Redis:
    """A client that gives up soon: Redis carries hints and claims, and the ledger has both."""
    return redis.Redis.from_url(settings.redis, socket_connect_timeout=2, socket_timeout=5)


def build_bridge(settings: Settings, duties: frozenset[Duty]) -> Bridge:
    """A bridge with these duties."""
    name = process_name("bridge")
    ledger, clock, client = Ledger.at(settings.ledger), SystemClock(), redis_client(settings)
    models = Registry(settings.home)
    work, events = threading.Event(), threading.Event()
    ears = Ears(redis_client(settings), {Hint.WORK: work, Hint.EVENTS: events})
    return Bridge(
        name=name,
        duties=duties,
        ledger=ledger,
        ears=ears,
        work=work,
        events=events,
        ingest=Ingest(
            kafka=settings.kafka,
            ledger=ledger,
            models=models,
            judge_model=settings.judge_model,
            max_active=settings.max_active,
            clock=clock,
        ),
        dispatch=Dispatch(
            ledger=ledger,
            tasks=TaskQueue(create_app(settings.redis), client),
            aliases=models.aliases,
            bridge=name,
            lease_ms=settings.lease_ms,
            group_size=settings.group_size,
            depth=settings.queue_depth,
            linger_ms=int(settings.linger * 1000),
        ),
        relay=Relay(kafka=settings.kafka, ledger=ledger, bridge=name, clock=clock),
        reap=Reap(
            ledger=ledger,
            clock=clock,
            lease_ms=settings.lease_ms,
            max_crashes=settings.max_crashes,
            retention=settings.retention,
        ),
        bell=Bell(client),
    )


def build_runner(settings: Settings, roles: frozenset[Role], model: str | None) -> tuple[Runner, int]:
    """A worker's hands, and how many claims they can do side by side.

    Call it after any fork, since models and connections do not survive one.
    """
    parallel = 1

    def generator(alias: str) -> Generator:
        from headrace_workers.engines.load import load_generator

        nonlocal parallel
        loaded = load_generator(
            settings.home,
            alias,
            device=settings.device,
            compute_type=settings.compute_type,
            inter_threads=settings.inter_threads,
        )
        parallel = loaded.parallel
        return loaded

    def moderator() -> Moderator:
        from headrace_workers.moderation.moderator import build_moderator

        moderator = build_moderator(settings.policy)
        moderator.warm_up()  # a detector that cannot load is an error now, and the first job does not wait for it
        return moderator

    steps = steps_of(roles, model, generator=generator, moderator=moderator)
    ledger = Ledger.at(settings.ledger)
    renewer = Renewer(ledger, settings.lease_ms)
    renewer.start()
    client, worker = redis_client(settings), process_name("+".join(sorted(roles)))
    runner = Runner(
        ledger=ledger,
        steps=steps,
        settings=settings,
        renewer=renewer,
        bell=Bell(client),
        hand_over=HandOver(
            ledger=ledger,
            tasks=TaskQueue(create_app(settings.redis), client),
            sender=worker,
            does=steps,
            depth=settings.queue_depth,
            lease_ms=settings.lease_ms,
        ),
        clock=SystemClock(),
        worker=worker,
    )
    return runner, parallel
