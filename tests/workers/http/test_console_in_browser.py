"""The console in Chromium: what people see and do, with JavaScript and without."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import pytest
from tests.services.eventually import eventually
from tests.workers.changed_settings import changed
from tests.workers.http.prefix_proxy import prefix_proxy
from tests.workers.http.served import Gateway, end_with, fail, served

from headrace_schemas import Answer, JudgeVerdict, ModerationVerdict, Result, Score, Usage
from headrace_schemas.errors import Unavailable
from headrace_schemas.events import Unsupported
from headrace_schemas.grounding import Citation, Grounding
from headrace_schemas.moderation import Finding
from headrace_workers.features.console import store
from headrace_workers.runtime.settings import GatewaySettings, Settings

Browser, Page = Any, Any
_WAIT: Final = 120_000  # ms, for a busy machine
_PICTURES: Final = Path(__file__).parents[3] / "docs" / "pictures"

# Of public collections: OWASP's cheat sheet on filter evasion, PortSwigger's cheat sheet, and polyglots of both.
PAYLOADS: Final = (
    "<script>window.hit=1</script>",
    "<img src=x onerror=window.hit=1>",
    "<svg/onload=window.hit=1>",
    "<svg><script>window.hit=1</script></svg>",
    "<iframe srcdoc='<script>parent.hit=1</script>'></iframe>",
    "<body onload=window.hit=1>",
    "<details open ontoggle=window.hit=1>",
    "<video><source onerror=window.hit=1>",
    "<input autofocus onfocus=window.hit=1>",
    "<a href=javascript:window.hit=1>x</a>",
    "<form action=javascript:window.hit=1><button>x</button></form>",
    "<math><mi//xlink:href='data:x,<script>window.hit=1</script>'>",
    "<template><script>window.hit=1</script></template>",
    "<style>@import'//evil.example';</style>",
    "<base href=//evil.example/>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "<object data=data:text/html,<script>window.hit=1</script>>",
    '"><script>window.hit=1</script>',
    "'><img src=x onerror=window.hit=1>",
    '" autofocus onfocus="window.hit=1',
    "</textarea><script>window.hit=1</script>",
    "</title><script>window.hit=1</script>",
    "<!--<img src='--><img src=x onerror=window.hit=1>//'>",
    "<div hx-get='//evil.example' hx-trigger=load>x</div>",
    "<div data-hx-on:load='window.hit=1'>x</div>",
    "<div hx-on::after-request='window.hit=1' hx-get=part hx-trigger=load></div>",
    "{{7*7}}${7*7}<%= 7*7 %>#{7*7}",
    "javascript:/*--></title></style></textarea></script></xmp><svg/onload='+/\"`/+/onmouseover=1/+/[*/[]/+window.hit=1//'>",
    "\u202e\u2066<script>window.hit=1</script>\u2069",
)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    reason = "playwright is not installed: `pip install playwright`"
    sync_api = pytest.importorskip("playwright.sync_api", reason=reason)
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("Chromium is not installed: `apt-get install chromium`")
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield found
        found.close()


@contextmanager
def opened(chromium: Browser, gateway: Gateway | str, place: str = "", **options: Any) -> Iterator[Page]:
    """A page of the console. At the end nothing was refused by the policy, and no script failed."""
    context = chromium.new_context(**{"viewport": {"width": 1440, "height": 900}, **options})
    context.set_default_timeout(_WAIT)
    page, faults = context.new_page(), list[str]()
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("dialog", lambda dialog: (faults.append("a dialog"), dialog.dismiss()))
    page.on("console", lambda said: faults.append(said.text) if "Security Policy" in said.text else None)
    try:
        page.goto(f"{gateway if isinstance(gateway, str) else gateway.url}/console/{place}")
        yield page
        assert faults == []
    finally:
        context.close()


def sign_in(page: Page, key: str, name: str = "Ada") -> None:
    page.get_by_label("Your name").fill(name)
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="Playground").wait_for()


def ask(page: Page, question: str, model: str = "echo") -> str:
    """Send a question by the keyboard; return the job's id."""
    page.get_by_label("Model or application").select_option(model)
    page.locator("[name=question]").fill(question)
    page.locator("[name=question]").press("Control+Enter")
    page.wait_for_url("**/playground/*-*/")
    return str(page.url.split("/")[-2])


