"""A real worker process, one of whose jobs hangs: it ends itself, the job dies alone, and all others are answered."""

from contextlib import ExitStack

import pytest
from sqlalchemy import select
from tests.services.eventually import eventually
from tests.workers.ledger_jobs import claim_one, dispatch, take_in
from tests.workers.runtime.bridge.records import evaluation, generation
from tests.workers.serving import is_done, started
from tests.workers.worker_process import worker

from headrace_schemas import Sampling
from headrace_workers.core.ledger.replay import DeadFilter
from headrace_workers.core.progress import STUCK_EXIT
from headrace_workers.core.tables import CLAIMS, STEPS

HANGING = ("-m", "tests.workers.hanging_program")
SHORT = {"HEADRACE_LONGEST_RUN": "1", "HEADRACE_LEASE": "2"}


class Restarted:
    """A worker that is started again when it has ended: what a supervisor does."""

    def __init__(self, *arguments, **known):
        self._arguments, self._known = arguments, known
        self._stack = ExitStack()
        self.codes, self.log = [], ""

    def __enter__(self):
        self._begin()
        return self

    def __exit__(self, *_):
        self._stack.close()

    def look(self):
        if not self._worker.running:
            self.codes.append(self._worker.wait(120))
            self.log += self._worker.log
            self._stack.close()
            self._begin()

    def _begin(self):
        self._worker = self._stack.enter_context(worker(*self._arguments, program=HANGING, **self._known))


@pytest.mark.parametrize(
    ("role", "concurrency", "jobs"),
    [
        ("generate", None, (generation(), generation(prompt="%%sleep:1000000%%"))),
        ("judge", None, (evaluation(), evaluation(output="hang"))),
        ("judge", 2, (evaluation(), evaluation(output="hang"))),
    ],
    ids=["threads", "solo", "prefork"],
)
def test_a_job_that_hangs_is_poison_and_its_neighbour_is_answered(
    role, concurrency, jobs, ledger, tasks, redis_server, tmp_path
):
    good, bad = take_in(ledger, jobs)
    sender = dispatch(ledger, tasks, group_size=2, lease_ms=2_000)
    with Restarted(tmp_path, redis_server, role, concurrency=concurrency, **SHORT) as process:

        def ended():
            process.look()
            ledger.reap(1)
            sender.once()
            return ledger.dead(DeadFilter())

        ((letter,),) = [eventually(ended)]
        assert (letter.job_id, letter.category) == (bad, "poison")
        eventually(lambda: process.look() or sender.once() or is_done(ledger, good)())
        # A forked process is replaced by the one that forked it; else it is the whole process that ends.
        assert set(process.codes) == (set() if concurrency else {STUCK_EXIT})
        log = process.log + process._worker.log
        assert f"the stage {'judge' if role == 'judge' else 'generate'} hangs" in log


def test_what_else_is_in_hand_is_given_back(ledger, tasks, redis_server, tmp_path):
    (bad,) = take_in(ledger, [generation(prompt="%%sleep:1000000%%")])
    hangs = claim_one(ledger)
    (good,) = take_in(ledger, [generation(prompt="%%sleep:600%%", sampling=Sampling(max_tokens=32_768))])
    moves = claim_one(ledger)
    with worker(tmp_path, redis_server, "generate", program=HANGING, **(SHORT | {"HEADRACE_LEASE": "3"})) as process:
        tasks.send(moves)
        eventually(lambda: started(ledger))
        tasks.send(hangs)
        assert process.wait(120) == STUCK_EXIT
    steps = ledger.read(select(STEPS.c.job_id, STEPS.c.state, STEPS.c.attempts, STEPS.c.crashes))
    assert {tuple(row) for row in steps} == {(bad, "leased", 1, 0), (good, "ready", 0, 0)}
    assert [row.id for row in ledger.read(select(CLAIMS.c.id))] == [hangs.id]
