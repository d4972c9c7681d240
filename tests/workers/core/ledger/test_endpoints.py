"""Endpoints in the ledger: whole rows, whose they are, and that no other is touched."""

import json

import pytest
from sqlalchemy import select, update
from tests.workers.core.ledger.rows import delivery, job, step, write
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture

from headrace_workers.core.tables import STEPS
from headrace_workers.features.webhooks.store.deliveries import DeliveryView, Due, Range, Tried
from headrace_workers.features.webhooks.store.endpoints import Health, callbacks_id, place_id
from headrace_workers.features.webhooks.store.webhooks import Webhooks
from headrace_workers.features.webhooks.tables import ENDPOINTS


def add(ledger, name, tenant="a", most=9, **fields):
    known = {"name": f"name of {name}", "url": f"http://{name}/", "events": ("x", "y"), "whole": True,
             "secret": f"secret of {name}", "hint": "hint"}  # fmt: skip
    return ledger.of(Webhooks).add(endpoint_id=name, tenant=tenant, most=most, **known | fields)


def rows(ledger):
    return {row.id: row._asdict() for row in ledger.read(select(ENDPOINTS))}


def shown(endpoint):
    return {name: getattr(endpoint, name) for name in endpoint.__slots__}


def parked(ledger, job_id, endpoint):
    job(ledger, job_id, "active", kind="unit", subject="s", endpoint=endpoint)
    step(ledger, job_id, "parked", "deliver", waits_for=endpoint)


def ready(ledger):
    return [row.job_id for row in ledger.read(select(STEPS.c.job_id).where(STEPS.c.state == "ready"))]


def test_an_endpoint_is_kept_as_it_was_registered(ledger):
    ledger.of(Webhooks).callbacks("a", "cs", "ch")
    before = ledger.now()
    made = add(ledger, "we_1", most=1)
    assert before <= made.created_at <= made.updated_at <= ledger.now()
    assert shown(made) == {
        "id": "we_1", "tenant": "a", "origin": "registered", "name": "name of we_1", "url": "http://we_1/",
        "events": ("x", "y"), "whole": True, "hint": "hint", "disabled": None, "failures": 0, "failing_since": None,
        "pauses": 0, "paused_until": None, "created_at": made.created_at, "updated_at": made.updated_at,
        "secret": "secret of we_1", "old_secret": None, "old_until": None, "secret_of": "we_1",
    }  # fmt: skip
    assert repr(made) == "Endpoint(id='we_1', tenant='a', url='http://we_1/')"
    assert add(ledger, "we_2", most=1) is None
    assert add(ledger, "we_3", "b", most=1).tenant == "b"
    assert ledger.of(Webhooks).endpoint("we_1", "a") == ledger.of(Webhooks).endpoint("we_1") == made
    assert ledger.of(Webhooks).endpoint("we_1", "b") is ledger.of(Webhooks).endpoint("we_2") is None
    named = [("a", "we_1"), ("b", "we_1"), ("b", "we_3"), ("a", "we_9"), ("a", callbacks_id("a"))]
    assert ledger.of(Webhooks).unknown(named) == {("b", "we_1"), ("a", "we_9"), ("a", callbacks_id("a"))}
    assert ledger.of(Webhooks).unknown([]) == set()


def test_a_tenants_own_for_callbacks_is_made_once(ledger):
    before = ledger.now()
    made = ledger.of(Webhooks).callbacks("a", "s", "h")
    assert ledger.of(Webhooks).callbacks("a", "other", "o") == made
    assert ledger.of(Webhooks).callbacks("b", "t", "i").secret == "t"
    assert before <= made.created_at <= made.updated_at <= ledger.now()
    assert shown(made) == {
        "id": callbacks_id("a"), "tenant": "a", "origin": "callbacks", "name": "callbacks of jobs", "url": "",
        "events": (), "whole": False, "hint": "h", "disabled": None, "failures": 0, "failing_since": None, "pauses": 0,
        "paused_until": None, "created_at": made.created_at, "updated_at": made.updated_at, "secret": "s",
        "old_secret": None, "old_until": None, "secret_of": callbacks_id("a"),
    }  # fmt: skip