def receipt(job_id: str, text: str, **fields: Any) -> Result:
    """A receipt that has something in each of its parts."""
    citations = tuple(
        Citation(number=number, document=name, section="Water", start=0, stop=9, chunk="c", relevance=0.5,
                 cited=number == 1)
        for number, name in ((1, "mills.md"), (2, "a-long-name-of-a-document-without-any-space-" * 3))
    )  # fmt: skip
    return Result(**{
        "job_id": job_id, "tenant": "default", "status": "completed", "kind": "generation",
        "answer": Answer(
            text=text, finish_reason="stop", model="echo", quantization="int8",
            usage=Usage(prompt_tokens=70, completion_tokens=31),
            grounding=Grounding(knowledge="mills", floor=0.2, citations=citations, unknown=(7,)),
        ),
        "moderation": ModerationVerdict(action="allow"),
        "judge": JudgeVerdict(scores=(Score(criterion="rubric", name="polite", value=0.93, model="echo"),)),
        "accepted_at": datetime(2026, 11, 26, tzinfo=UTC),
        **fields,
    })  # fmt: skip


def taken(gateway: Gateway, job_id: str) -> None:
    eventually(lambda: gateway.services.ledger.job(job_id))


def test_a_person_signs_in_asks_and_sees_the_answer_with_its_receipt(gateway: Gateway, chromium: Browser):
    with opened(chromium, gateway) as page:
        sign_in(page, gateway.key())
        ask(page, "Write to ann@headrace.io about water.")
        page.locator("#answer").wait_for()
        assert page.locator("#answer").text_content() == "Write to [EMAIL] about water."
        assert page.locator("#answer mark").get_attribute("title") == "redacted: email"
        assert page.locator(".step-name small").all_text_contents() == ["generate", "moderate", "judge"]
        assert page.locator("#job").get_attribute("hx-trigger") is None  # it asks no more
        names, values = (page.locator(f".facts {kind}").all_text_contents() for kind in ("dt", "dd"))
        facts = dict(zip(names, values, strict=True))
        assert (facts["model"], facts["cost"], facts["cache"]) == ("echo", "no price is set", "not asked")
        code = page.locator(".snippet code").all_text_contents()
        assert [text.split()[0] for text in code] == ["curl", "import", "from"]
        assert all("ann@headrace.io" in text for text in code)
        page.get_by_role("link", name="Continue the conversation").click()
        assert page.locator("[name=content]").first.input_value() == "Write to ann@headrace.io about water."
        page.get_by_role("button", name="Sign out").click()
        page.get_by_role("heading", name="Sign in").wait_for()


