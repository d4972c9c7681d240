import threading

from tests.workers.core.ledger.conftest import ledger  # noqa: F401 - a fixture
from tests.workers.features.cache.semantic.test_likeness import ASKED, ask, semantic  # noqa: F401 - a fixture
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture

from headrace_workers.features.cache.semantic.questions import Known


def test_changes_are_followed_while_what_is_due_is_rebuilt(semantic, asks, monkeypatch):  # noqa: F811 - the fixture
    """A rebuild takes seconds; a second one is not begun beside it, and none where nothing is due."""
    begun, go_on, rebuilt = threading.Semaphore(0), threading.Event(), []

    def slow(known):
        begun.release()
        assert go_on.wait(60)
        rebuilt.append(len(known))

    monkeypatch.setattr(Known, "compact", slow)
    memory = semantic.follower._memory
    memory.tidy()
    ask(semantic, asks, ASKED)
    memory.tidy()
    assert not begun.acquire(blocking=False)
    monkeypatch.setattr("headrace_workers.models.vectors.vector_index.needs_rebuild", lambda *_: True)
    memory.tidy()
    assert begun.acquire(timeout=60)
    ask(semantic, asks, "How do I bake bread in my oven?")
    memory.tidy()
    assert len(semantic.known) == 2
    assert not begun.acquire(blocking=False)
    go_on.set()
    memory._rebuilding.join()
    assert rebuilt == [2]
