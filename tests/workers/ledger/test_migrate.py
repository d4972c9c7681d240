"""Bringing tables up to date."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import select, text

from headrace_schemas.errors import ConfigurationError
from headrace_workers.cli.dead_views import letter_dict
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.replay import DeadFilter
from headrace_workers.core.migrate import _config, current, migrate, newest, require_current
from headrace_workers.core.sql.database import connect, reading, writing
from headrace_workers.core.tables import DEAD_LETTERS, METADATA, NEVER, STEPS, TURNS


def test_migrations_make_the_tables_that_the_code_has(ledger):
    """Nothing was added to the tables without a migration."""
    with reading(ledger.engine) as tx:
        assert compare_metadata(MigrationContext.configure(tx), METADATA) == []


def test_the_newest_revision_is_the_last_of_the_chain(empty_url):
    """Nobody asks Alembic for it: commands that migrate nothing need not wait for its import."""
    engine = connect(empty_url)
    assert current(engine) is None
    migrate(engine)
    assert current(engine) == newest() == ScriptDirectory.from_config(_config()).get_current_head()


def test_an_empty_ledger_is_refused_with_the_remedy(empty_url):
    """A bridge says what to run, instead of failing at the first query."""
    with pytest.raises(ConfigurationError, match="headrace ledger migrate"):
        require_current(connect(empty_url))


def test_two_migrations_at_once_both_succeed(empty_url):
    """Several processes may start at once on an empty database."""
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda _: migrate(connect(empty_url)), range(2))) == [newest()] * 2


def test_a_ledger_with_letters_of_before_is_brought_up_to_date(empty_url):
    """A refusal becomes what it is: it refers to a job, and ends none; the letters of jobs stay theirs."""
    engine = connect(empty_url)
    migrate(engine, "0001")
    row = {
        "tenant": "a", "category": "invalid", "reason": "r", "attempts": 0, "topic": "jobs.generation", "headers": "{}",
        "value": b"{}", "truncated": False, "died_at": 1,
    }  # fmt: skip
    rows = [row | {"id": str(n), "job_id": f"j{n}", "stage": stage} for n, stage in enumerate(("ingest", "generate"))]
    names = ", ".join(rows[0])
    with writing(engine) as tx:
        tx.execute(text(f"INSERT INTO dead_letters ({names}) VALUES (:{', :'.join(rows[0])})"), rows)
    migrate(engine)
    with reading(engine) as tx:
        found = tx.execute(select(DEAD_LETTERS.c.job_id, DEAD_LETTERS.c.refers_to).order_by(DEAD_LETTERS.c.id)).all()
    assert [tuple(each) for each in found] == [(None, "j0"), ("j1", None)]
    (letter,) = Ledger(engine).dead(DeadFilter(id="j0"))
    assert letter_dict(letter)["size"] == 2


def test_what_waits_keeps_its_place_when_turns_are_told_apart(empty_url):
    """Each queue has a clock that begins at the first that waits there, each tenant and batch goes on behind its last;
    a line of a batch, and a unit, is no more urgent for the time at which it expires.
    """
    engine = connect(empty_url)
    migrate(engine, "0032")
    steps = [
        {"id": f"j{n}", "queue": queue, "tenant": tenant, "batch": batch, "subject": subject, "state": state,
         "deadline": deadline, "turn": turn}
        for n, (queue, tenant, batch, subject, state, deadline, turn) in enumerate((
            ("q", "a", None, None, "ready", 50, 300), ("q", "a", None, None, "ready", NEVER, 400),
            ("q", "a", 7, None, "ready", 60, 500), ("q", "b", None, None, "waiting", NEVER, 450),
            ("r", "b", None, "j0", "ready", 70, 900), ("r", "b", None, None, "done", NEVER, 100),
        ))
    ]  # fmt: skip
    with writing(engine) as tx:
        tx.execute(text("INSERT INTO turns (tenant, turn) VALUES ('', 350), ('a', 500), ('b', 900)"))
        tx.execute(
            text(
                "INSERT INTO jobs (id, tenant, kind, state, payload, accepted_at, batch, subject) "
                "VALUES (:id, :tenant, 'generation', 'active', '', 1, :batch, :subject)"
            ),
            steps,
        )
        tx.execute(
            text(
                "INSERT INTO steps (job_id, stage, state, queue, group_key, lane, rank, deadline, turn, tokens, "
                "ready_at, event_type) VALUES (:id, 's', :state, :queue, 'g', 1, 4, :deadline, :turn, 1, 1, 'e')"
            ),
            steps,
        )
    migrate(engine)
    with reading(engine) as tx:
        due = [row.due for row in tx.execute(select(STEPS.c.due).order_by(STEPS.c.job_id))]
        turns = {
            tuple(row[:5]): row.turn
            for row in tx.execute(select(TURNS.c["queue", "lane", "urgency", "tenant", "flow", "turn"]))
        }
    assert due == [50, NEVER, NEVER, NEVER, NEVER, NEVER]
    assert turns == {
        ("q", 1, 8, "", 0): 300, ("q", 1, 8, "a", 0): 300,
        ("q", 1, 9, "", 0): 400, ("q", 1, 9, "a", 0): 400, ("q", 1, 9, "a", 7): 500, ("q", 1, 9, "b", 0): 450,
        ("r", 1, 9, "", 0): 900, ("r", 1, 9, "b", 0): 900,
    }  # fmt: skip
