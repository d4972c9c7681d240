from pathlib import Path

import pytest
from tests.mutation.sql import changes
from tests.mutation.statements import modules, nearest
from tests.slow import slow_after_first

_PACKAGE = Path(__file__).parents[2] / "workers/headrace_workers"

MODULE = """
_MOST, _LIVE = 500, "x"
_STATES = ("ready", "waiting")
SAME = select(JOBS.c.id).where(JOBS.c.id == bindparam("job"), ~gone).order_by(JOBS.c.at.desc())

@lru_cache
def late(connection, limit):
    due = update(STEPS).where(STEPS.c.deadline < now_ms()).values({"state": "dead", "turn": STEPS.c.turn + 1})
    if limit < 3:
        return due.where(and_(IS_READY, STEPS.c.claim_id.is_(None)), text("a IS NOT NULL"))
    return due.limit(limit).with_for_update(skip_locked=True)
"""
EXPECTED = [
    "_MOST, _LIVE = 1001, ",
    '_STATES = ("waiting")',
    '_STATES = ("ready")',
    ".where(~gone).order_by",
    ".where(JOBS.c.id == bindparam(\"job\")).order_by",
    "JOBS.c.id != bindparam",
    "), gone).order_by",
    "select(JOBS.c.id).order_by",
    ".order_by(JOBS.c.at)",
    ", ~gone)\n",
    "update(STEPS).values",
    "deadline > now_ms()",
    '.values({"turn": STEPS.c.turn + 1})',
    '.values({"state": "dead"})',
    "STEPS.c.turn - 1",
    'return due\n',
    'due.where(text("a IS NOT NULL"))',
    "due.where(and_(IS_READY, STEPS.c.claim_id.is_(None)))",
    "and_(STEPS.c.claim_id.is_(None))",
    "and_(IS_READY)",
    "claim_id.is_not(None)",
    "a IS NULL",
    "return due.with_for_update(skip_locked=True)",
    "return due.limit(limit)\n",
    "with_for_update()",
]  # fmt: skip


def test_each_mutant_is_one_small_change(tmp_path: Path):
    """What is expected, once each, and nothing else: `limit < 3` is mutmut's."""
    path = tmp_path / "module.py"
    path.write_text(MODULE, encoding="utf-8")
    found = [change.source() for change in changes(path)]
    assert [expected for expected in EXPECTED if sum(expected in source for source in found) != 1] == []
    assert len(found) == len(EXPECTED)
    assert all(len(change.difference().splitlines()) >= 4 for change in changes(path))


@pytest.mark.integration
@pytest.mark.parametrize("path", slow_after_first(modules(_PACKAGE)), ids=str)
def test_every_mutant_of_the_ledger_is_a_module(path: Path):
    """One that could not be compiled would count as noticed."""
    for change in changes(_PACKAGE / path):
        compile(change.source(), path.name, "exec")


def test_the_tests_of_a_module_come_first(tmp_path: Path):
    for name, words in (
        ("test_claims.py", ""), ("test_a.py", "from headrace_workers.core.ledger.claims import Claim"),
        ("test_b.py", "from headrace_workers.core.ledger import cancellation, claims"),
        ("test_c.py", "from headrace_workers.core.ledger.claims_of import Claim"),
        ("claims.py", "from headrace_workers.core.ledger import claims"),
    ):  # fmt: skip
        (tmp_path / name).write_text(words, encoding="utf-8")
    assert nearest(tmp_path, Path("core/ledger/claims.py")) == ["test_a.py", "test_b.py", "test_claims.py"]
