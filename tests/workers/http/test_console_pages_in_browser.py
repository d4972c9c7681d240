import pytest
from tests.workers.http.served import Gateway
from tests.workers.http.test_console_in_browser import Browser, chromium, opened, sign_in
from tests.workers.ledger_jobs import take_in
from tests.workers.runtime.bridge.records import generation

from headrace_workers.core.ledger.incidents import tell
from headrace_workers.core.sql.database import writing

__all__ = ["chromium"]
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("width", [1440, 390])
def test_an_operator_sees_what_is_wrong_without_a_reload_and_cancels_the_job(
    alone: Gateway, chromium: Browser, width: int
):
    ledger = alone.services.ledger
    with opened(chromium, alone, viewport={"width": width, "height": 900}) as page:
        sign_in(page, alone.key())
        page.get_by_role("link", name="Now").click()
        page.get_by_role("heading", name="Nothing is wrong").wait_for()
        (job_id,) = take_in(ledger, [generation(prompt="What flows?")])
        with writing(ledger.engine) as tx:
            tell(tx, "bridge", "relay", {"long-name-" * 20: "<img src=x onerror=window.hit=1>" * 9})
        page.get_by_role("heading", name="What is wrong").wait_for()
        assert page.get_by_text("headrace worker --role generate --model echo").count() == 1
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.get_by_role("link", name="Jobs").click()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.get_by_label("Any id").fill(job_id)
        page.get_by_role("button", name="Find").click()
        page.wait_for_url(f"**/jobs/{job_id}/")
        page.get_by_role("button", name="Cancel this job").dblclick()
        page.locator("#missing").wait_for()
        assert page.locator("#missing").text_content() == "cancelled in the console by Ada"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.evaluate("window.hit") is None
