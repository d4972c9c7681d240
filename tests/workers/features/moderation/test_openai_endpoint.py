"""OpenAI's moderation endpoint as a detector, against a server of our own that speaks like it."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from headrace_schemas import HeadraceError
from headrace_schemas.errors import ConfigurationError, Unavailable
from headrace_workers.features.moderation.detector import Detection, Moderation
from headrace_workers.features.moderation.moderator import Aids, PolicyModerator, warm_up, with_policy
from headrace_workers.features.moderation.openai_endpoint import Endpoint, OpenAIDetector
from headrace_workers.features.moderation.policy_file import load_policy
from headrace_workers.features.moderation.settings import ModerationSettings

Answer = Callable[[dict[str, Any]], Any]


@pytest.fixture(autouse=True)
def _no_network() -> None:
    """This one reaches for the network, and for this machine alone."""


class Service:
    """An endpoint; `answer` makes its answer of a request's body, as JSON or as bytes."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.answer: Answer = scored(lambda text: {"violence": 0.9 if "smash" in text else 0.01})
        self.status, self.drip = 200, 0.0
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                service.asked.append(body)
                service.keys.append(self.headers["Authorization"])
                said = service.answer(body)
                content = said if isinstance(said, bytes) else json.dumps(said).encode()
                self.send_response(service.status)
                self.send_header("Location", service.url)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                for at in range(len(content)) if service.drip else ():
                    self.wfile.write(content[at : at + 1])
                    time.sleep(service.drip)
                if not service.drip:
                    self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/moderations"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def detector(self, key: str | None = None) -> OpenAIDetector:
        return OpenAIDetector(Endpoint(self.url, "omni", 60.0, key))


def scored(score: Callable[[str], dict[str, float]]) -> Answer:
    """What OpenAI answers, with these scores of each text."""

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        found = [{"flagged": False, "categories": {}, "category_scores": score(text)} for text in body["input"]]
        return {"id": "modr-1", "model": body["model"], "results": found}

    return answer


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_what_the_service_scores_is_found(service: Service) -> None:
    found = service.detector(key="sk-1").detect(["smash it", "", "be kind"])
    assert found == [[Detection("violence", 0.9, 0, 8)], [], [Detection("violence", 0.01, 0, 7)]]
    assert service.asked == [{"model": "omni", "input": ["smash it", "be kind"]}]
    assert service.keys == ["Bearer sk-1"]
    service.detector().detect(["x"])
    assert service.keys[1] is None


def test_many_and_long_texts_are_asked_about_in_parts(service: Service) -> None:
    long = "word " * 39_998 + "smash now."
    found = service.detector().detect([long, *("x",) * 60])
    assert [len(entry["input"]) for entry in service.asked] == [32, 32, 7]
    assert all(len(text) <= 20_000 for entry in service.asked for text in entry["input"])
    (sure,) = [detection for detection in found[0] if detection.score > 0.5]
    assert "smash" in long[sure.start : sure.end]
    assert sure.end == len(long) == 200_000
    assert [len(group) for group in found[1:]] == [1] * 60


