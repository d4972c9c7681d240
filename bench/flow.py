"""Jobs through a running pipeline: published at once, then waited for."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from bench.ends import Ends, Say
from headrace_producers import Producer

REQUESTS = Path(__file__).with_name("requests.jsonl")
T = TypeVar("T")
ECHO = "echo"
ECHO_TOKENS = 16  # the answer of an echo job: moderation reads it, and this is about the plumbing
SMOLLM2 = "smollm2-135m-instruct"


@dataclass(frozen=True, slots=True)
class Flow:
    """How it went, in seconds since the first was sent: until all were published, and until the last had ended."""

    count: int
    published: float
    ended: float
    results: Mapping[str, Any] = field(default_factory=dict)
    job_ids: Sequence[str] = ()

    @property
    def rate(self) -> float:
        """Jobs a second, publishing included."""
        return self.count / self.ended


def requests(count: int) -> list[dict[str, Any]]:
    """Real requests, no two alike: those of a file again and again, each time about another case.

    Each has a prompt, and the criteria that need no model, so that the pipeline asks the model nothing that a plain
    script would not.
    """
    lines = [json.loads(line) for line in REQUESTS.read_text(encoding="utf-8").splitlines()]
    return [_vary(lines[number % len(lines)], number // len(lines)) for number in range(count)]


def _vary(line: Mapping[str, Any], turn: int) -> dict[str, Any]:
    criteria = [criterion for criterion in line.get("criteria", ()) if criterion["criterion"] != "rubric"]
    prompt = f"Case {turn + 1}. {line['prompt']}" if turn else line["prompt"]
    return {"prompt": prompt, "criteria": criteria, "reference": line.get("reference")}


def run(producer: Producer, ends: Ends, jobs: Sequence[Mapping[str, Any]], say: Say, *, keep: bool = False) -> Flow:
    """Publish all (arguments of `Producer.generate`), wait until all have ended."""
    begun = time.monotonic()
    job_ids = [producer.generate(**job) for job in jobs]
    producer.flush(120)
    published = time.monotonic() - begun
    ended = ends.wait(job_ids, say, keep=keep)
    return Flow(len(jobs), published, ended.last_at - begun, ended.values, job_ids)


def in_turn(sides: Iterable[T], turn: int) -> list[T]:
    """Return the sides in the order of this turn: each is the first as often as the other."""
    return list(sides)[:: -1 if turn % 2 else 1]


def echo_jobs(count: int) -> Iterator[dict[str, Any]]:
    """Batch jobs for the echo."""
    for request in requests(count):
        yield {"model": ECHO, "prompt": request["prompt"], "max_tokens": ECHO_TOKENS, "lane": "batch"}


def make_home(folder: Path, *models: str) -> Path:
    """A home with these models: the echo, or what `headrace models pull` knows, in int8.

    Cards name no repetition penalty: the plain scripts that headrace is compared with have none.
    """
    from headrace_workers.models.pull import pull
    from headrace_workers.models.registry import write_card
    from headrace_workers.testing import make_echo_model

    home = folder / "home"
    for model in models:
        if model == ECHO:
            make_echo_model(home)
        else:
            card = pull(model, home, "int8")
            write_card(home / "models" / model, replace(card, repetition_penalty=1.0))
    return home
