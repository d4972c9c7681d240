"""Embedding jobs through the pipeline, beside the embedder alone: seconds of CPU, since both sides take one core."""

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.deployment import deployment
from bench.ends import Ends, Say
from bench.flow import make_home
from bench.report import Report, Row, report, row
from bench.services import Services, services
from headrace_schemas.aliases import DEFAULT_EMBEDDER
from headrace_schemas.job import Lane
from headrace_workers.models.embedders.embedder import CountingEmbedder
from headrace_workers.models.embedders.load_embedder import load_embedder

NAME = "embedding"
PAGES = Path(__file__).parents[1] / "docs"
GROUP = 64  # texts of one call, as they come
_WARM_UP = 64
_RECALL = {"recall": ["--role", "recall"]}


def bench(say: Say, *, quick: bool = False, embedded: bool = False) -> Report:
    """2,000 texts (200 when quick): the embedder alone, all at once and in groups as they come; and as jobs."""
    count = 200 if quick else 2_000
    with services(embedded=embedded) as there:
        home = make_home(there.folder, DEFAULT_EMBEDDER)
        embedder = load_embedder(home, DEFAULT_EMBEDDER)
        asked = texts(count, embedder)
        say(f"{count:,} texts by the embedder alone, all at once")
        embedder.embed(asked[:_WARM_UP])
        whole = _seconds(embedder, [asked])
        say(f"the same, {GROUP} at a time as they come")
        as_they_come = _seconds(embedder, [asked[start : start + GROUP] for start in range(0, count, GROUP)])
        worker, rate = _as_jobs(there, home, asked, say)
        say("the embedder alone once more")
        whole = (whole + _seconds(embedder, [asked])) / 2
    return report(NAME, there.stack, rows(count, whole, as_they_come, worker, rate))


def rows(count: int, whole: float, as_they_come: float, worker: float, rate: float) -> list[Row]:
    """The figures: seconds of CPU of each side, and jobs a second on the clock."""
    return [
        row("embedder alone, all at once", 1000 * whole / count, "CPU ms/text"),
        row(f"embedder alone, {GROUP} at a time as they come", 1000 * as_they_come / count, "CPU ms/text"),
        row("recall worker", 1000 * worker / count, "CPU ms/job"),
        row("recall worker to the embedder alone, all at once", worker / whole, "ratio", at_most=1.25),
        row("embedding jobs, publishing included", rate, "jobs/s"),
    ]


def texts(count: int, embedder: CountingEmbedder) -> list[str]:
    """Paragraphs of our own pages, again and again, no two alike; each is read whole."""
    room = embedder.max_tokens - embedder.added_tokens - 8  # for its number
    paragraphs = [paragraph for paragraph in _paragraphs() if embedder.count_tokens(paragraph) <= room]
    return [f"{number} {paragraphs[number % len(paragraphs)]}" for number in range(count)]


def _paragraphs() -> Iterator[str]:
    for path in sorted(PAGES.rglob("*.md")):
        for part in path.read_text(encoding="utf-8").split("\n\n"):
            if part[:1].isalpha():
                yield " ".join(part.split())


def _seconds(embedder: CountingEmbedder, groups: Sequence[Sequence[str]]) -> float:
    """CPU of this process for these calls."""
    begun = time.process_time()
    for group in groups:
        embedder.embed(group)
    return time.process_time() - begun


def _as_jobs(there: Services, home: Path, asked: Sequence[str], say: Say) -> tuple[float, float]:
    """CPU seconds of one recall worker for these as jobs of the batch lane, and jobs a second."""
    with (
        deployment(there, home, [], _RECALL) as running,
        running.producer() as producer,
        Ends(running.kafka) as ends,
    ):
        ends.wait([producer.embed(input=text, lane=Lane.BATCH) for text in asked[:_WARM_UP]], say)
        say(f"{len(asked):,} jobs")
        before, begun = cpu_seconds(running.pids["recall"]), time.monotonic()
        ended = ends.wait([producer.embed(input=text, lane=Lane.BATCH) for text in asked], say)
        return cpu_seconds(running.pids["recall"]) - before, len(asked) / (ended.last_at - begun)


def cpu_seconds(pid: int) -> float:
    """What a process has used so far (proc(5): utime and stime), all its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