def test_a_policy_names_it_and_says_what_is_done(service: Service, tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text(
        f'[detectors.openai]\nurl = "{service.url}"\nmodel = "omni"\ntimeout = 20\n'
        '[categories]\nviolence = { action = "block", min_score = 0.8 }\n'
    )
    moderator = with_policy([], load_policy(tmp_path / "policy.toml"), Aids(openai_key="sk-2"))
    bad, good = moderator.moderate(["smash it", "be kind"])
    assert isinstance(bad, Moderation)
    assert isinstance(good, Moderation)
    assert (bad.action, good.action) == ("block", "allow")
    assert good.verdict.category_scores["violence"] == 0.01
    assert good.verdict.category_scores["sexual/minors"] == 0.0
    assert bad.verdict.detectors["openai"].endswith("+omni")
    assert service.keys == ["Bearer sk-2"]
    assert "sk-2" not in repr(Aids(openai_key="sk-2")) + repr(Endpoint("u", "m", 1.0, "sk-2"))


@pytest.mark.parametrize(
    ("answer", "status", "why"),
    [
        (lambda _: {}, 500, "answers 500"),
        (lambda _: {}, 302, "answers 302"),
        (lambda _: b"<html>", 200, "does not have OpenAI's format"),
        (lambda _: b"[" * 100_000, 200, "does not have OpenAI's format"),
        (lambda _: {"results": [{"category_scores": {"violence": "high"}}]}, 200, "does not have OpenAI's format"),
        (lambda _: {"results": []}, 200, "answers 0 texts of 1"),
        (lambda _: {"results": [{"category_scores": {"violence": -0.1}}]}, 200, "does not have OpenAI's format"),
        (lambda _: b'{"results": [{"category_scores": {"violence": NaN}}]}', 200, "does not have OpenAI's format"),
        (lambda _: {"results": [{"category_scores": {}}]}, 200, "does not have OpenAI's format"),
        (lambda _: {"results": [{"category_scores": {"weather": 0.1}}]}, 200, "does not have OpenAI's format"),
        (lambda _: {"results": [{"category_scores": {"violence": 0}}] * 2}, 200, "answers 2 texts of 1"),
        (lambda _: b" " * 5_000_000, 200, "does not finish"),
    ],
    ids=["error", "elsewhere", "html", "deep", "no number", "too few", "below zero", "not a number", "empty",
         "nothing known", "too many", "endless"],
)  # fmt: skip
def test_what_is_no_answer_is_raised(service: Service, answer: Answer, status: int, why: str) -> None:
    service.answer, service.status = answer, status
    with pytest.raises(Unavailable, match=why) as raised:
        service.detector(key="sk-secret").detect(["my words"])
    assert "my words" not in str(raised.value)
    assert "sk-secret" not in str(raised.value)
    assert len(service.asked) == 1


def test_a_score_that_is_none_holds_the_text(service: Service) -> None:
    service.answer = scored(lambda _: {"violence": 1.5})
    (verdict,) = PolicyModerator([service.detector()], load_policy()).moderate(["x"])
    assert isinstance(verdict, HeadraceError)


def test_a_service_that_answers_byte_by_byte_is_given_up(service: Service) -> None:
    service.drip = 0.02
    clock = count(0.0, 25.0)  # at each look so much later
    with pytest.raises(Unavailable, match="does not finish"):
        OpenAIDetector(Endpoint(service.url, "omni", 60.0, None), lambda: next(clock)).detect(["x"])


def test_one_that_is_away_is_told(service: Service) -> None:
    service.server.shutdown()
    service.server.server_close()
    with pytest.raises(Unavailable, match="does not answer: ConnectError"):
        service.detector().detect(["x"])


def test_one_that_is_away_stops_no_worker_from_starting(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    moderator = PolicyModerator([service.detector()], load_policy())
    service.status = 503
    warm_up(moderator)
    why = "moderation detector openai: the moderation endpoint answers 503; the output is held"
    assert caplog.messages[-1] == why
    (verdict,) = moderator.moderate(["x"])
    assert isinstance(verdict, Unavailable)
    assert str(verdict) == why
    service.status = 200
    (verdict,) = moderator.moderate(["x"])
    assert isinstance(verdict, Moderation)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_one_that_refuses_is_told_at_the_start(service: Service, status: int) -> None:
    service.status = status
    with pytest.raises(Unavailable, match=f"the moderation endpoint answers {status}"):
        warm_up(PolicyModerator([service.detector()], load_policy()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[detectors.other]\n", "line 1: detectors.other: unknown key; known are guard, injection_head, names, openai"),
        ("detectors = 1\n", "line 1: detectors: must be a table"),
        ('[detectors.openai]\nmodel = "m"\n', "line 1: detectors.openai.url: is None, but must be an http"),
        *(
            (f'[detectors.openai]\nurl = "{url}"\nmodel = "m"\n', "line 2: detectors.openai.url: is '")
            for url in ("file:///etc/passwd", "http://u:p@a")
        ),
        ('[detectors.openai]\nurl = "http://a"\n', "detectors.openai.model: must name one"),
        ('[detectors.openai]\nurl = "http://a"\nmodel = "m"\ntimeout = 61\n', "at most 60"),
        ('[detectors.openai]\nurl = "http://a"\nmodel = "m"\nkey = "sk"\n', "line 4: detectors.openai.key: unknown"),
        ("[detectors.guard]\n", "detectors.guard.model: must be the alias of a model"),
        ('[detectors.guard]\nmodel = "a b"\n', "line 2: detectors.guard.model: must be the alias of a model"),
    ],
)
def test_a_policy_that_names_it_wrongly_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "policy.toml").write_text(text)
    with pytest.raises(ConfigurationError) as raised:
        load_policy(tmp_path / "policy.toml")
    assert message in str(raised.value)


def key_in(env: dict[str, str]) -> str | None:
    return ModerationSettings.from_env(env).moderation_key


def test_the_key_is_the_environments(tmp_path: Path) -> None:
    """Or a file's; one that could not be sent is refused, and not shown."""
    (tmp_path / "key").write_text("sk-file\n")
    assert key_in({}) is None
    assert key_in({"HEADRACE_MODERATION_KEY": " sk-1 "}) == "sk-1"
    named = {"HEADRACE_MODERATION_KEY": "sk-1", "HEADRACE_MODERATION_KEY_FILE": str(tmp_path / "key")}
    assert key_in(named) == "sk-file"
    with pytest.raises(ConfigurationError, match="cannot read"):
        key_in({"HEADRACE_MODERATION_KEY_FILE": str(tmp_path / "none")})
    with pytest.raises(ConfigurationError) as raised:
        key_in({"HEADRACE_MODERATION_KEY": "sk-\nX: y"})
    assert "sk-" not in str(raised.value)
