"""The page *Set aside* in Chromium: a double click, two tabs, and without JavaScript."""

import os
from importlib.resources import files
from pathlib import Path

import pytest
from sqlalchemy import select
from tests.workers.features.console.aside_rows import bury, hold, refuse
from tests.workers.http.served import Gateway
from tests.workers.http.test_console_in_browser import (
    _PICTURES,
    _SERIOUS,
    Browser,
    Page,
    chromium,
    opened,
    sign_in,
)

from headrace_workers.core.tables import JOBS

__all__ = ["chromium"]
pytestmark = pytest.mark.slow


def begin(page: Page, gateway: Gateway, kind: str = "Held steps") -> None:
    sign_in(page, gateway.key())
    page.get_by_role("link", name="Set aside").click()
    page.get_by_role("link", name=kind).click()


def preview(page: Page, act: str, stage: str) -> None:
    page.get_by_label("Stage").fill(stage)
    page.get_by_role("button", name="Show").click()
    page.get_by_role("button", name=f"{act} …").click()
    page.get_by_role("heading", name="Nothing is done yet").wait_for()


def replays(gateway: Gateway) -> list[int]:
    return sorted(row.replays for row in gateway.services.ledger.read(select(JOBS.c.replays)))


def test_without_javascript_a_plan_is_carried_out(alone: Gateway, chromium: Browser):
    hold(alone.services.ledger)
    with opened(chromium, alone, java_script_enabled=False) as page:
        begin(page, alone)
        preview(page, "Withhold", "moderate")
        page.get_by_label("Reason, which the jobs’ senders read").fill("It names a customer.")
        page.get_by_role("button", name="Withhold 1 held job").click()
        while page.get_by_role("heading", name="Under way").count():
            page.get_by_role("link", name="Look again").click()
        assert page.locator("#done").text_content() == "1"


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_pages_of_what_is_set_aside_fit_and_axe_finds_no_serious_fault(
    alone: Gateway, chromium: Browser, tmp_path: Path, width: int, colours: str
):
    axe = pytest.importorskip("axe_playwright_python", reason="axe-core is not installed")
    program = files(axe).joinpath("axe.min.js").read_text(encoding="utf-8")
    ledger = alone.services.ledger
    hold(ledger, 90_000_000, tenant="acme", application="ticket-triage@3", reason="moderation asks for a review: email")
    hold(ledger, 7_000, stage="screen", ready_at=77, reason="the detector did not answer " + "x" * 90, queue="screen")
    hold(ledger, 6_000, queue="model.llama-3-8b")
    for name in ("transient", "permanent", "poison"):
        bury(ledger, category=name, application="ticket-triage@3", reason=f"the model did not answer in time: {name}")
    refuse(ledger, truncated=True, reason="sampling.max_tokens is 40000; the limit is 32768. " + "y" * 200)

    def looked_at(page: Page, name: str) -> None:
        page.screenshot(path=tmp_path / f"{name}.png", full_page=True)
        assert page.evaluate("document.scrollingElement.scrollWidth") <= width, name
        page.evaluate(program)
        found = page.evaluate("axe.run()")["violations"]
        assert [fault["id"] for fault in found if fault["impact"] in _SERIOUS] == [], name

    with opened(chromium, alone, viewport={"width": width, "height": 900}, color_scheme=colours) as page:
        sign_in(page, alone.key())
        page.goto(f"{alone.url}/console/aside/")
        looked_at(page, "held")
        preview(page, "Withhold", "moderate")
        looked_at(page, "planned")
        page.goto(f"{alone.url}/console/aside/?kind=dead")
        looked_at(page, "dead")
        preview(page, "Replay", "generate")
        page.get_by_role("button", name="Replay 3 dead letters").click()
        page.get_by_role("heading", name="Done").wait_for()
        looked_at(page, "done")
        page.goto(f"{alone.url}/console/aside/?kind=dead&stage=x")
        looked_at(page, "empty")


@pytest.mark.skipif("DRAW_PICTURES" not in os.environ, reason="`make pictures` draws it")
def test_the_picture_of_what_is_set_aside(alone: Gateway, chromium: Browser):
    why = "the model did not answer within 30 s, three times"
    for hours in range(1, 5):
        bury(alone.services.ledger, hours * 3_600_000, category="transient", application="ticket-triage@3", reason=why)
    with opened(chromium, alone, viewport={"width": 1200, "height": 820}) as page:
        begin(page, alone, "Dead letters")
        preview(page, "Replay", "generate")
        page.screenshot(path=_PICTURES / "console-aside.png")