def test_a_place_is_known_from_when_it_was_met(ledger):
    place = place_id("a", "https://shop")
    ledger.of(Webhooks).met({place: ("a", "https://shop"), "other": ("b", "https://there")})
    row = rows(ledger)[place]
    assert (row["tenant"], row["origin"], row["name"], row["url"], row["events"], row["whole"], row["secret"]) == (
        "a", "place", "https://shop", "https://shop", "[]", False, None,
    )  # fmt: skip
    write(ledger, update(ENDPOINTS).values(created_at=1, updated_at=1))
    before = ledger.now()
    ledger.of(Webhooks).met({place: ("a", "https://shop")})
    assert rows(ledger)[place] == row | {"created_at": 1, "updated_at": rows(ledger)[place]["updated_at"]}
    assert before <= rows(ledger)[place]["updated_at"] <= ledger.now()
    assert rows(ledger)["other"]["updated_at"] == 1
    own = ledger.of(Webhooks).callbacks("a", "s", "h")
    ledger.of(Webhooks).rotate(own.id, "s2", "h2", 60_000)
    found, _, _ = ledger.of(Webhooks).due(place, "a", [])
    until = rows(ledger)[own.id]["old_until"]
    assert (found.id, found.url, found.secret, found.old_secret, found.old_until, found.secret_of, found.disabled) == (
        place, "https://shop", "s2", "s", until, own.id, None,
    )  # fmt: skip
    ledger.of(Webhooks).disable(own.id, "no more")
    assert ledger.of(Webhooks).due(place, "a", [])[0].disabled == "no more"
    ledger.of(Webhooks).disable(place, "gone")
    assert ledger.of(Webhooks).due(place, "a", [])[0].disabled == "gone"
    unsigned, _, _ = ledger.of(Webhooks).due(place, "b", [])
    assert (unsigned.secret, unsigned.secret_of) == (None, place)
    assert ledger.of(Webhooks).due("other", "b", [])[0].secret is None
    assert ledger.of(Webhooks).due("nowhere", "a", [])[0] is None


def test_endpoints_that_were_made_in_one_millisecond_are_listed_page_by_page(ledger):
    names = ["we_2", "we_3", "we_1"]
    for name in names:
        add(ledger, name)
    write(ledger, update(ENDPOINTS).values(created_at=7))
    listed, after = [], None
    while page := ledger.of(Webhooks).endpoints("a", 1, after):
        after = page[0].id
        listed.append(after)
        assert len(listed) <= len(names)
    assert listed == ["we_3", "we_2", "we_1"]


def test_an_endpoint_is_changed_alone(ledger):
    add(ledger, "we_1")
    add(ledger, "we_2")
    write(ledger, update(ENDPOINTS).values(updated_at=1))
    before, now = rows(ledger), ledger.now()
    changed = ledger.of(Webhooks).change("we_1", {"events": ["z"], "url": "http://new/"})
    assert (changed.events, changed.url) == (("z",), "http://new/")
    after = rows(ledger)
    at = after["we_1"]["updated_at"]
    assert now <= at <= ledger.now()
    assert after == before | {"we_1": before["we_1"] | {"events": '["z"]', "url": "http://new/", "updated_at": at}}
    assert json.loads(before["we_1"]["events"]) == ["x", "y"]
    assert ledger.of(Webhooks).change("we_9", {"name": "x"}) is None


