"""Records to Kafka from the event loop: what goes together, and what keeps nobody back."""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.workers.http.served import PATIENT

from headrace_producers.errors import BufferFull, RecordRefused
from headrace_producers.sink import Record
from headrace_schemas import Topic
from headrace_schemas.errors import Unavailable
from headrace_workers.http import sink as room
from headrace_workers.http.errors import KafkaOutage
from headrace_workers.http.sink import Sink, Topics
from headrace_workers.http.timeouts import Patience


class Broker:
    """A client that takes records, and confirms them when a test says so."""

    def __init__(self):
        self.told, self.taken = None, []
        self.missing = {}
        self.at_look = lambda: None
        self.silent = None  # what is raised by whatever is asked, while it is

    def look(self):
        """Which topics are missing."""
        self.at_look()
        if self.silent:
            raise self.silent
        return self.missing

    def connect(self, told):
        """What the sink is given."""
        self.told = told
        return self

    def send(self, record):
        """Take one."""
        self.taken.append(record.job_id)
        if self.silent:
            raise self.silent

    def close(self, timeout):
        """Nothing is left to do."""

    def confirm(self, *job_ids, error=None):
        """The broker has these, or refuses them."""
        for job_id in job_ids:
            self.told(job_id, error)


def record(job_id):
    """A record of a job."""
    return Record(Topic.GENERATION, job_id.encode(), [], b"{}", job_id)


def sending(work: Callable[[Sink, Broker], Awaitable[object]], patience: Patience = PATIENT) -> object:
    """Run `work(sink, broker)` with a sink that is connected."""

    async def run():
        broker, executor = Broker(), ThreadPoolExecutor()
        sink = Sink(broker.connect, Topics(broker.look, executor, patience.topics), executor, patience)
        await sink.start()
        while sink.trouble is not None:
            await asyncio.sleep(0.001)
        try:
            return await work(sink, broker)
        finally:
            await sink.stop()

    return asyncio.run(run())


async def until(condition):
    """Wait for what comes about in another task."""
    while not condition():
        await asyncio.sleep(0.001)


def test_what_comes_meanwhile_goes_together(monkeypatch):
    """Behind what is on its way: in one hand-over, in the order in which it came."""
    monkeypatch.setattr(room, "_GATHER_SECONDS", 60.0)

    async def work(sink, broker):
        first = asyncio.create_task(sink.publish([record("a")]))
        await until(lambda: broker.taken == ["a"])
        later = [asyncio.create_task(sink.publish([record(name)])) for name in "bcd"]
        await asyncio.sleep(0.02)
        before = list(broker.taken)
        broker.confirm("a")
        await first
        await until(lambda: len(broker.taken) == 4)
        broker.confirm("d", "c", "b")
        await asyncio.gather(*later)
        return before, broker.taken

    assert sending(work) == (["a"], ["a", "b", "c", "d"])


def test_one_that_is_slow_keeps_nobody_back():
    """A partition without a leader, say: the others are confirmed all the same."""

    async def work(sink, broker):
        slow = asyncio.create_task(sink.publish([record("slow")]))
        await until(lambda: broker.taken == ["slow"])
        other = asyncio.create_task(sink.publish([record("other")]))
        await until(lambda: "other" in broker.taken)
        broker.confirm("other")
        await other
        assert not slow.done()
        broker.confirm("slow")
        await slow

    sending(work)


def test_what_is_not_confirmed_is_told_and_may_still_arrive():
    """Where nothing is ever heard of it."""

    async def work(sink, _broker):
        with pytest.raises(KafkaOutage, match="not confirmed within") as told:
            await sink.publish([record("a")])
        return told.value.should_retry

    assert sending(work, Patience(confirmed=0.0)) is False


def test_a_topic_that_went_missing_is_told_before_its_time_is_up(monkeypatch):
    """And so are others, which are not sent then."""
    monkeypatch.setattr(room, "_DOUBT_SECONDS", 0.0)

    async def work(sink, broker):
        broker.missing = {Topic.GENERATION: "jobs.generation"}
        with pytest.raises(KafkaOutage, match=r"jobs.generation is not there: run `headrace init`") as told:
            await sink.publish([record("a")])
        with pytest.raises(KafkaOutage) as later:
            await sink.publish([record("b")])
        return told.value.should_retry, later.value.should_retry, broker.taken

    assert sending(work) == (False, None, ["a"])


def test_what_fails_is_its_request_s_alone():
    """Each of many is told of its own; a request of which a part may have arrived is not to be sent again."""

    async def work(sink, broker):
        requests = [[record("a")], [record("b")], [record("c"), record("d")]]
        tasks = [asyncio.create_task(sink.publish(each)) for each in requests]
        await until(lambda: len(broker.taken) == 4)
        broker.confirm("a", "d")
        broker.confirm("b", error=Unavailable("it is away"))
        broker.confirm("c", error=RecordRefused("it is no good"))
        return [type(each) for each in await asyncio.gather(*tasks, return_exceptions=True)]

    assert sending(work) == [type(None), KafkaOutage, KafkaOutage]


def test_one_who_gives_up_leaves_the_others_as_they_are():
    """And what is told of his record later is told to nobody."""

    async def work(sink, broker):
        one, two = (asyncio.create_task(sink.publish([record(name)])) for name in "ab")
        await until(lambda: len(broker.taken) == 2)
        one.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await one
        broker.confirm("a", "b")
        await two

    sending(work)


def test_a_kafka_that_is_silent_is_asked_by_nobody_else():
    """The first who met it tells the others, and whoever asks whether jobs are let in; when it answers, they are."""

    async def work(sink, broker):
        broker.silent = Unavailable("no Kafka broker answers at kafka-7.internal:9092")
        with pytest.raises(KafkaOutage):
            await sink.publish([record("a")])
        with pytest.raises(KafkaOutage) as told:
            await sink.publish([record("b")])
        assert broker.taken == ["a"]
        assert "no Kafka broker answers" in sink.trouble
        assert "kafka-7" not in sink.trouble + str(told.value)
        broker.silent = None
        await until(lambda: sink.trouble is None)
        later = asyncio.create_task(sink.publish([record("c")]))
        await until(lambda: "c" in broker.taken)
        broker.confirm("c")
        await later

    sending(work)


def test_a_buffer_that_is_full_is_no_silent_kafka():
    """Others are taken as soon as there is room."""

    async def work(sink, broker):
        broker.silent = BufferFull("full")
        with pytest.raises(KafkaOutage):
            await sink.publish([record("a")])
        return sink.trouble

    assert sending(work) is None


def test_a_look_that_fails_while_records_are_confirmed_says_nothing():
    """Kafka answers: it was the gateway that had no time to look."""

    async def work(sink, broker):
        looks, go_on = threading.Event(), threading.Event()

        def late():
            looks.set()
            go_on.wait(60)
            raise Unavailable("not in time")

        broker.at_look = late
        sending = asyncio.create_task(sink.publish([record("a")]))
        await until(lambda: broker.taken == ["a"])
        looking = asyncio.create_task(sink._topics.look())
        await until(looks.is_set)
        broker.confirm("a")
        await sending
        go_on.set()
        await looking
        return sink.trouble

    assert sending(work) is None
