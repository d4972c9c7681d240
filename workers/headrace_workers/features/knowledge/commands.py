"""`headrace knowledge`: documents that answers may rest on: adding, searching, removing, relevance floors."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from headrace_schemas.errors import ConfigurationError
from headrace_schemas.limits import PATTERNS, Alias
from headrace_workers.cli.asking import MetaOption, WhereOption, attributes_of, filter_of
from headrace_workers.cli.connections import need_ledger
from headrace_workers.cli.options import JsonLinesOption, OneJsonOption, checked_tenant, limit_option, tenant_meant
from headrace_workers.cli.output import be_sure, console, flush, printable, put_json, put_list, put_view, say, table
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.pipeline.task import pieces
from headrace_workers.features.knowledge import views as tables
from headrace_workers.features.knowledge.documents import DocumentRefused
from headrace_workers.features.knowledge.intake import Intake, Status, Taken
from headrace_workers.features.knowledge.passages import Passages
from headrace_workers.features.knowledge.reading import Reader, find_files
from headrace_workers.features.knowledge.relevance_floor import everyday_questions
from headrace_workers.features.knowledge.settings import KnowledgeSettings
from headrace_workers.features.knowledge.store.documents import KnowledgeBases
from headrace_workers.features.knowledge.views import (
    FoundPassage,
    KnowledgeBase,
    KnowledgeDocument,
    TakenDocument,
    names_told,
    passed_words,
    tally_words,
)
from headrace_workers.models.embedders.embedder import CountsTokens, Embedder
from headrace_workers.models.embedders.load_embedder import load_embedder
from headrace_workers.runtime.settings import ModelSettings, home_of

_MOST_BYTES = 10_000_000  # of a file of questions
_STEPS = (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6)
_COLUMNS = ("floor", "foreign questions let through", "your questions lost")


@dataclass(frozen=True, slots=True)
class _Floor:
    floor: float
    let_through: float
    lost: float | None


def floor(
    name: Annotated[str, typer.Argument(metavar="BASE", help="the knowledge base's name")],
    questions: Annotated[
        Path | None, typer.Option("--questions", metavar="FILE", help="questions that the base answers")
    ] = None,
    foreign: Annotated[
        Path | None,
        typer.Option("--foreign", metavar="FILE", help="questions that it cannot answer, for the everyday ones"),
    ] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="its tenant [HEADRACE_TENANT]")] = None,
    as_json: OneJsonOption = False,
) -> None:
    """Show the relevance floor that fits a base, the share of foreign questions that each floor lets through, and the
    share of your questions that it loses.

    A file has a question a line, as text or as JSON with `question`. Without `--foreign`, the foreign questions are the
    160 everyday ones from which the floor is read. Exit code 1: there is no such base.

    Example: `headrace bench floor handbook --questions questions.txt`
    """
    base, owner, set_by_hand = named(name), tenant_meant(tenant), KnowledgeSettings.from_env().relevance
    asked = None if questions is None else _questions(questions)
    strange = everyday_questions() if foreign is None else _questions(foreign)
    ledger, embedder = need_ledger(), embedder_here()
    passages = Passages.of(ledger, owner, base, embedder)
    if not len(passages):
        say(f"{owner} has no knowledge base {base!r}: `headrace knowledge list` shows all, --tenant names another's")
        raise typer.Exit(1)
    fitting = passages.floor(lambda: embedder.embed(everyday_questions()))
    far = passages.nearest(embedder.embed(strange))
    near = None if asked is None else passages.nearest(embedder.embed(asked))
    shown = sorted({*_STEPS, fitting} | ({set_by_hand} if set_by_hand is not None else set()))
    found = [_measured(value, far, near) for value in shown]
    if as_json:
        put_json({
            "knowledge": base, "passages": len(passages), "fitting": fitting, "set": set_by_hand,
            "foreign": len(strange), "questions": None if asked is None else len(asked),
            "floors": [asdict(item) for item in found],
        })  # fmt: skip
        return
    rows = [(f"{item.floor:.3g}", _share(item.let_through), _share(item.lost)) for item in found]
    console(data=True).print(table(None, _COLUMNS, rows, right=_COLUMNS))
    say(f"{base}: {len(passages):,} passages; the floor that fits is {fitting:.3g}")
    if set_by_hand is not None:
        say(f"HEADRACE_RELEVANCE sets {set_by_hand:g} for all bases: that is used")


def _measured(floor: float, far: NDArray[np.float32], near: NDArray[np.float32] | None) -> _Floor:
    return _Floor(floor, float((far >= floor).mean()), None if near is None else float((near < floor).mean()))


def _share(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _questions(path: Path) -> list[str]:
    """Return the questions of a file. Raise ConfigurationError if it cannot be read, or has none."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ConfigurationError(f"{path} has more than {_MOST_BYTES:,} bytes: give fewer questions")
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    found = [_question(path, number, line) for number, line in enumerate(lines, start=1) if line]
    if not found:
        raise ConfigurationError(f"{path} has no question: give a question a line")
    return found