@pytest.mark.parametrize("overlap", [0, 90_000])
def test_a_secret_is_changed_and_the_old_one_signs_for_a_while(ledger, overlap):
    add(ledger, "we_1")
    add(ledger, "we_2")
    before = ledger.now()
    ledger.of(Webhooks).rotate("we_1", "second", "hint 2", 50_000)
    now = ledger.of(Webhooks).rotate("we_1", "third", "hint 3", overlap)
    assert (now.secret, now.hint, now.old_secret) == ("third", "hint 3", "second" if overlap else None)
    if overlap:
        assert before + overlap <= now.old_until <= ledger.now() + overlap
    else:
        assert now.old_until is None
    other = ledger.of(Webhooks).endpoint("we_2")
    assert (other.secret, other.hint, other.old_secret) == ("secret of we_2", "hint", None)
    assert ledger.of(Webhooks).rotate("we_9", "x", "y", 1) is None


def test_an_endpoint_is_disabled_and_enabled_alone(ledger):
    """As if nothing had failed; what waited for it is ready."""
    ill = {"failures": 3, "failing_since": 4, "pauses": 5, "paused_until": 6}
    for name in ("we_1", "we_2"):
        add(ledger, name)
        parked(ledger, f"for {name}", name)
    write(ledger, update(ENDPOINTS).values(**ill))
    ledger.of(Webhooks).disable("we_1", "it is away")
    found = {name: (row["disabled"], row["failures"]) for name, row in rows(ledger).items()}
    assert found == {"we_1": ("it is away", 3), "we_2": (None, 3)}
    assert ledger.of(Webhooks).endpoint("we_1").health == Health(registered=True, disabled="it is away", **ill)
    assert ready(ledger) == []
    ledger.of(Webhooks).enable("we_1")
    assert ledger.of(Webhooks).endpoint("we_1").health == Health(registered=True)
    assert ledger.of(Webhooks).endpoint("we_2").health == Health(registered=True, **ill)
    assert ready(ledger) == ["for we_1"]


def test_an_endpoint_is_forgotten_alone(ledger):
    """What waits for it is ready, to find that it is gone."""
    for name in ("we_1", "we_2"):
        add(ledger, name)
        parked(ledger, f"for {name}", name)
    ledger.of(Webhooks).remove("we_1")
    assert set(rows(ledger)) == {"we_2"}
    assert ready(ledger) == ["for we_1"]


def test_how_an_endpoint_stands_follows_from_what_came_of_attempts(ledger):
    for name in ("we_1", "we_2"):
        add(ledger, name)
        parked(ledger, f"for {name}", name)
    ill = Health(registered=True, failures=1, failing_since=2, pauses=3, paused_until=4)
    times = []

    def falls_ill(before, now):
        times.append(now)
        return ill

    began = ledger.now()
    assert ledger.of(Webhooks).note("we_1", [], falls_ill) == (Health(registered=True), ill)
    assert began <= times[0] <= ledger.now()
    assert ledger.of(Webhooks).endpoint("we_1").health == ill
    assert ledger.of(Webhooks).endpoint("we_2").health == Health(registered=True)
    assert ledger.of(Webhooks).note("we_1", [], lambda before, _: before) == (ill, ill)
    assert ready(ledger) == []
    well = Health(registered=True)
    assert ledger.of(Webhooks).note("we_1", [], lambda *_: well) == (ill, well)
    assert ready(ledger) == ["for we_1"]
    ledger.of(Webhooks).note("we_2", [], lambda before, _: before, wake=True)
    assert sorted(ready(ledger)) == ["for we_1", "for we_2"]
    assert ledger.of(Webhooks).note("we_9", [], falls_ill) is None


def test_one_that_is_disabled_by_failures_is_told_of_once(ledger):
    add(ledger, "we_1")
    add(ledger, "we_2", events=("endpoint.disabled",))
    add(ledger, "we_3", "b", events=("endpoint.disabled",))
    off = Health(registered=True, disabled="it failed for days")
    for _ in range(2):
        ledger.of(Webhooks).note("we_1", [], lambda *_: off)
    (told,) = ledger.of(Webhooks).deliveries(Range(), 9)
    assert (told.endpoint_id, told.tenant, told.type, told.subject) == ("we_2", "a", "endpoint.disabled", "we_1")
    _, body = ledger.of(Webhooks).delivery(told.id)
    said = json.loads(body)
    assert said["data"] == {"id": "we_1", "url": "http://we_1/", "reason": "it failed for days"}
    assert (said["object"], said["type"]) == ("event", "endpoint.disabled")