@pytest.mark.slow
def test_payloads_stay_text(alone: Gateway, bridge: Callable[[], Any], chromium: Browser):
    every = "\n".join(PAYLOADS)
    with bridge(), opened(chromium, alone) as page:
        sign_in(page, alone.key(), name=PAYLOADS[0])
        job_id = ask(page, every)
        taken(alone, job_id)
        citation = Citation(
            number=1, document=PAYLOADS[1], section=PAYLOADS[2], start=0, stop=9, chunk="c", relevance=0.5, cited=True
        )
        answer = Answer(
            text=f"[1] {every}", finish_reason="stop", model="echo", quantization="none", returned_model=PAYLOADS[3],
            usage=Usage(prompt_tokens=7, completion_tokens=3), because=PAYLOADS[4],
            grounding=Grounding(knowledge="mills", floor=0.2, citations=(citation,)),
        )  # fmt: skip
        verdict = ModerationVerdict(
            action="allow", reason=PAYLOADS[5], policy=PAYLOADS[6], categories={"personal_data": True},
            findings=(Finding(category="email", detector="x", score=1.0, start=4, end=40, action="allow"),),
        )  # fmt: skip
        scores = (Score(criterion="rubric", name="polite", value=0.5, note=PAYLOADS[17]),)
        result = receipt(job_id, "", answer=answer, moderation=verdict, judge=JudgeVerdict(scores=scores))
        end_with(alone.services.ledger, job_id, "done", result)
        page.locator("#answer").wait_for()
        assert page.locator("#answer").text_content() == f"[1] {every}"
        assert page.locator(".conversation .text").text_content() == every
        assert {PAYLOADS[number] for number in (1, 2, 4, 5, 6, 17)} <= set(_texts(page))
        _nothing_ran(page)
        page.get_by_role("link", name="Ask again").click()
        assert page.locator("[name=question]").input_value() == every
        _nothing_ran(page)
        job_id = ask(page, "x")
        taken(alone, job_id)
        fail(alone.services.ledger, job_id, "unparsable", PAYLOADS[0])
        page.locator("#missing").wait_for()
        _nothing_ran(page)
        for payload in PAYLOADS:
            page.goto(f"{alone.url}/console/{payload.replace('/', '%2F').replace('?', '%3F').replace('#', '%23')}")
            _nothing_ran(page)


def _texts(page: Page) -> list[str]:
    """The texts of all elements, each as a whole and by its parts."""
    found = page.evaluate(
        "[...document.querySelectorAll('main *')].flatMap(e => [e.textContent.trim(), ...e.textContent.split(' · ')])"
    )
    return [text.strip() for text in found]


def _nothing_ran(page: Page) -> None:
    assert page.evaluate("window.hit") is None
    assert page.locator("main :is(script, iframe, img, object, video, math, style, base, meta, template)").count() == 0
    own = "[...document.querySelectorAll('*')].flatMap(e => [...e.attributes].map(a => a.name + '=' + a.value))"
    attributes = [text for text in page.evaluate(own) if text.startswith(("on", "hx-", "data-hx", "style"))]
    assert set(attributes) <= {"hx-get=part", "hx-trigger=every 1s", "hx-trigger=every 5s", "hx-swap=outerMorph"}


@pytest.mark.slow
def test_it_works_behind_a_prefix(settings: Settings, bridge: Callable[[], Any], chromium: Browser):
    with prefix_proxy("/mill") as proxy:
        with served(changed(settings, GatewaySettings(public_url=proxy.url))) as gateway, bridge():
            proxy.port_behind = int(gateway.url.rpartition(":")[2])
            with opened(chromium, proxy.url) as page:
                sign_in(page, gateway.key())
                assert {cookie["path"] for cookie in page.context.cookies()} == {"/mill/console"}
                job_id = ask(page, "What flows?")
                taken(gateway, job_id)
                end_with(gateway.services.ledger, job_id, "done", receipt(job_id, "Water."))
                page.locator("#answer").wait_for()
                page.get_by_role("link", name="New question").click()
                page.wait_for_url(f"{proxy.url}/console/playground/")
        assert all(path.startswith("/mill/console/") for path in proxy.asked)


@pytest.mark.slow
def test_without_javascript_one_asks_and_looks_again(gateway: Gateway, chromium: Browser):
    with opened(chromium, gateway, java_script_enabled=False) as page:
        sign_in(page, gateway.key())
        page.locator("[name=question]").fill("What flows?")
        page.get_by_label("Model or application").select_option("echo")
        page.get_by_role("button", name="Ask").click()

        def is_over() -> bool:
            if page.locator("#answer").count():
                return True
            page.get_by_role("link", name="Look again").click()
            return False

        eventually(is_over)
        assert page.locator("#answer").text_content() == "What flows?"
        assert page.get_by_role("button", name="Copy").count() == 0


