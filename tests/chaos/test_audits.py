"""Audits in the real bridge and workers: an answer that is planted wrong is found, and its scope turns itself off."""

from collections import Counter, defaultdict
from itertools import count
from uuid import uuid4

import pytest
from sqlalchemy import func, select, update
from tests.chaos.deployment import ROLES, over
from tests.chaos.listening import start_listening
from tests.services.records import read

from headrace_schemas import Answer, Topic
from headrace_schemas.codec import decode_value
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import DEAD_LETTERS, JOBS, OUTBOX
from headrace_workers.features.cache.store.audits import Audits
from headrace_workers.features.cache.tables import AUDITS, ENTRIES
from headrace_workers.testing import make_hash_embedder

pytestmark = [pytest.mark.chaos, pytest.mark.slow]

NUMBERS = range(3, 9)
SLOW = "%%sleep:0.3%% "  # a fresh answer takes a while, so that its worker can be killed over it


def asked(number, slow=SLOW):
    return f"{slow}How do I reset the password of my account in {number} steps?"


def like(number, slow=SLOW):
    """The same in other words, which the echo model gives back as its answer."""
    return f"{slow}How do I reset my account's password in {number} steps?"


@pytest.fixture
def deployment(service_folder, embedded_kafka, redis_server, postgres):
    made = over(
        embedded_kafka,
        redis_server,
        postgres,
        service_folder,
        "audits",
        roles={**ROLES, "recall": ("worker", "--role", "recall")},
    )
    told = {
        "HEADRACE_EMBEDDER": "hash",
        "HEADRACE_SIMILARITY": "0.7",
        "HEADRACE_AUDIT_SHARE": "1",
        "HEADRACE_SERVE_UNSHOWN": "true",
    }
    made.extra = {"recall": told}
    made.prepare()
    make_hash_embedder(made.folder)
    made.start()
    start_listening(made, "recall")
    yield made
    made.close()


@pytest.fixture
def ledger(deployment):
    found = Ledger.at(deployment.watched)
    yield found
    found.close()


def ask(deployment, ledger, prompts, **fields):
    """Send these, and wait for their ends; the receipts of looking them up."""
    ids = deployment.publish(prompts, uuid4().hex, cache="semantic", **fields)
    found = select(JOBS.c.id, JOBS.c.terminal_type, JOBS.c.terminal).where(JOBS.c.id.in_(ids), JOBS.c.state == "done")
    deployment.wait_until(lambda: len(ledger.read(found)) == len(ids), "these jobs end")
    receipts = {row.id: decode_value(row.terminal_type, row.terminal).answer.recall for row in ledger.read(found)}
    return [receipts[each] for each in ids]


def until_followed(deployment, ledger):
    """Wait until the recall worker knows what there is now: it serves a question that came after all of it."""
    for number in count(100):
        ask(deployment, ledger, [asked(number, "")], tenant="probe")
        if ask(deployment, ledger, [like(number, "")], tenant="probe")[0].tier == "semantic":
            return


def plant(ledger):
    """Make all answers of one tenant wrong, and those of the other right for the question as it will be put."""
    with writing(ledger.engine) as tx:
        for row in tx.execute(select(ENTRIES.c.id, ENTRIES.c.tenant, ENTRIES.c.question, ENTRIES.c.answer)).all():
            number = next(each for each in NUMBERS if asked(each) == row.question)
            says = like(9 if row.tenant == "default" else number)
            answer = Answer.model_validate_json(row.answer).with_text(says)
            planted = answer.model_dump_json(exclude_none=True).encode()
            tx.execute(update(ENTRIES).where(ENTRIES.c.id == row.id).values(answer=planted))


def events(deployment, ledger):
    """How many events lie on each topic, when all are published."""
    waits = select(func.count()).select_from(OUTBOX)
    deployment.wait_until(lambda: ledger.read(waits)[0][0] == 0, "all events are published")
    return Counter(record.topic for record in read(deployment.settings, Topic))


def labels(ledger):
    """How many audits have which label, by tenant."""
    rows = ledger.read(select(AUDITS.c.tenant, AUDITS.c.label).where(AUDITS.c.tenant != "probe"))
    return Counter((row.tenant, row.label) for row in rows)


def test_wrong_answers_are_found_and_their_scope_turns_itself_off(deployment, ledger):
    for tenant in ("default", "other"):
        ask(deployment, ledger, map(asked, NUMBERS), tenant=tenant)
    plant(ledger)
    deployment.kill("recall")
    start_listening(deployment, "recall")
    until_followed(deployment, ledger)

    # No worker of the model: audits wait, and hold nobody up.
    deployment.kill("generate")
    for tenant in ("default", "other"):
        served = ask(deployment, ledger, map(like, NUMBERS), tenant=tenant)
        assert {each.tier for each in served} == {"semantic"}
    assert labels(ledger) == {("default", None): 6, ("other", None): 6}
    assert ledger.active_jobs() == 0
    before = events(deployment, ledger), len(ledger.read(select(ENTRIES.c.id)))

    # One that is killed over them: another does them.
    deployment.start("generate")
    deployment.catch_at_work("generate")
    deployment.kill("generate")
    deployment.revive()
    deployment.wait_until(lambda: all(label for _, label in labels(ledger)), "all are answered afresh")
    assert labels(ledger) == {("default", "wrong"): 6, ("other", "clean"): 6}

    deployment.wait_until(lambda: states(ledger)["default"] == "off", "the scope turns itself off")
    assert (events(deployment, ledger), len(ledger.read(select(ENTRIES.c.id)))) == before
    assert ledger.read(select(DEAD_LETTERS)) == []
    deployment.wait_until(lambda: len(ledger.overview().incidents) == 1, "what the kills brought about is over")
    (trouble,) = ledger.overview().incidents
    assert "of the tenant default" in trouble.subject

    refused = (ask(deployment, ledger, [like(number, "")])[0] for number in range(50, 90))
    assert any((each.refused or "").startswith("Broken: ") for each in refused)
    (still,) = ask(deployment, ledger, [like(3)], tenant="other")
    assert still.tier == "semantic"
    deployment.wait_until(lambda: states(ledger)["other"] == "not yet shown", "it is worked out how the other stands")


def states(ledger):
    """How the scope of each tenant stands."""
    return defaultdict(str) | {each.tenant: each.state for each in ledger.of(Audits).standings()}
