"""What an engine keeps for its next batch is handed back when its process rests."""

import threading
import time

from tests.services.eventually import eventually

from headrace_schemas import Message, Sampling
from headrace_workers.core.ports import Request
from headrace_workers.features.generation.engines import ctranslate2_generator
from headrace_workers.features.generation.engines.slots import IdleMemory


def test_a_process_that_rests_is_told_once_for_each_time():
    """Again when it has worked since."""
    told = []
    resting = IdleMemory(lambda: told.append(len(told)), seconds=0.01)
    for times in (1, 2):
        with resting.busy(), resting.busy():
            pass
        eventually(lambda times=times: len(told) == times)
        time.sleep(0.1)
        assert len(told) == times


def test_a_process_that_works_does_not_rest():
    """However long one run takes, and whatever ends beside it."""
    told = threading.Event()
    resting = IdleMemory(told.set, seconds=0.01)
    with resting.busy():
        for _ in range(5):
            with resting.busy():
                time.sleep(0.02)
        assert not told.is_set()
    assert told.wait(120)


def test_who_works_again_before_the_time_is_over_has_not_rested():
    """The time begins anew."""
    told = threading.Event()
    resting = IdleMemory(told.set, seconds=3_600)
    for _ in range(3):
        with resting.busy():
            pass
    assert not told.is_set()


def test_an_engine_that_has_answered_rests(tiny_home, monkeypatch):
    """And hands back what it kept."""
    told = threading.Event()
    monkeypatch.setattr(ctranslate2_generator, "IDLE_MEMORY", IdleMemory(told.set, seconds=0.01))
    engine = ctranslate2_generator.CTranslate2Generator.load(tiny_home / "models" / "tiny")
    assert not told.is_set()
    engine.generate([Request((Message(role="user", content="a river"),), Sampling(max_tokens=2), "default")])
    assert told.wait(120)