@pytest.mark.slow
def test_a_lost_connection_is_told_and_comes_back(
    alone: Gateway, bridge: Callable[[], Any], chromium: Browser, monkeypatch: pytest.MonkeyPatch
):
    with bridge(), opened(chromium, alone) as page:
        sign_in(page, alone.key())
        job_id = ask(page, "What flows?")
        page.context.set_offline(True)
        page.get_by_text("The gateway does not answer").wait_for()
        page.context.set_offline(False)
        page.get_by_text("The gateway does not answer").wait_for(state="hidden")
        with monkeypatch.context() as away:

            def fail_to_look(*_: object) -> None:
                raise Unavailable("no route")

            away.setattr(store.ConsoleSessions, "find", fail_to_look)
            page.get_by_role("heading", name="Not ready").wait_for()
            assert "tries again every second" in page.locator("#job").text_content()
        taken(alone, job_id)
        end_with(alone.services.ledger, job_id, "done", receipt(job_id, "Water."))
        page.locator("#answer").wait_for()


@pytest.mark.slow
@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_pages_fit_and_axe_finds_no_serious_fault(
    alone: Gateway, bridge: Callable[[], Any], chromium: Browser, tmp_path: Path, width: int, colours: str
):
    axe = pytest.importorskip("axe_playwright_python", reason="axe-core is not installed")
    program = files(axe).joinpath("axe.min.js").read_text(encoding="utf-8")
    options = {"viewport": {"width": width, "height": 900}, "color_scheme": colours}

    def looked_at(page: Page, name: str) -> None:
        page.screenshot(path=tmp_path / f"{name}.png", full_page=True)
        assert page.evaluate("document.scrollingElement.scrollWidth") <= width, name
        page.evaluate(program)
        found = page.evaluate("axe.run()")["violations"]
        faults = [(fault["id"], fault["nodes"][0]["html"][:200]) for fault in found if fault["impact"] in _SERIOUS]
        assert faults == [], name

    with bridge(), opened(chromium, alone, **options) as page:
        looked_at(page, "sign-in")
        sign_in(page, alone.key())
        for details in page.locator("summary").all():
            details.click()
        looked_at(page, "form")
        job_id = ask(page, "Why does a mill need a headrace? Write to ann@headrace.io, " + "and on " * 40)
        taken(alone, job_id)
        looked_at(page, "waits")
        text = "It leads the water to the wheel [1]. Ask [EMAIL]. Nobody knows more [7]. " + "x" * 300
        verdict = ModerationVerdict(
            action="redact", categories={"personal_data": True, "profanity": False},
            findings=(Finding(category="email", detector="person", score=1.0, start=41, end=57, action="redact"),),
        )  # fmt: skip
        doubt = Unsupported(start=50, stop=72, support=0.1, reason="no passage says so", checked=True)
        scores = (
            Score(criterion="rubric", name="polite", value=0.93, model="echo"),
            Score(criterion="grounded", value=0.5, unsupported=(doubt,)),
        )
        ended = receipt(job_id, text, moderation=verdict, judge=JudgeVerdict(scores=scores))
        end_with(alone.services.ledger, job_id, "done", ended)
        page.locator("#answer").wait_for()
        assert page.locator("#answer mark").all_text_contents() == ["[EMAIL]", "Nobody knows more [7]."]
        page.get_by_role("link", name="[1]").click()
        for details in page.locator("summary").all():
            details.click()
        looked_at(page, "ended")
        page.goto(f"{alone.url}/console/nothing")
        looked_at(page, "nothing")


_SERIOUS: Final = ("serious", "critical")


@pytest.mark.slow
@pytest.mark.skipif("DRAW_PICTURES" not in os.environ, reason="`make pictures` draws it")
def test_the_picture_of_the_documentation(gateway: Gateway, chromium: Browser):
    with opened(chromium, gateway, viewport={"width": 1200, "height": 820}) as page:
        sign_in(page, gateway.key())
        page.get_by_label("Model or application").select_option("echo")
        ask(page, "Write to ann@headrace.io that the headrace is open, and the wheel turns again.")
        page.locator("#answer").wait_for()
        page.screenshot(path=_PICTURES / "console.png")