def test_those_that_are_told_the_whole_are_known(ledger):
    for name, whole in (("we_1", True), ("we_2", False), ("we_3", True)):
        add(ledger, name, whole=whole)
    assert ledger.of(Webhooks).told_whole(["we_1", "we_2", "we_9"]) == {"we_1"}


# -- deliveries


def test_a_delivery_is_shown_with_what_came_of_its_last_attempt(ledger):
    add(ledger, "we_1")
    delivery(ledger, "d1")
    delivery(ledger, "d2", url="https://named/", created_at=200)
    endpoint, due, now = ledger.of(Webhooks).due("we_1", "a", ["d1", "d2", "d9"])
    assert endpoint.id == "we_1"
    assert due == {"d1": Due("d1", "x", "http://we_1/", b"{}"), "d2": Due("d2", "x", "https://named/", b"{}")}
    assert abs(ledger.now() - now) < 60_000
    _, nothing, then = ledger.of(Webhooks).due("we_1", "a", [])
    assert (nothing, then >= now) == ({}, True)
    before = ledger.now()
    for attempt in (Tried("d1", 5, None, "silent", ""), Tried("d1", 6, 503, "busy", "oh")):
        ledger.of(Webhooks).note("we_1", [attempt], lambda health, _: health)
    view, body = ledger.of(Webhooks).delivery("d1")
    assert before <= view.attempted_at <= ledger.now()
    expected = DeliveryView(
        id="d1", endpoint_id="we_1", tenant="a", type="x", subject="j", url=None, state="pending", attempts=2,
        created_at=100, attempted_at=view.attempted_at, next_at=77, status=503, ms=6, error="busy", answer="oh",
        replayed_at=None,
    )  # fmt: skip
    assert (view, body) == (expected, b"{}")
    other, _ = ledger.of(Webhooks).delivery("d2")
    assert (other.attempts, other.attempted_at, other.error, other.url) == (0, None, None, "https://named/")
    assert ledger.of(Webhooks).deliveries(Range(), 9) == [other, view]
    assert ledger.of(Webhooks).delivery("d9") is None


def test_deliveries_are_found_by_whose_and_when_they_are_and_how_they_stand(ledger):
    for name, state, fields in (
        ("d1", "active", {}), ("d2", "done", {"created_at": 200, "error": "was busy"}),
        ("d3", "dead", {"created_at": 200, "endpoint_id": "we_2", "error": "gone"}),
        ("d4", "cancelled", {"created_at": 300, "tenant": "b"}),
    ):  # fmt: skip
        delivery(ledger, name, state, **fields)
    write(ledger, update(STEPS).where(STEPS.c.job_id == "d4").values(reason="withdrawn"))

    def names(which=None, limit=9, **more):
        return [row.id for row in ledger.of(Webhooks).deliveries(which or Range(), limit, **more)]

    assert names() == ["d4", "d2", "d3", "d1"]
    assert names(limit=2) == ["d4", "d2"]
    assert names(Range(endpoint_id="we_2")) == ["d3"]
    assert names(Range(tenant="b")) == ["d4"]
    assert names(Range(since=200, until=300)) == ["d2", "d3"]
    assert [names(state=state) for state in ("pending", "delivered", "failed")] == [["d1"], ["d2"], ["d3"]]
    found = {row.id: (row.state, row.error, row.next_at) for row in ledger.of(Webhooks).deliveries(Range(), 9)}
    assert found == {
        "d1": ("pending", None, 77), "d2": ("delivered", None, None), "d3": ("failed", "gone", None),
        "d4": ("failed", "withdrawn", None),
    }  # fmt: skip