def _question(path: Path, number: int, line: str) -> str:
    if not line.startswith("{"):
        return line
    try:
        asked = json.loads(line)["question"]
    except (ValueError, KeyError, RecursionError) as error:
        raise ConfigurationError(f"{path}:{number}: it is no JSON object with `question`") from error
    if not isinstance(asked, str) or not asked.strip():
        raise ConfigurationError(f"{path}:{number}: `question` is not a text")
    return asked


_AT_ONCE = 1_000  # documents that are read at once
_REMOVED_AT_ONCE = 100  # in one transaction: a long one would hold up followers of changes
_LONGEST_QUERY = 200_000  # characters: as long as a prompt may be

_NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="the knowledge base's name")]
_TenantOption = Annotated[str | None, typer.Option("--tenant", help="its tenant [HEADRACE_TENANT]")]


def add(
    name: _NameArgument,
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="files, folders, globs")],
    meta: MetaOption = None,
    tenant: _TenantOption = None,
    as_json: JsonLinesOption = False,
) -> None:
    """Add documents to a knowledge base, and create the base if needed. Unchanged documents cost nothing, changed ones
    are replaced.

    A document gets the attributes of this call (`--meta`) and, if it is Markdown, of its front matter; it keeps no
    others. If the command is interrupted, run it again: it continues. Exit code 1: some documents were refused; the
    others were added.

    Examples: `headrace knowledge add handbook docs/ 'contracts/*.pdf'`,
    `headrace knowledge add handbook de/ --meta language=de --meta year=2026`
    """
    base, owner, attributes = named(name), tenant_meant(tenant), attributes_of(meta)
    ledger, embedder = need_ledger(), embedder_here()
    there, count, missing = _there(paths)
    tally: Counter[Status] = Counter()
    tally["refused"] = len(missing)
    passed_over: Counter[str] = Counter()
    chunks = 0
    if as_json:
        for path, reason in missing.items():
            put_view(TakenDocument.of(Taken(path, "refused", reason=reason)))
    try:
        with Reader() as reader, _progress(count) as (advance, tell):
            intake = Intake(ledger, reader, embedder, _counter(embedder), owner, base, attributes)
            for taken in intake.take(find_files(there)):
                tally[taken.status] += 1
                chunks += taken.chunks
                passed_over.update(taken.passed_over)
                if as_json:
                    put_view(TakenDocument.of(taken))
                    flush()
                if taken.reason is not None:
                    tell(f"refused: {taken.reason}")
                if taken.trouble is not None:
                    tell(f"{taken.document}: {taken.trouble}; the document has no attributes of it")
                advance()
    except KeyboardInterrupt:
        say(f"interrupted: {tally_words(tally, chunks)}; run the command again to continue")
        raise
    if passed_over:
        say(printable(passed_words(passed_over)))
    say(f"{base}: {tally_words(tally, chunks)}")
    raise typer.Exit(1 if tally["refused"] else 0)


