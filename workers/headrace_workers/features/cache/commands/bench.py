"""`headrace bench`: what the cache and a knowledge base would do with questions of your own, before they do it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from headrace_schemas.errors import ConfigurationError
from headrace_workers.cli.connections import need_ledger
from headrace_workers.cli.options import tenant_meant
from headrace_workers.cli.output import console, put_json, say
from headrace_workers.cli.pages import HtmlOption, refuse_unwritable, say_where, write_page
from headrace_workers.features.cache.commands import bench_retrieval_views as views
from headrace_workers.features.cache.commands.bench_cache import Measured, cache_document, cache_lines, cache_table
from headrace_workers.features.cache.commands.labelled_questions import read_pairs, read_questions, refuse_unknown
from headrace_workers.features.cache.measuring import (
    THRESHOLDS,
    LabelledPair,
    VerifierQuality,
    judge,
    measure_verifier,
    swept,
)
from headrace_workers.features.cache.semantic.nearest import refused
from headrace_workers.features.cache.settings import CacheSettings
from headrace_workers.features.knowledge.commands import embedder_here, named
from headrace_workers.features.knowledge.load_verifier import load_verifier_here
from headrace_workers.features.knowledge.passages import Passages
from headrace_workers.features.knowledge.relevance_floor import embedded_questions
from headrace_workers.features.knowledge.retrieval_quality import Contents, answer
from headrace_workers.features.knowledge.settings import KnowledgeSettings
from headrace_workers.models.verifiers.measured import note
from headrace_workers.runtime.settings import home_of

_JsonOption = Annotated[bool, typer.Option("--json", help="print one JSON object with everything")]
_LimitOption = Annotated[int, typer.Option("--limit", "-n", min=0, help="show at most so many items of each list")]


def cache(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="pairs of questions, as JSON lines")],
    max_error: Annotated[
        float | None,
        typer.Option(
            "--max-error", min=0.0001, max=0.5, help="the accepted share of wrong answers [HEADRACE_MAX_ERROR]"
        ),
    ] = None,
    verify: Annotated[
        str | None, typer.Option("--verify", metavar="MODEL", help="measure this verifier on the pairs instead")
    ] = None,
    as_json: _JsonOption = False,
) -> None:
    """Show what `cache: semantic` would serve for your pairs of questions, and how much of it wrongly, at each
    threshold.

    A line is `{"question": …, "other": …, "same": true}`. `same` says if the answer to the other question is right for
    this one. It uses the embedder and guards of a recall worker. No ledger and no model are needed.

    With --verify, a model is asked about each pair, as HEADRACE_VERIFY would ask it. Exit code 1: the pairs do not show
    that it is better than chance. Recall workers with this home then refuse it.

    Example: `headrace bench cache pairs.jsonl`
    """
    settings = CacheSettings.from_env()
    threshold = settings.similarity
    borne = settings.max_error if max_error is None else max_error
    pairs = read_pairs(file)
    if verify is not None:
        _verifier(verify, pairs, as_json)
        return
    embedder = embedder_here()
    texts = len({text for pair in pairs for text in (pair.first, pair.second)})
    with progress("embedding", texts) as advance:
        judged = judge(pairs, embedder.embed, refused, advance)
    # The table shows the configured threshold, too.
    thresholds = sorted({*THRESHOLDS, threshold})
    measured = Measured(file.name, embedder.id, judged, swept(judged, thresholds), threshold, borne)
    if as_json:
        put_json(cache_document(measured))
        return
    console(data=True).print(cache_table(measured))
    for line in cache_lines(measured):
        say(line)


def _verifier(name: str, pairs: Sequence[LabelledPair], as_json: bool) -> None:
    """Measure a verifier on these pairs, and refuse one that is no better than chance."""
    verifier = load_verifier_here(home_of(), name)
    with progress("verifying", len(pairs)) as advance:
        try:
            quality = measure_verifier(verifier, pairs, advance)
        except ValueError as error:
            raise ConfigurationError(str(error)) from None
    tell_quality(home_of(), name, quality, as_json)


def tell_quality(home: Path, name: str, quality: VerifierQuality, as_json: bool) -> NoReturn:
    """Show what a verifier was measured to be, and note it in the home: workers refuse one that is no better than
    chance. The exit code is 1 for such a one.
    """
    note(home, name, quality.relation, is_chance=quality.is_chance, sentence=quality.sentence)
    if as_json:
        put_json({**asdict(quality), "is_chance": quality.is_chance})
    else:
        say(quality.sentence)
    if quality.is_chance:
        say(f"{name} is refused as a verifier: these pairs do not show that it is better than chance (0.50)")
    raise typer.Exit(1 if quality.is_chance else 0)


def retrieval(
    name: Annotated[str, typer.Argument(metavar="NAME", help="the knowledge base's name")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="questions with the right documents, as JSON lines")],
    tenant: Annotated[str | None, typer.Option("--tenant", help="its tenant [HEADRACE_TENANT]")] = None,
    html: HtmlOption = None,
    limit: _LimitOption = 20,
    as_json: _JsonOption = False,
) -> None:
    """Show how well a knowledge base finds the right documents for your questions: by words, by vectors, and fused.

    A line is `{"question": …, "documents": ["docs/guide.md", "docs/faq.md#Install"]}`, with names as in `headrace
    knowledge list`, with or without a section. The relevance of right and wrong passages shows where a floor can be.

    Example: `headrace bench retrieval handbook questions.jsonl --html report.html`
    """
    base, owner = named(name), tenant_meant(tenant)
    questions = read_questions(file)
    refuse_unwritable(html)
    ledger, embedder = need_ledger(), embedder_here()
    passages = Passages.of(ledger, owner, base, embedder)
    if not len(passages):
        say(f"{owner} has no knowledge base {base!r}: `headrace knowledge list` shows all, --tenant names another's")
        raise typer.Exit(1)
    set_by_hand = KnowledgeSettings.from_env().relevance
    floor = passages.floor(lambda: embedded_questions(embedder)) if set_by_hand is None else set_by_hand
    contents = Contents(passages.chunks)
    refuse_unknown(file, questions, contents.unknown)
    with progress("asking", len(questions)) as advance:
        answered, seconds = answer(questions, passages, advance)
    measured = views.Measured(base, file.name, embedder.id, len(passages), answered, seconds, floor, limit)
    shown = views.shown(measured)
    if html is not None:
        write_page(html, shown.page())
    if as_json:
        put_json(shown.document)
    else:
        out = console(data=True)
        for rows in shown.tables:
            out.print(rows)
        for line in shown.words:
            say(line)
    say_where(html)


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on a terminal. Yield the function that advances it."""
    terminal = console()
    if not terminal.is_terminal:
        yield lambda _: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=terminal, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda by: bar.advance(task, by)
