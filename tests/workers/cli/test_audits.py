"""Audits as the command line tells them: what people say of answers, and how scopes stand."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select
from tests.workers.cli.conftest import Call
from tests.workers.cli.test_cache import cache, fits  # noqa: F401 - fixtures
from tests.workers.cli.test_refused_events import Terminal
from tests.workers.core.ledger.conftest import ledger  # noqa: F401 - a fixture
from tests.workers.features.cache.semantic.conftest import Flow, asks  # noqa: F401 - fixtures
from tests.workers.features.cache.semantic.test_audits import ask, asked, audits, like, run, semantic, serve  # noqa: F401 - fixtures
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture

from headrace_schemas import GenerationJob
from headrace_workers.features.cache.auditing import Auditing
from headrace_workers.features.cache.store.audits import Audits
from headrace_workers.features.cache.tables import AUDITS, ENTRIES
from headrace_workers.models.generator import Completion

pytestmark = pytest.mark.integration

VAGUE = "Look under settings, then under security, and follow what it says there."


@pytest.fixture
def doubtful(semantic: Flow, asks: Callable[..., GenerationJob], monkeypatch: pytest.MonkeyPatch) -> Flow:  # noqa: F811
    """Two answers of which a comparison could not tell whether they were right, and nothing that was nearly given; a
    terminal is not there.
    """
    monkeypatch.setattr(Auditing, "explores", lambda *_: False)
    monkeypatch.setattr("sys.stdin", open("/dev/null"))  # noqa: SIM115 - as a pipe that says nothing
    for number in (3, 4):
        serve(semantic, asks, number, VAGUE)
        run(semantic)
    semantic.standings.once()
    return semantic


def labels(flow: Flow) -> list[str]:
    return [f"{audit.label} {audit.labelled_by}" for audit in audits(flow)]


def alive(flow: Flow) -> list[str]:
    ids = [audit.entry_id for audit in audits(flow)]
    rows = flow.ledger.read(select(ENTRIES.c.state).where(ENTRIES.c.id.in_(ids)).order_by(ENTRIES.c.id))
    return [row.state for row in rows]


def test_what_waits_for_a_person_is_listed(cache: Call, doubtful: Flow):  # noqa: F811
    code, out, said = cache("audits", "--json")
    first, second = (json.loads(line) for line in out.splitlines())
    assert (code, said) == (0, "")
    assert (first["question"], first["served"], first["fresh"]) == (like(3), VAGUE, like(3))
    assert (second["label"], second["tenant"]) == ("unknown", "default")
    code, out, said = cache("audits")
    assert (code, fits(out), first["audit"] in out, "headrace review audits AUDIT" in said) == (0, True, True, True)
    assert cache("audits", "--tenant", "other") == (0, "", "no audit waits for a person\n")
    assert len(cache("audits", "--scope", first["scope"][:8], "--json")[1].splitlines()) == 2
    assert "only the 1 oldest" in cache("audits", "--json", "-n", "1")[2]
    assert cache("audits", "--scope", "xyz")[0] == 2


@pytest.mark.parametrize(
    ("words", "state"), [(("clean",), "live"), (("wrong",), "dead"), (("wrong", "--keep"), "live")]
)
def test_one_is_labelled_by_its_id(cache: Call, doubtful: Flow, words: tuple[str, ...], state: str):  # noqa: F811
    one = audits(doubtful)[0]
    code, out, said = cache("audits", one.id, *words, "--by", "ann", "--json")
    assert (code, one.id in said) == (0, True)
    assert json.loads(out) == {"audit": one.id, "label": words[0], "before": "unknown", "by": "ann"}
    assert labels(doubtful) == [f"{words[0]} ann", "unknown headrace"]
    assert alive(doubtful) == [state, "live"]
    assert (f"headrace cache wrong {one.job_id}" in said) is (state == "dead")


def test_what_cannot_be_labelled_is_said(cache: Call, doubtful: Flow, asks: Callable[..., GenerationJob]):  # noqa: F811
    serve(doubtful, asks, 5, VAGUE)
    waits = audits(doubtful)[-1]
    assert cache("audits", "no-such", "clean") == (1, "", "no-such: the ledger knows no such audit\n")
    assert cache("audits", waits.id, "wrong")[:2] == (1, "")
    assert cache("audits", waits.id, "good")[0] == cache("audits", waits.id)[0] == 2
    assert labels(doubtful)[-1] == "None None"


@pytest.mark.parametrize(
    ("typed", "found"),
    [("c\nw\n", ["clean ann", "wrong ann"]), ("s\nclean\n", ["unknown headrace", "clean ann"]),
     ("q\n", ["unknown headrace"] * 2)],
)  # fmt: skip
def test_a_person_is_asked_one_after_the_other(cache: Call, doubtful: Flow, monkeypatch, typed: str, found):  # noqa: F811
    monkeypatch.setattr("sys.stdin", Terminal(typed))
    code, out, said = cache("audits", "--by", "ann")
    assert (code, fits(out), "made afresh" in out) == (0, True, True)
    assert labels(doubtful) == found
    assert f"{sum('ann' in item for item in found)} labelled" in said


def test_the_bound_is_shown_both_ways(cache: Call, doubtful: Flow):  # noqa: F811
    """Rates are shown without undecided audits, and with all of these wrong; in all, by scope, and as JSON."""
    (bound,) = json.loads(cache("stats", "--json")[1])["bounds"]
    assert (bound["state"], bound["served"], bound["audits"], bound["unknown"], bound["wrong"]) == (
        "not yet shown", 2, 2, 2, 0,
    )  # fmt: skip
    assert [bound["upper"], bound["upper_if_unknown_wrong"]] == pytest.approx([1.0, 1.0])
    cache("audits", audits(doubtful)[0].id, "clean")
    doubtful.standings.once()
    rows = [json.loads(line) for line in cache("stats", "--scopes", "--json")[1].splitlines()]
    (row,) = [row for row in rows if row["bound"]]
    assert row["bound"]["upper"] < row["bound"]["upper_if_unknown_wrong"]
    for arguments in (("stats",), ("stats", "--scopes")):
        code, out, _ = cache(*arguments)
        assert (code, fits(out), "not yet shown" in out) == (0, True, True)


def test_a_scope_that_is_off_says_so_and_is_opened_by_hand(cache: Call, doubtful: Flow, asks):  # noqa: F811
    for audit in audits(doubtful):
        cache("audits", audit.id, "wrong")
    doubtful.standings.once()
    (scope,) = {audit.scope for audit in audits(doubtful)}
    job = ask(doubtful, asks, like(6))
    assert json.loads(cache("explain", job, "--json")[1])["why"].startswith("Broken: 2 of 2 audits were wrong")
    code, out, said = cache("stats")
    assert (code, " off " in out, f"`headrace cache serve {scope[:8]}`" in said) == (0, True, True)
    assert cache("serve", "xyz")[0] == 2
    code, out, said = cache("serve", scope[:8], "--json")
    assert (code, json.loads(out)) == (0, {"scope": scope, "changed": True, "by": None})
    assert "is on again" in said
    assert " off " not in cache("stats")[1]


def test_a_person_lets_a_scope_in_shadow_serve(cache: Call, semantic: Flow, asks: Callable[..., GenerationJob]):  # noqa: F811
    """With the sentence in view that nobody knows how many answers are wrong; `stats` says why it was in shadow."""
    serve(semantic, asks, 3, VAGUE)
    run(semantic)
    semantic.standings.once()
    (stands,) = semantic.ledger.of(Audits).standings()
    said = " ".join(cache("stats")[2].split())
    assert "is in shadow" in said
    assert "0 clean audits of the 299" in said
    assert "1 of its 1 audits have no verdict" in said
    assert cache("serve", stands.scope[:8])[0] == 2
    code, _, said = cache("serve", stands.scope[:8], "--yes", "--by", "ann")
    assert (code, "nobody knows how many of its answers by likeness are wrong" in said) == (0, True)
    assert "is in shadow" not in cache("stats")[2]
    assert cache("serve", stands.scope[:8], "--yes")[0] == 1
    assert cache("serve", stands.scope[:8], "--stop")[0] == 0
    assert cache("serve", "ffffffff", "--yes")[0] == 1


def explained(cache: Call, job: str) -> tuple[dict[str, Any], str]:  # noqa: F811
    """The audit of what a job was given, or nearly: as JSON, and the page."""
    code, out, _ = cache("explain", job)
    assert (code, fits(out)) == (0, True)
    return json.loads(cache("explain", job, "--json")[1])["audit"], " ".join(out.split())


def test_explain_shows_the_audit_of_a_hit(cache: Call, semantic: Flow, asks: Callable[..., GenerationJob]):  # noqa: F811
    job = serve(semantic, asks, 3, VAGUE)
    (row,) = audits(semantic)
    told, page = explained(cache, job)
    assert (told["audit"], told["kind"], told["label"]) == (row.id, "hit", None)
    assert "waits for its fresh answer" in page
    run(semantic)
    told, page = explained(cache, job)
    assert (told["label"], told["labelled_by"], told["reason"]) == ("unknown", "headrace", "different words")
    assert told["labelled_at"].endswith("Z")
    assert "unknown, said headrace: different words" in page
    cache("audits", row.id, "clean", "--by", "ann")
    assert explained(cache, job)[0]["labelled_by"] == "ann"
    semantic.audit_share = 0.0
    semantic.do()
    told, page = explained(cache, serve(semantic, asks, 4, like(4)))
    assert (told, "none: it was not drawn" in page) == (None, True)


def test_explain_shows_what_a_job_was_nearly_given(cache: Call, semantic: Flow, asks: Callable[..., GenerationJob]):  # noqa: F811
    ask(semantic, asks, asked(3))
    told, page = explained(cache, ask(semantic, asks, asked(4)))
    assert (told["kind"], told["label"]) == ("refused", "wrong")
    assert told["guard"] == "numbers"
    assert "the guard numbers alone refused it" in page


def test_stats_say_which_guard_costs_what(cache: Call, semantic: Flow, asks: Callable[..., GenerationJob]):  # noqa: F811
    for number in (3, 4, 5):
        ask(semantic, asks, asked(number))
    one = semantic.ledger.read(select(AUDITS.c.id))[0]
    cache("audits", one.id, "clean", "--by", "ann")
    (guard,) = json.loads(cache("stats", "--json")[1])["guards"]
    low, high = guard.pop("needless")
    assert guard == {"guard": "numbers", "refused": 2, "audits": 2, "right": 1, "wrong": 1, "unknown": 0}
    assert (round(low, 3), round(high, 3)) == (0.013, 0.987)  # Clopper and Pearson's of 1 of 2
    code, out, _ = cache("stats")
    assert (code, fits(out), "numbers 2 2 1 1 0 1.26% to 98.74%" in " ".join(out.replace("│", " ").split())) == (
        0,
        True,
        True,
    )
    assert json.loads(cache("stats", "--json", "--tenant", "nobody")[1])["guards"] == []


def test_the_models_own_disagreement_stands_beside_the_rate(cache: Call, semantic: Flow, asks, monkeypatch):  # noqa: F811
    said = iter(["It is 3.", "It is 4."])
    monkeypatch.setattr("headrace_workers.features.cache.auditing.twice", lambda _: True)
    job = serve(semantic, asks, 3, "It is 3.")
    generator = semantic.generator
    monkeypatch.setattr(
        type(generator), "generate", lambda _self, requests: [Completion(next(said), "stop", 1, 1) for _ in requests]
    )
    run(semantic)
    semantic.standings.once()
    (bound,) = json.loads(cache("stats", "--json")[1])["bounds"]
    assert (bound["wrong"], bound["own"]) == (0, {"clean": 0, "wrong": 1, "unknown": 0})
    code, out, _ = cache("stats")
    assert (code, fits(out), "1 of 1" in out) == (0, True, True)
    assert explained(cache, job)[0]["own"] == "wrong"


def test_what_a_guard_refused_is_counted_scope_by_scope(cache: Call, semantic: Flow, asks):  # noqa: F811
    """How much of it was right, wrong and unknown. People may label it."""
    ask(semantic, asks, asked(6))
    ask(semantic, asks, asked(7))
    semantic.standings.once()
    (bound,) = json.loads(cache("stats", "--json")[1])["bounds"]
    assert (bound["refused"]["wrong"], bound["served"], bound["audits"]) == (1, 0, 0)
    (nearly,) = semantic.ledger.read(select(AUDITS.c.id))
    assert "given to nobody" not in cache("audits", nearly.id, "wrong")[2]


def test_stats_say_what_holds_for_all_scopes_together(cache: Call, doubtful: Flow, asks):  # noqa: F811
    serve(doubtful, asks, 5, like(5), tenant="other")
    run(doubtful)
    doubtful.standings.once()
    whole = json.loads(cache("stats", "--json")[1])["together"]
    assert (whole["scopes"], whole["served"], whole["audits"], whole["unknown"]) == (2, 3, 3, 2)
    code, out, _ = cache("stats")
    page = " ".join(out.split())
    assert (code, fits(out), "all 2 scopes together: of 3 answers that likeness gave" in page) == (0, True, True)
    assert json.loads(cache("stats", "--json", "--tenant", "nobody")[1])["together"] is None
