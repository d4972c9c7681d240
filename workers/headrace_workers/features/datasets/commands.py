"""`headrace dataset`: training data, and what of it is fit to learn from."""

import io
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Final, cast

import typer

from headrace_schemas.errors import ConfigurationError
from headrace_workers.cli.options import OneJsonOption
from headrace_workers.cli.output import console, put_json, say, table, whole_file
from headrace_workers.cli.pages import refuse_unwritable
from headrace_workers.features.moderation.commands.moderation import PolicyOption
from headrace_workers.features.moderation.commands.moderation_try import aids_here
from headrace_workers.features.moderation.settings import ModerationSettings

if TYPE_CHECKING:
    from headrace_workers.core.json_lines import Read
    from headrace_workers.features.datasets.clean import Given, Removed, Tally

_Source = Annotated[Path, typer.Argument(metavar="IN", help="JSON lines, plain, .gz or .zst")]
_Target = Annotated[Path, typer.Argument(metavar="OUT", help="the lines that are kept, as they are")]
_Field = Annotated[
    str | None,
    typer.Option("--field", help="the field with the text; by default messages, or text, prompt, completion, …"),
]
_Tests = Annotated[
    list[Path] | None,
    typer.Option("--tests", metavar="FILE", help="an evaluation set whose items are removed; may be repeated"),
]
_Near = Annotated[
    float, typer.Option("--near", min=0.0, max=1.0, help="remove lines this similar to an earlier line; 0 keeps them")
]
_Language = Annotated[
    str | None, typer.Option("--language", help="keep only this language: de, en, es, fr, it, nl or pt")
]
_Quality = Annotated[bool, typer.Option("--quality/--no-quality", help="remove text that does not look like prose")]
_Removed = Annotated[
    Path | None, typer.Option("--removed", metavar="FILE", help="write line, rule and reason of each removed line here")
]
_LONGEST: Final = 4_000_000  # bytes of a line


def register(app: typer.Typer) -> None:
    """Add these commands."""
    dataset = typer.Typer(
        help="Prepare training data.\n\nExample: `headrace dataset clean raw.jsonl clean.jsonl`", no_args_is_help=True
    )
    dataset.command("clean")(clean)
    app.add_typer(dataset, name="dataset")


def clean(
    source: _Source,
    target: _Target,
    field: _Field = None,
    tests: _Tests = None,
    near: _Near = 0.8,
    language: _Language = None,
    quality: _Quality = True,
    removed: _Removed = None,
    policy: PolicyOption = None,
    as_json: OneJsonOption = False,
) -> None:
    """Keep the lines that a model may learn from, and give the reason for each line that is removed.

    A line is removed if it cannot be read, is hardly a text, is in another language, repeats an earlier line exactly or
    nearly, contains a test item, or does not pass moderation unchanged: personal data and secrets, for example. OUT is
    written whole or not at all. Lines keep their order and their bytes.

    Example: `headrace dataset clean raw.jsonl clean.jsonl --tests eval.jsonl --language en --removed removed.jsonl`
    """
    from headrace_workers.features.datasets.clean import SMALL_WORDS, Kept, Rules, Tally, cleaned
    from headrace_workers.features.datasets.duplicates import Near, evaluation_sets
    from headrace_workers.features.moderation.moderator import build_moderator

    if language is not None and language not in SMALL_WORDS:
        raise ConfigurationError(f"--language {language}: it may be {', '.join(sorted(SMALL_WORDS))}")
    _apart(source, target, removed)
    rules = Rules(
        moderator=build_moderator(policy or ModerationSettings.from_env().policy, aids_here()),
        field=field,
        quality=quality,
        language=language,
        tests=evaluation_sets(_items(tests or [], field), [path.name for path in tests or []]),
        near=Near(near) if near else None,
    )
    tally = Tally()
    with whole_file(target) as kept, nullcontext() if removed is None else whole_file(removed) as report:
        for each in cleaned(_given(source), rules):
            tally.add(each)
            if isinstance(each, Kept):
                kept.write(each.line.rstrip(b"\r\n") + b"\n")
            elif report is not None:
                report.write(_line_of(each))
    _show(tally, target, as_json)


def _show(tally: "Tally", target: Path, as_json: bool) -> None:
    if as_json:
        put_json(tally.document() | {"file": str(target)})
        return
    rows = [(rule, f"{count:,}", f"{count / tally.read:.1%}") for rule, count in tally.counts()]
    if rows:
        console(data=True).print(table(None, ("removed as", "lines", "share"), rows, right=("lines", "share")))
        examples = [(rule, str(each.number), each.reason, each.text) for rule, each in tally.shown()]
        console(data=True).print(table("examples", ("rule", "line", "why", "begins"), examples, right=("line",)))
    say(f"{target}: {tally.kept:,} of {tally.read:,} lines kept")


def _line_of(each: "Removed") -> bytes:
    fields = {"line": each.number, "rule": str(each.rule), "reason": each.reason}
    return json.dumps(fields, ensure_ascii=False).encode() + b"\n"


def _apart(source: Path, target: Path, removed: Path | None) -> None:
    paths = [path.resolve() for path in (source, target, removed) if path is not None]
    if len(set(paths)) < len(paths):
        raise ConfigurationError("IN, OUT and --removed must be three different files")
    for path in paths[1:]:
        refuse_unwritable(path)


def _given(path: Path) -> Iterator["Given"]:
    """Yield the lines of a file with something in them, and a bar on a terminal."""
    from rich.progress import wrap_file

    from headrace_workers.features.datasets.clean import Given

    def shown(raw: io.RawIOBase) -> AbstractContextManager[BinaryIO]:
        size = path.stat().st_size
        return wrap_file(cast(BinaryIO, raw), size, description="cleaning", console=console(), transient=True)

    for line in _lines(path, shown):
        yield Given(line.number, None if line.too_long else line.text)


def _items(paths: list[Path], field: str | None) -> Iterator[tuple[str, str]]:
    """Yield the texts of evaluation sets. Raise an error for an unreadable one: its items could not be removed."""
    from headrace_workers.features.datasets.clean import Unreadable, text_of

    for path in paths:
        for line in _lines(path):
            try:
                yield text_of(line.text, field), path.name
            except Unreadable as error:
                raise ConfigurationError(f"{path}:{line.number}: {error}") from None


def _lines(
    path: Path, shown: "Callable[[io.RawIOBase], AbstractContextManager[Any]]" = nullcontext
) -> Iterator["Read"]:
    """Yield the lines of a file, compressed or not, with something in them."""
    from headrace_workers.core.json_lines import read_on
    from headrace_workers.core.text_file import NotReadable, text_of

    try:
        with path.open("rb", buffering=0) as raw, shown(raw) as file:
            yield from (line for line in read_on(text_of(file, bounded=False), _LONGEST) if not line.is_empty)
    except NotReadable as error:
        raise ConfigurationError(f"{path}: {error}") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
