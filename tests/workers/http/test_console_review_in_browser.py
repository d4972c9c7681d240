"""The page *Review* in Chromium: by keyboard, by two people at once, and without JavaScript."""

import pytest
from tests.workers.features.reviews.review_rows import RANDOM, answer, ended, held
from tests.workers.http.served import Gateway
from tests.workers.http.test_console_in_browser import Browser, Page, chromium, opened, sign_in
from tests.workers.http.test_console_review import VERDICT, decisions
from tests.workers.http.test_reviews import key_of

from headrace_schemas import GenerationJob

__all__ = ["chromium"]
pytestmark = pytest.mark.slow


def begin(page: Page, gateway: Gateway, key: str, name: str = "Ada") -> None:
    sign_in(page, key, name)
    page.get_by_role("link", name="Review").click()
    page.get_by_role("heading", name="Review", exact=True).wait_for()


def press(page: Page, *keys: str) -> None:
    for key in keys[:-1]:
        page.keyboard.press(key)
    with page.expect_navigation():
        page.keyboard.press(keys[-1])


def test_a_person_reviews_ten_items_by_keyboard(alone: Gateway, chromium: Browser):
    ledger = alone.services.ledger
    rubrics = [{"criterion": "rubric", "question": f"Is it {name}?", "name": name} for name in ("polite", "right")]
    two = GenerationJob(model="m", prompt="Two questions?", tenant="a", criteria=rubrics)
    of_held = [held(ledger, known=VERDICT, rank=rank)[1] for rank in (50, 51, 52)]
    asked = [ended(ledger, asked=two, rank=RANDOM)[1]]
    asked += [ended(ledger, shown=answer(f"Answer {n}"), rank=RANDOM + n)[1] for n in range(1, 7)]
    with opened(chromium, alone) as page:
        begin(page, alone, key_of(alone, ""))
        page.keyboard.press("?")
        page.get_by_role("heading", name="Keys").wait_for()
        page.keyboard.press("r")  # the list is open: nothing is released
        page.keyboard.press("Escape")
        assert page.locator("mark").all_text_contents() == ["jo@headrace.io"]
        press(page, "r")
        page.keyboard.press("w")
        page.keyboard.type("rude")  # into the field: no key of these decides
        press(page, "Enter")
        page.keyboard.press("c")
        page.keyboard.press("Control+End")
        page.keyboard.type(" Or call.")
        press(page, "Control+Enter")
        assert page.locator("ins").all_text_contents() == [" Or call."]
        press(page, "y")
        page.keyboard.press("y")
        assert page.get_by_role("radio", checked=True).count() == 1  # one answer of two
        press(page, "n")
        press(page, "y")
        press(page, "s")
        press(page, "n")
        press(page, "u")
        press(page, "y")
        for _ in range(2):
            press(page, "y")
        press(page, "n")
        assert "No item waits for you" in page.locator("main").text_content()
        page.get_by_role("link", name="Progress").click()
        page.get_by_role("cell", name="Ada").wait_for()
    made = decisions(alone)
    assert [action for _, action, _ in made[:3]] == ["release", "withhold", "correct"]
    assert len(of_held) + len(asked) == 10
    assert [action for _, action, _ in made[3:]].count("undo") == 1
    assert {who for who, _, _ in made} == {"Ada"}


def test_without_javascript_buttons_decide(alone: Gateway, chromium: Browser):
    held(alone.services.ledger)
    ended(alone.services.ledger)
    with opened(chromium, alone, java_script_enabled=False) as page:
        begin(page, alone, key_of(alone, ""))
        page.locator("summary", has_text="Correct it").click()
        page.get_by_label("Your version").fill("Write to us.")
        page.get_by_role("button", name="See what changes").click()
        page.get_by_role("button", name="Send it").click()
        page.get_by_label("yes").check()
        page.get_by_role("button", name="Record").click()
        page.get_by_role("button", name="Undo the last label").click()
        page.get_by_role("button", name="Skip").click()
        assert "No item waits for you" in page.locator("main").text_content()
    assert [action for _, action, _ in decisions(alone)] == ["correct", "label", "undo"]