def list_bases(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="list the documents of this base")] = None,
    tenant: Annotated[
        str | None, typer.Option("--tenant", help="only of this tenant; with NAME, its tenant [HEADRACE_TENANT]")
    ] = None,
    limit: Annotated[int, limit_option("with NAME: at most so many documents")] = 100,
    as_json: JsonLinesOption = False,
) -> None:
    """List the knowledge bases and their sizes; with NAME, the documents of that base in order of name: chunks, sizes,
    times. Exit code 1: there is no such base.

    With `--json`, all documents are shown, whatever the limit.

    Examples: `headrace knowledge list`, `headrace knowledge list handbook`
    """
    if name is not None:
        _list_documents(named(name), tenant_meant(tenant), limit, as_json)
        return
    bases = need_ledger().of(KnowledgeBases).bases(None if tenant is None else checked_tenant(tenant))
    knowledge_bases = [KnowledgeBase.of(base) for base in bases]
    nothing = "no knowledge bases: `headrace knowledge add NAME PATH` makes one"
    put_list(knowledge_bases, tables.BASES, nothing, as_json=as_json, right=tables.NUMBERS, whole=("knowledge",))


def _list_documents(base: str, owner: str, limit: int, as_json: bool) -> None:
    ledger = need_ledger()
    documents = map(KnowledgeDocument.of, _documents(ledger, base, owner))
    if as_json:
        for document in documents:
            put_view(document)
        return
    knowledge_documents = list(islice(documents, limit + 1))
    put_list(knowledge_documents[:limit], tables.DOCUMENTS, "it is empty", as_json=False, right=tables.NUMBERS)
    for whole in ledger.of(KnowledgeBases).bases(owner):
        if whole.knowledge == base:
            say(f"{base}: {whole.documents:,} documents, {whole.chunks:,} chunks, {whole.size:,} bytes")
    if len(knowledge_documents) > limit:
        say(f"only the first {limit} are shown: --limit shows more")


def search(
    name: _NameArgument,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="a question, or words")],
    count: Annotated[int, typer.Option("-k", min=1, max=1_000, help="the number of passages")] = 5,
    where: WhereOption = None,
    tenant: _TenantOption = None,
    as_json: JsonLinesOption = False,
) -> None:
    """Search passages. The best come first, each with its rank and score by words (BM25) and by vectors (cosine).

    `--where` limits the search to documents with such attributes; if it is repeated, all must hold. Exit code 1: there
    is no such base, or nothing was found.

    Examples: `headrace knowledge search handbook "how many days of leave are there?" -k 3`,
    `headrace knowledge search handbook "notice" --where language=en --where 'year>=2025'`
    """
    base, owner, wanted = named(name), tenant_meant(tenant), filter_of(where)
    if not query.strip():
        raise ConfigurationError("the query is empty: give a question or words")
    if len(query) > _LONGEST_QUERY:
        raise ConfigurationError(f"the query has {len(query):,} characters: {_LONGEST_QUERY:,} at most")
    ledger = need_ledger()
    _documents(ledger, base, owner)
    embedder = embedder_here()
    passages = Passages.of(ledger, owner, base, embedder)
    if passages.without_vectors:
        say(
            f"{passages.without_vectors:,} of {len(passages):,} passages were embedded by another than {embedder.id} "
            "and are found by words only: `headrace knowledge add` their files again"
        )
    found_passages = [
        FoundPassage.of(rank, hit) for rank, hit in enumerate(passages.search(query, count, where=wanted), 1)
    ]
    put_list(found_passages, tables.HITS, "nothing was found", as_json=as_json, right=tables.NUMBERS)
    raise typer.Exit(0 if found_passages else 1)


