"""A detector that hangs holds what it looks at, and nothing else."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future

import pytest
from tests.services.eventually import eventually

from headrace_schemas import HeadraceError, ModerationVerdict
from headrace_workers.core.ports import Instructions, Moderation
from headrace_workers.features.moderation.moderator import BoundedModerator

WELL = Moderation("ok", ModerationVerdict(action="allow"))


class Hanging:
    """Comes to no end about texts that say so, until it is let."""

    def __init__(self) -> None:
        self.let = threading.Event()
        self.hangs = threading.Event()
        self.asked: list[tuple[str, ...]] = []
        self.threads: set[int] = set()

    def moderate(
        self,
        texts: Sequence[str],
        tenants: Sequence[str] | None = None,
        instructions: Sequence[Instructions | None] | None = None,
    ) -> list[Moderation | HeadraceError]:
        self.asked.append((*texts, *(tenants or ()), *(each.system for each in instructions or () if each)))
        self.threads.add(threading.get_ident())
        if "hang" in texts:
            self.hangs.set()
            self.let.wait()
        if "raise" in texts:
            raise TimeoutError("no")
        return [WELL for _ in texts]

    def ends(self, answer: "Future[list[Moderation | HeadraceError]]", _seconds: float) -> bool:
        """Wait until there is an answer, or one hangs: the time is up then."""
        eventually(lambda: answer.done() or self.hangs.is_set())
        self.hangs.clear()
        return answer.done()


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    inner = Hanging()
    yield inner
    inner.let.set()


def test_who_does_not_hang_is_asked_once(hanging: Hanging) -> None:
    """In one thread, which is kept; also after an error, which is who asks's."""
    bounded = BoundedModerator(hanging, 60.0)
    assert bounded.moderate(["a", "b"], ["s", "t"]) == [WELL, WELL]
    with pytest.raises(TimeoutError, match="no"):
        bounded.moderate(["raise"])
    assert bounded.moderate(["c"]) == [WELL]
    assert hanging.asked == [("a", "b", "s", "t"), ("raise",), ("c",)]
    assert len(hanging.threads) == 1
    assert threading.get_ident() not in hanging.threads


def test_what_hangs_is_held_alone(hanging: Hanging, caplog: pytest.LogCaptureFixture) -> None:
    """The others of its group are decided, each for its tenant, and by what its model was told."""
    verdicts = BoundedModerator(hanging, 0.02, hanging.ends).moderate(
        ["a", "hang", "b"], ["s", "t", "u"], [None, Instructions("v"), Instructions("w")]
    )
    assert [verdicts[0], verdicts[2]] == [WELL, WELL]
    assert str(verdicts[1]) == "moderation came to no end within 0.02 s (HEADRACE_DETECTOR_TIME); it is held"
    assert hanging.asked[1:] == [("a", "s"), ("hang", "t", "v"), ("b", "u", "w")]
    assert {record.action for record in caplog.records} == {"detector_hangs"}


def test_no_more_threads_hang_than_a_few_and_it_recovers(hanging: Hanging) -> None:
    """Then all is held unasked, until one comes back."""
    bounded = BoundedModerator(hanging, 0.02, hanging.ends)
    for _ in range(5):
        bounded.moderate(["hang"])
    assert len(hanging.asked) == 4
    assert isinstance(bounded.moderate(["a"])[0], HeadraceError)
    hanging.let.set()
    eventually(lambda: bounded.moderate(["a"]) == [WELL])
    assert bounded.moderate(["a", "hang"]) == [WELL, WELL]
    assert len(hanging.threads) == 4
