"""The page *Review* without a browser: who is shown what, and what the forms do."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from html import unescape

import httpx
import pytest
from sqlalchemy import select
from tests.workers.features.reviews.review_rows import FOUND, SAID, answer, ended, held
from tests.workers.http.served import Gateway
from tests.workers.http.test_console import PAYLOAD, browser
from tests.workers.http.test_reviews import key_of

from headrace_schemas import Finding, GenerationJob, ModerationVerdict, Output
from headrace_schemas.grounding import Citation, Grounding
from headrace_workers.core.scopes import JOBS_READ, REVIEWS_TEXTS, usual_scopes
from headrace_workers.core.tables import STEPS
from headrace_workers.features.console.review import changes
from headrace_workers.features.quality.feature import REVIEWS_READ, REVIEWS_WRITE
from headrace_workers.features.quality.tables import LABELS
from headrace_workers.features.reviews.tables import REVIEW_DECISIONS

VERDICT = {"verdict": json.loads(FOUND.model_dump_json()), "said": SAID}
YES = {"criterion:good": "yes"}


@contextmanager
def reviewer(gateway: Gateway, name: str = "Ada", *scopes: str, key: str | None = None) -> Iterator[httpx.Client]:
    """A browser of a person of the tenant `a`."""
    with browser(gateway, key=key or key_of(gateway, name, *scopes), name=name) as client:
        client.follow_redirects = True
        yield client


def shown(client: httpx.Client) -> tuple[str, str]:
    page = client.get("review/")
    assert page.status_code == 200, page.text
    match = re.search(r"review/([0-9a-f-]{36})/skip", page.text)
    return (match[1] if match else ""), page.text


def fields(page: str, action: str) -> dict[str, str]:
    form = next(word for word in page.split("<form ") if f'name="action" value="{action}"' in word)
    return {name: unescape(value) for name, value in re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form)}


def send(client: httpx.Client, item_id: str, page: str, action: str, given: Mapping[str, str] = {}) -> httpx.Response:
    return client.post(f"review/{item_id}/decision", data={**fields(page, action), **given})


def state_of(gateway: Gateway, job_id: str) -> str:
    ((state,),) = gateway.services.ledger.read(select(STEPS.c.state).where(STEPS.c.job_id == job_id))
    return str(state)


def decisions(gateway: Gateway) -> list[tuple[str, str, int]]:
    columns = (REVIEW_DECISIONS.c[name] for name in ("who", "action", "revision"))
    query = select(*columns).order_by(REVIEW_DECISIONS.c.number)
    return [tuple(row) for row in gateway.services.ledger.read(query)]


def test_an_answer_is_blind_until_it_is_labelled_and_the_label_can_be_revised(alone: Gateway):
    _, item_id = ended(alone.services.ledger, rule="low")
    with reviewer(alone) as ada:
        given, page = shown(ada)
        assert (given, SAID in page, "How do I reach you?" in page) == (item_id, True, True)
        hidden = ("helpful", "0.3", "Judged", "allow", ">low<", "0.25")
        assert [word for word in hidden if word in page] == []
        told = send(ada, item_id, page, "label", YES)
        assert (told.status_code, told.url.path) == (200, "/console/review/")
        assert "No item waits for you" in told.text
        after = ada.get(f"review/{item_id}/").text
        assert [word for word in ("helpful", "0.3", "Moderation", ">low<") if word not in after] == []
        send(ada, item_id, after, "label", {"criterion:good": "no"})
        mine = ada.get("review/mine/").text
        assert f'href="../../review/{item_id}/"' in mine
        assert "<bdi>good</bdi>: no" in mine
    assert decisions(alone) == [("Ada", "label", 1), ("Ada", "label", 2)]


def test_a_held_job_shows_its_verdict_with_marked_spans_and_is_released(alone: Gateway):
    rung: list[str] = []
    alone.services.ring = lambda: rung.append("")
    job_id, item_id = held(alone.services.ledger, known=VERDICT)
    with reviewer(alone) as ada:
        given, page = shown(ada)
        assert given == item_id
        assert re.findall(r"<mark [^>]*>(.*?)</mark>", page) == ["jo@headrace.io"]
        assert "email, found by d: review" in page
        assert send(ada, item_id, page, "release").status_code == 200
        assert "is done" in ada.get(f"review/{item_id}/").text
    assert (state_of(alone, job_id), rung) == ("ready", [""])


def test_a_correction_is_compared_before_it_is_sent(alone: Gateway):
    job_id, item_id = held(alone.services.ledger)
    with reviewer(alone) as ada:
        assert shown(ada)[0] == item_id
        path, corrected = f"review/{item_id}/comparison", "Write to us.\r\n"
        assert "The text is as it was." in ada.post(path, data={"corrected": SAID}).text
        page = ada.post(path, data={"corrected": corrected}).text
        assert "Write to <del>jo@headrace.io.</del><ins>us.\n</ins></div>" in page
        assert (decisions(alone), state_of(alone, job_id)) == ([], "held")
        assert fields(page, "correct")["corrected"] == "Write to us.\n"
        assert send(ada, item_id, page, "correct").status_code == 200
        assert "Write to us." in ada.get(f"review/{item_id}/").text
    assert decisions(alone) == [("Ada", "correct", 1)]


def test_a_correction_that_does_not_fit_is_refused_in_words_and_not_lost(alone: Gateway):
    asked = GenerationJob(model="m", prompt="One or two?", tenant="a", output={"type": "choice", "choices": ["1", "2"]})
    _, item_id = held(alone.services.ledger, asked=asked)
    with reviewer(alone) as ada:
        shown(ada)
        page = ada.post(f"review/{item_id}/comparison", data={"corrected": "three"}).text
        told = send(ada, item_id, page, "correct")
        assert (told.status_code, "corrected: " in told.text) == (400, True)
        assert re.search(r"<textarea [^>]*>\nthree</textarea>", told.text)
    assert decisions(alone) == []


def test_a_conflict_is_told_with_the_next_item(alone: Gateway):
    _, first = ended(alone.services.ledger, rank=2**50)
    _, second = ended(alone.services.ledger, rank=2**51)
    with reviewer(alone) as ada:
        _, page = shown(ada)
        ada.post(f"review/{first}/skip", data={"lease": fields(page, "label")["lease"]})
        told = send(ada, first, page, "label", YES)
        assert (told.status_code, "not yours under this lease" in told.text) == (409, True)
        assert f"review/{second}/skip" in told.text
        told = ada.post(f"review/{second}/undo")
        assert (told.status_code, "you have not decided" in told.text) == (409, True)
        told = ada.post(f"review/{second}/skip", data={"lease": "x"})
        assert (told.status_code, "lease: " in told.text) == (400, True)
    assert decisions(alone) == []


def test_two_people_who_share_a_key_without_a_name_get_different_items(alone: Gateway):
    items = {ended(alone.services.ledger)[1] for _ in range(2)}
    key = key_of(alone, "")
    with reviewer(alone, key=key) as ada, reviewer(alone, "Bob", key=key) as bob:
        given = [shown(client)[0] for client in (ada, bob, ada)]
    assert set(given) == items
    assert given[0] == given[2]


def test_a_key_with_a_name_decides_under_it_whatever_its_holder_types(alone: Gateway):
    ended(alone.services.ledger)
    with reviewer(alone, "Ada", key=key_of(alone, "Bob")) as bob:
        item_id, page = shown(bob)
        assert send(bob, item_id, page, "label", YES).status_code == 200
    assert {who for who, _, _ in decisions(alone)} == {"Bob"}


def test_scopes_are_those_of_the_api(alone: Gateway):
    _, of_held = held(alone.services.ledger)
    _, of_answer = ended(alone.services.ledger)
    with reviewer(alone, "Eve", JOBS_READ) as stranger:
        assert 'href="../review/"' not in stranger.get("playground/").text
        assert stranger.get("review/").status_code == 403
    with reviewer(alone, "Ada", REVIEWS_READ) as reads:
        assert reads.get("review/").url.path == "/console/review/progress/"
        assert reads.get(f"review/{of_answer}/").status_code == 200
        posts = ("decision", "comparison", "skip", "undo")
        told = [reads.post(f"review/{of_answer}/{what}") for what in posts]
        assert [(response.status_code, "reviews:write" in response.text) for response in told] == [(403, True)] * 4
    with reviewer(alone, "Ada", REVIEWS_WRITE) as writes:
        given, page = shown(writes)
        assert given == of_answer
        told = [writes.get(f"review/{of_held}/"), writes.post(f"review/{of_held}/comparison", data={"corrected": "x"})]
        assert [(response.status_code, "reviews:texts" in response.text) for response in told] == [(403, True)] * 2
        send(writes, given, page, "label", YES)
        assert "reviews:texts" in shown(writes)[1]
    with reviewer(alone, "Bob", REVIEWS_WRITE, REVIEWS_TEXTS) as both:
        assert shown(both)[0] == of_held


def test_another_tenants_items_are_not_found(alone: Gateway):
    job_id, item_id = held(alone.services.ledger)
    with reviewer(alone) as ada, reviewer(alone, "Ada", key=key_of(alone, "eve", tenant="b")) as eve:
        _, page = shown(ada)
        assert shown(eve)[0] == ""
        assert "<bdi>held</bdi>" not in eve.get("review/progress/").text
        told = [
            eve.get(f"review/{item_id}/"),
            send(eve, item_id, page, "release"),
            *(eve.post(f"review/{item_id}/{what}", data={"lease": "1"}) for what in ("comparison", "skip", "undo")),
            eve.get("review/x/"),
        ]
        assert [(response.status_code, SAID in response.text) for response in told] == [(404, False)] * 6
    assert state_of(alone, job_id) == "held"


def test_texts_of_an_item_are_never_markup(alone: Gateway):
    citation = Citation(
        number=1, document=PAYLOAD, section=PAYLOAD, start=0, stop=9, chunk="c", relevance=0.5, cited=True
    )
    grounding = Grounding(knowledge="mills", floor=0.2, citations=(citation,))
    said = answer(f"[1] {PAYLOAD}", grounding=grounding)
    asked = GenerationJob(
        model="m", prompt=PAYLOAD, tenant="a",
        criteria=[{"criterion": "rubric", "question": PAYLOAD, "name": "polite"}],
    )  # fmt: skip
    finding = Finding(category="email", detector="d", score=0.9, start=4, end=30, action="review")
    verdict = ModerationVerdict(action="review", reason=PAYLOAD, findings=(finding,))
    known = {"verdict": json.loads(verdict.model_dump_json())}
    ledger = alone.services.ledger
    _, of_answer = ended(ledger, asked=asked, shown=said, application=PAYLOAD)
    _, of_held = held(
        ledger,
        asked=asked,
        event=Output(job_id="2e77d044-127a-560f-a255-3eaecc840637", tenant="a", answer=said),
        known=known,
    )
    with reviewer(alone, PAYLOAD) as ada:
        given, first = shown(ada)
        assert given == of_held
        assert re.search('<mark class="found" title="email, found by d: review">', first)
        compared = ada.post(f"review/{of_held}/comparison", data={"corrected": f"{PAYLOAD}!"}).text
        send(ada, of_held, first, "withhold", {"note": PAYLOAD})
        given, second = shown(ada)
        assert given == of_answer
        send(ada, of_answer, second, "label", {"criterion:polite": "yes"})
        pages = [first, compared, second, *(ada.get(f"review/{item}/").text for item in (of_held, of_answer))]
        pages += [ada.get("review/mine/").text, ada.get("review/progress/").text]
    for page in pages:
        assert "&lt;script&gt;alert(1)" in page
        assert "<script>" not in page
        assert "<img src=x" not in page
    assert decisions(alone) == [(PAYLOAD, "withhold", 1), (PAYLOAD, "label", 1)]


def test_an_empty_queue_says_what_to_do_first(alone: Gateway):
    with reviewer(alone) as ada:
        page = shown(ada)[1]
        assert "reviews.toml" in page
        ended(alone.services.ledger, made_at=alone.services.ledger.now())
        _, page = shown(ada)
        given, page = shown(ada)
        told = send(ada, given, page, "label", YES).text
        assert "reviews.toml" not in told.partition("No item waits for you")[2].partition("</section>")[0]
        progress = ada.get("review/progress/").text
        assert "<bdi>audit</bdi>" in progress
        assert "<bdi>Ada</bdi>" in progress
        assert "no item has labels of two people" in progress


@pytest.mark.parametrize(
    ("before", "after"),
    [("", "a"), ("a", ""), ("one two\nthree four", "one two\nthree five"), ("same", "same more"), ("x " * 5_000, "y"),
     ("a b\n" * 5_000 + "end", "a b\n" * 4_999 + "end"), ("a\n" * 800, "b\n" * 900 + "a\n")],
)  # fmt: skip
def test_a_comparison_has_both_texts_whole(before: str, after: str):
    pieces = changes(before, after)
    assert "".join(piece.text for piece in pieces if piece.kind != "added") == before
    assert "".join(piece.text for piece in pieces if piece.kind != "removed") == after
    assert {piece.kind for piece in pieces} & {"added", "removed"}


def test_one_queue_is_reviewed_by_its_rule_from_form_to_form(alone: Gateway):
    ledger = alone.services.ledger
    for rule in ("audit", "low", "low", "low", "low"):
        ended(ledger, rule=rule, made_at=ledger.now())
    with reviewer(alone) as ada:
        progress = ada.get("review/progress/").text
        assert 'href="../../review/?rule=low"' in progress
        page = ada.get("review/?rule=low").text
        assert "<option selected>low</option>" in page
        for what in ("skip", "decision", "undo", "decision", "comparison"):
            item_id = re.search(r"review/([0-9a-f-]{36})/skip\?rule=low", page)
            assert item_id is not None
            given = {**fields(page, "label"), **YES}
            path = f"review/{item_id[1]}/{what}?rule=low"
            if what == "undo":
                path = re.search(r'action="\.\./(review/[0-9a-f-]{36}/undo\?rule=low)"', page)[1]  # type: ignore[index]
            told = ada.post(path, data={**given, "corrected": "x"} if what == "comparison" else given)
            assert told.status_code == 200, told.text
            assert ("rule", "low") in told.url.params.multi_items()
            page = told.text
        assert "No item waits for you in the queue <bdi>manual</bdi>" in ada.get("review/?rule=manual").text
        assert ada.get("review/?rule=%3Cb%3E").status_code == 400
    assert [action for _, action, _ in decisions(alone)] == ["label", "undo", "label"]


def test_an_ended_answer_is_sent_to_review_from_its_page_once(alone: Gateway):
    ledger = alone.services.ledger
    job_id, _ = ended(ledger, state="done")
    active, _ = held(ledger)
    with (
        reviewer(alone) as ada,
        reviewer(alone, "Eve", JOBS_READ, REVIEWS_READ) as reads,
        reviewer(alone, key=alone.key("b", *usual_scopes())) as other,
    ):
        assert 'action="review"' in ada.get(f"jobs/{job_id}/").text
        assert 'action="review"' not in ada.get(f"jobs/{active}/").text
        assert 'action="review"' not in reads.get(f"jobs/{job_id}/").text
        assert [client.post(f"jobs/{job_id}/review").status_code for client in (reads, other)] == [403, 404]
        told = ada.post(f"jobs/{active}/review")
        assert (told.status_code, "this job has none" in told.text) == (409, True)
        pages = [ada.post(f"jobs/{job_id}/review").text for _ in range(2)]
        (item_id,) = {re.search(r"review/([0-9a-f-]{36})/", page)[1] for page in pages}  # type: ignore[index]
        assert ada.get(f"jobs/{job_id}/?sent=%22x").status_code == 400
        page = ada.get("review/?rule=manual").text
        assert f"review/{item_id}/skip?rule=manual" in page
        send(ada, item_id, page, "label", YES)
    (row,) = ledger.read(select(LABELS.c.item, LABELS.c.probability))
    assert tuple(row) == (item_id, None)