def remove(
    name: _NameArgument,
    documents: Annotated[
        list[str] | None,
        typer.Argument(metavar="[DOCUMENT]...", help="names as in `show`; without any, the whole base"),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
    tenant: _TenantOption = None,
    as_json: OneJsonOption = False,
) -> None:
    """Remove documents from a knowledge base, or the whole base.

    Exit code 1: there is no such base, some documents were not in it, or you said no.

    Examples: `headrace knowledge remove handbook docs/old.md`, `headrace knowledge remove handbook --yes`
    """
    base, owner = named(name), tenant_meant(tenant)
    ledger = need_ledger()
    wanted = set(documents or ())
    found = {
        document.name: document.id
        for document in _documents(ledger, base, owner)
        if not wanted or document.name in wanted
    }
    for missing in sorted(wanted - found.keys()):
        say(printable(f"{missing}: {base} has no document of this name; `headrace knowledge list {base}` names them"))
    if found and not yes:
        whole = "all of it: " if not wanted else ""
        say(printable(f"from {base} of {owner}, {whole}{names_told(sorted(found))}"))
        these = "this document" if len(found) == 1 else f"these {len(found):,} documents"
        be_sure(f"Remove {these}?", "nothing was removed")
    ids, removed = sorted(found.values()), 0
    for start in range(0, len(ids), _REMOVED_AT_ONCE):
        removed += ledger.of(KnowledgeBases).remove(ids[start : start + _REMOVED_AT_ONCE])
    if as_json:
        put_json({"removed": removed})
    say(f"{removed:,} removed")
    raise typer.Exit(1 if wanted - found.keys() else 0)


def named(name: str) -> str:
    """Return a knowledge base's name. Raise ConfigurationError for an invalid name."""
    try:
        return str(TypeAdapter(Alias).validate_python(name))
    except ValidationError as error:
        pattern = error.errors()[0].get("ctx", {}).get("pattern", "")
        words = PATTERNS.get(pattern, "is refused")
        raise ConfigurationError(f"{name!r} is not a knowledge base's name: it {words}") from None


def embedder_here() -> Embedder:
    """Return the embedder that HEADRACE_EMBEDDER names."""
    return load_embedder(home_of(), ModelSettings.from_env().embedder)


def _counter(embedder: Embedder) -> Callable[[str], int]:
    """Return the embedder's own count of tokens if it has one, else an estimate."""
    return embedder.count_tokens if isinstance(embedder, CountsTokens) else pieces


def _there(paths: Iterable[str]) -> tuple[list[str], int, dict[str, str]]:
    """Return the files of these paths, their number, and the paths that name nothing, with the reason.

    The paths are walked twice, since a list of very many files would be large. Missing and skipped files are printed.
    """
    there, count, missing = list[str](), 0, dict[str, str]()
    for path in paths:
        try:
            count += sum(
                1 for _ in find_files([path], lambda passed, why: say(printable(f"passed over: {passed} {why}")))
            )
            there.append(path)
        except DocumentRefused as refused:
            missing[path] = str(refused)
            say(printable(f"refused: {refused}"))
    return there, count, missing


def _documents(ledger: Ledger, base: str, tenant: str) -> Iterator[Any]:
    """Yield all documents of a base, in order of name. Exit with code 1 if there is no such base."""
    first = ledger.of(KnowledgeBases).documents(tenant, base, "", _AT_ONCE)
    if not first:
        say(f"{tenant} has no knowledge base {base!r}: `headrace knowledge list` shows all, --tenant names another's")
        raise typer.Exit(1)
    return _paged(ledger, base, tenant, first)


def _paged(ledger: Ledger, base: str, tenant: str, page: list[Any]) -> Iterator[Any]:
    while page:
        yield from page
        page = ledger.of(KnowledgeBases).documents(tenant, base, page[-1].name, _AT_ONCE)


@contextmanager
def _progress(total: int) -> Iterator[tuple[Callable[[], None], Callable[[str], None]]]:
    """Show a bar on a terminal. Yield a function that advances it by one file, and one that prints a line above it."""
    terminal = console()
    if not terminal.is_terminal:
        yield lambda: None, lambda line: say(printable(line))
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=terminal) as bar:
        task = bar.add_task("adding", total=total)
        yield lambda: bar.advance(task), lambda line: bar.console.print(printable(line), markup=False)
