import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
from tests.services.eventually import eventually

from headrace_schemas import GenerationJob
from headrace_workers.features.knowledge.grounding import cited
from headrace_workers.features.knowledge.prompt import passages_of
from headrace_workers.features.moderation.detector import Moderation
from headrace_workers.features.moderation.moderator import PolicyModerator, build_moderator
from headrace_workers.features.webhooks.sender import Letter, Reply, Sender
from headrace_workers.features.webhooks.signing import new_secret
from headrace_workers.features.webhooks.store.deliveries import body
from headrace_workers.features.webhooks.targets import Reach
from headrace_workers.runtime.embedded.free_ports import free_ports

LINES = (Path(__file__).parent.parent / "examples" / "jobs.jsonl").read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def moderator() -> PolicyModerator:
    return build_moderator()


@pytest.mark.parametrize("line", LINES)
def test_every_line_is_a_job(line: str) -> None:
    job = GenerationJob.model_validate_json(line, strict=True)
    assert 1 <= len(job.criteria) <= 3
    assert "kind" in job.metadata
    compares = {c.criterion for c in job.criteria} & {"exact_match", "f1", "chrf", "bleu"}
    assert not compares or job.reference


def test_the_kinds_are_those_that_a_small_model_does_well() -> None:
    jobs = [GenerationJob.model_validate_json(line, strict=True) for line in LINES]
    assert len(set(LINES)) == 33
    kinds = Counter(job.metadata["kind"] for job in jobs)
    assert kinds == {"classification": 9, "extraction": 7, "question": 5, "rewriting": 6, "moderation": 6}
    for job in jobs:
        assert [message.role for message in job.messages] == [
            "system",
            *["user", "assistant"] * (len(job.messages) // 2 - 1),
            "user",
        ]
        assert (job.sampling.temperature, job.sampling.stop) == (0.0, ("\n",))
        assert job.sampling.max_tokens <= 48


def test_what_must_be_moderated_would_be(moderator: PolicyModerator) -> None:
    jobs = [GenerationJob.model_validate_json(line, strict=True) for line in LINES]
    echoes = [j.question for j in jobs if j.metadata["kind"] == "moderation"]
    verdicts = [v for v in moderator.moderate(echoes) if isinstance(v, Moderation)]
    categories = {f.category for v in verdicts for f in v.findings}
    assert Counter(v.action for v in verdicts) == {"redact": 6}
    assert categories == {"card", "email", "phone", "secret", "iban", "profanity"}


def test_the_other_texts_are_clean(moderator: PolicyModerator) -> None:
    jobs = [GenerationJob.model_validate_json(line, strict=True) for line in LINES]
    clean = [job for job in jobs if job.metadata["kind"] != "moderation"]
    for job, verdict in zip(clean, moderator.moderate([job.question for job in clean]), strict=True):
        assert isinstance(verdict, Moderation)
        assert verdict.findings == (), job.question


QUESTIONS = (Path(__file__).parent.parent / "examples" / "questions.jsonl").read_text(encoding="utf-8").splitlines()


def test_the_questions_are_asked_of_documents() -> None:
    jobs = [GenerationJob.model_validate_json(line, strict=True) for line in QUESTIONS]
    assert {(job.knowledge, job.cache) for job in jobs} == {("museum", "exact")}
    kinds = Counter(job.metadata["kind"] for job in jobs)
    assert kinds == {"asked": 12, "repeated": 2, "elsewhere": 2}
    asked = {job.question for job in jobs if job.metadata["kind"] == "asked"}
    assert all((job.question in asked) == (job.metadata["kind"] in ("asked", "repeated")) for job in jobs)


def test_their_examples_cite_as_they_are_to_cite() -> None:
    for line in QUESTIONS:
        *shown, _ = GenerationJob.model_validate_json(line, strict=True).messages
        assert [message.role for message in shown] == ["user", "assistant"] * 2
        for asked, answered in zip(shown[::2], shown[1::2], strict=True):
            assert len(passages_of(asked.content)) == 1
            assert cited(answered.content, 1).numbers == (1,)


def test_what_they_look_for_is_in_the_documents() -> None:
    folder = Path(__file__).parent.parent / "examples" / "knowledge"
    text = " ".join(" ".join(path.read_text(encoding="utf-8").split()) for path in folder.glob("*.md"))
    jobs = [GenerationJob.model_validate_json(line, strict=True) for line in QUESTIONS]
    for job in jobs:
        for criterion in job.criteria:
            if criterion.criterion == "contains":
                assert criterion.text in text


RECEIVER = Path(__file__).parent.parent / "examples" / "receiver.py"


def test_the_receiver_of_webhooks_is_the_one_that_is_shown() -> None:
    page = (Path(__file__).parent.parent / "docs" / "how-to" / "receive-webhooks.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```python\n(import os.*?)```", page, re.DOTALL)
    code = RECEIVER.read_text(encoding="utf-8").partition('"""\n\n')[2]
    assert code == shown
    body = code.partition("def do_POST(self) -> None:\n")[2].partition("\n\n\n")[0]
    assert len([line for line in body.splitlines() if line.strip() not in ("try:", "")]) <= 10


README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def test_the_receiver_of_webhooks_works() -> None:
    """It takes what is signed with its secret, and nothing else."""
    secret, port = new_secret("v1"), free_ports(1)[0]
    with _started([sys.executable, str(RECEIVER), str(port)], Path.cwd(), secret) as said:
        eventually(lambda: _sent(port, secret).status == 204)
        assert said.readline() == "m-1 job.completed job-1\n"
        assert _sent(port, new_secret("v1")).status == 401


def test_readme_s_receiver_of_webhooks_has_ten_lines_and_works(tmp_path: Path) -> None:
    """It takes what is signed with its secret, and nothing else."""
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "standardwebhooks" in block]
    assert len([line for line in code.splitlines() if line]) <= 10
    (tmp_path / "receiver.py").write_text(code)
    (command,) = re.findall(r"`uvicorn ([^`]+)`", README)
    secret, port = new_secret("v1"), free_ports(1)[0]
    argv = [sys.executable, "-m", "uvicorn", *command.split(), "--port", str(port), "--log-level", "critical"]
    with _started(argv, tmp_path, secret) as said:
        eventually(lambda: _sent(port, secret).status == 200)
        assert said.readline() == "job.completed job-1\n"
        assert _sent(port, new_secret("v1")).error is not None


@contextmanager
def _started(argv: list[str], folder: Path, secret: str) -> Iterator[IO[str]]:
    """A receiver's process with this secret; what it says."""
    with subprocess.Popen(
        argv, env={**os.environ, "WEBHOOK_SECRET": secret}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True, cwd=folder,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            yield process.stdout
        finally:
            process.kill()


def _sent(port: int, key: str) -> Reply:
    """What the receiver says to an event that is signed with this secret."""
    content = body(message="m", event_type="job.completed", at_ms=1, data={"id": "job-1"})
    letter = Letter("m-1", f"http://127.0.0.1:{port}/hooks", content, (key,))
    (reply,) = Sender(Reach(http_loopback=True)).send("we_1", [letter], probing=True, patience=1)
    assert reply is not None
    return reply
