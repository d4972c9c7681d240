"""`headrace review`: the review queue on a terminal."""

import getpass
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer

from headrace_schemas.errors import ConfigurationError
from headrace_schemas.review import MANUAL
from headrace_workers.cli.connections import need_ledger, ring_bridges
from headrace_workers.cli.durations import rfc3339
from headrace_workers.cli.options import JsonLinesOption, OneJsonOption, limit_option, tenant_meant
from headrace_workers.cli.output import (
    Column,
    Line,
    NoSuchThing,
    console,
    printable,
    put,
    put_json,
    put_list,
    put_view,
    say,
    table,
)
from headrace_workers.features.reviews.decision import NoSuchItem, Person, decision_of
from headrace_workers.features.reviews.hooks import ReviewQueue
from headrace_workers.features.reviews.progress import ReviewProgress
from headrace_workers.features.reviews.rules import ReviewRules, parse_rules, text_of
from headrace_workers.features.reviews.store import Item, Reviews
from headrace_workers.features.reviews.terminal import review
from headrace_workers.features.reviews.views import ReviewedItem, ReviewItem, ShownItem

_YES: Final = {"yes": 1.0, "y": 1.0, "true": 1.0, "no": 0.0, "n": 0.0, "false": 0.0}
_LONGEST_NAME: Final = 256
_EXPORTED_AT_ONCE: Final = 500

_TenantOption = Annotated[str | None, typer.Option("--tenant", help="the jobs' tenant [HEADRACE_TENANT]")]
_WhoOption = Annotated[str | None, typer.Option("--who", help="your name; by default your name on this machine")]
_RuleOption = Annotated[str | None, typer.Option("--rule", help="only items of this rule; `held` for held jobs")]
_State = Literal["open", "done", "gone"]
_StateOption = Annotated[_State | None, typer.Option("--state", help="only items in this state")]
_ItemArgument = Annotated[str, typer.Argument(metavar="ITEM", help="as `headrace review list` shows it")]


class NothingToReview(NoSuchThing):
    """No item waits for this person."""


def next_item(
    rule: _RuleOption = None, who: _WhoOption = None, tenant: _TenantOption = None, as_json: OneJsonOption = False
) -> None:
    """Review items one after the other, held jobs first: each is shown, and one key decides.

    A held job: r releases it, w withholds it, c corrects the text in $EDITOR. An answer: y or n for each question that
    is asked about it. s skips the item, b goes back to your last decision about an answer, q quits. With --json, or
    elsewhere than on a terminal, your next item is printed once. Exit code 1: there is none.

    Example: `headrace review next --rule audit`
    """
    person, reviews = _person(tenant, who), _reviews()
    if as_json or not _is_terminal():
        item = reviews.next(person, rule=rule)
        if item is None:
            raise NothingToReview("no item waits for you: `headrace review list` shows all items")
        put_view(_view(item))
        return

    say(f"{review(reviews, person, rule):,} decided")


def decide(
    item: _ItemArgument,
    release: Annotated[bool, typer.Option("--release", help="let the held job go on")] = False,
    withhold: Annotated[bool, typer.Option("--withhold", help="end the held job as dead")] = False,
    correct: Annotated[str | None, typer.Option("--correct", metavar="FILE", help="the text to show instead")] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", metavar="NAME=yes", help="by a criterion: yes, no, or from 0 to 1")
    ] = None,
    category: Annotated[
        list[str] | None, typer.Option("--category", metavar="NAME=no", help="in a category of moderation")
    ] = None,
    recall: Annotated[bool, typer.Option("--recall", help="withdraw the cached copies of the answer")] = False,
    note: Annotated[str | None, typer.Option("--note", help="the reason, or a note")] = None,
    lease: Annotated[int | None, typer.Option("--lease", help="the number of your lease; by default, yours")] = None,
    skipped: Annotated[
        bool, typer.Option("--skip", help="give the item back: others are given it, you are not")
    ] = False,
    undone: Annotated[bool, typer.Option("--undo", help="take back your decision about an ended answer")] = False,
    revision: Annotated[int, typer.Option("--revision", min=1, help="2 for your second decision about the item")] = 1,
    who: _WhoOption = None,
    tenant: _TenantOption = None,
    as_json: OneJsonOption = False,
) -> None:
    """Decide about an item that `headrace review next` gave you, or revise your decision. For scripts.

    The same decision again changes nothing. --undo deletes your labels, and the item is open again.

    Exit code 1: the item is not yours, or nothing can be decided about it.

    Examples: `headrace review decide ITEM --label polite=yes`, `headrace review decide ITEM --release`
    """
    choices = {"release": release, "withhold": withhold, "correct": correct, "skip": skipped, "undo": undone}
    actions = [name for name, given in choices.items() if given]
    if len(actions) > 1:
        raise ConfigurationError(f"--{actions[0]} and --{actions[1]}: give one of them")
    person, reviews = _person(tenant, who), _reviews()
    with _known(item):
        if undone:
            reviews.undo(person, item)
            say(f"{item}: your decision is taken back")
            return
        mine = reviews.item(person, item).lease
        if skipped:
            reviews.skip(person, item, mine or 0)
            say(f"{item}: skipped")
            return
    decision = decision_of(
        {
            "action": actions[0] if actions else "label",
            "labels": [*_labels("criterion", label), *_labels("category", category)],
            "corrected": None if correct is None else _text_of(correct),
            "recall": recall,
            "note": note,
            "lease": mine if lease is None else lease,
            "revision": revision,
        }
    )
    decided = reviews.decide(person, item, decision)
    if decided.wakes:
        ring_bridges()
    if as_json:
        put_view(ReviewedItem.by(decided))
        return
    say(f"{item}: {decided.recorded.action} is recorded as revision {decided.recorded.revision}")


def list_items(
    state: _StateOption = None,
    rule: _RuleOption = None,
    mine: Annotated[bool, typer.Option("--mine", help="only items about which you decided, the last first")] = False,
    export: Annotated[bool, typer.Option("--export", help="JSON lines with texts, for another tool")] = False,
    who: _WhoOption = None,
    tenant: _TenantOption = None,
    limit: Annotated[int, limit_option("the number of items, the newest first")] = 100,
    as_json: JsonLinesOption = False,
) -> None:
    """List the items of a tenant, without their texts.

    With --export, write the open items of ended answers with their texts as JSON lines, or those of --state. Held jobs
    are left out, and so are answers that people sent, unless `--rule manual` asks for them. Each line keeps the
    `probability` with which the answer was drawn: give it back with the labels that you import.

    Examples: `headrace review list --state open --rule audit`, `headrace review list --export > items.jsonl`
    """
    if export:
        _export(state or "open", rule, tenant)
        return
    if mine and (state or rule):
        raise ConfigurationError("--mine lists all that you decided: leave --state and --rule out")
    person, reviews = _person(tenant, who), _reviews()
    if mine:
        views: Sequence[ReviewItem] = [
            ReviewedItem.with_decision(*row) for row in reviews.mine(person, limit=limit + 1)
        ]
    else:
        views = list(map(ReviewItem.of, reviews.items(person.tenant, state, rule, limit=limit + 1)))
    columns: dict[str, Column] = {
        "item": "id", "rule": "rule", "state": "state", "decided": lambda view: f"{view.decided} of {view.wanted}",
        "made": "made_at", "job": "job_id", "reason": "reason",
    }  # fmt: skip
    put_list(views, columns, "there are no such items", as_json=as_json, limit=limit, whole=("item", "job"))


def _export(state: str, rule: str | None, tenant: str | None) -> None:
    reviews, nobody = _reviews(), _person(tenant, "-")
    for item_id in _ids(reviews, nobody.tenant, state, rule):
        item = reviews.item(nobody, item_id)
        if item.content is not None:
            put_view(_view(item, for_tool=True))


def stats(tenant: _TenantOption = None, as_json: OneJsonOption = False) -> None:
    """Show how far the reviews of 90 days have come: each rule, each person, their agreement, and what is missing for
    which estimate.

    Example: `headrace review stats`
    """
    progress = need_ledger().of(ReviewProgress).of(tenant_meant(tenant))
    if as_json:
        put_view(progress)
        return
    out = console(data=True)
    for rows, whole in ((progress.rules, "rule"), (progress.people, "who"), (progress.agreement, "rule")):
        if rows:
            columns = list(type(rows[0]).model_fields)
            cells = [[_cell(getattr(row, name)) for name in columns] for row in rows]
            out.print(table(None, [name.replace("_", " ") for name in columns], cells, whole=(whole,)))
    for sentence in progress.words:
        out.print(Line(printable(sentence)))


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _ids(reviews: Reviews, tenant: str, state: str | None, rule: str | None) -> Iterator[str]:
    """Yield the ids of the items about ended answers, the newest first."""
    after: str | None = None
    while rows := reviews.items(tenant, state, rule, after, _EXPORTED_AT_ONCE):
        yield from (row.id for row in rows if not row.held and (row.rule != MANUAL or rule == MANUAL))
        after = rows[-1].id


def _reviews() -> Reviews:
    return need_ledger().of(Reviews)


@contextmanager
def _known(item: str) -> Iterator[None]:
    """Raise NoSuchThing where the tenant has no such item."""
    try:
        yield
    except NoSuchItem:
        raise NoSuchThing(f"{item}: there is no such review item; `headrace review list` shows items") from None


def _person(tenant: str | None, who: str | None) -> Person:
    name = getpass.getuser() if who is None else who
    if not name.strip() or len(name) > _LONGEST_NAME or "\x00" in name:
        raise ConfigurationError(f"--who is {name[:80]!r}; it must be 1 to {_LONGEST_NAME} characters")
    return Person(tenant_meant(tenant), name)


def _is_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _labels(kind: str, given: Sequence[str] | None) -> list[dict[str, Any]]:
    """Return the labels of options. Raise ConfigurationError for one that says neither yes nor no."""
    found = []
    for option in given or ():
        name, mark, text = option.rpartition("=")
        value = _YES.get(text.strip().lower())
        try:
            value = float(text) if value is None else value
        except ValueError:
            value = None
        if not mark or value is None or not 0 <= value <= 1:
            option_name = "--label" if kind == "criterion" else "--category"
            raise ConfigurationError(f"{option_name} {option!r}: write NAME=yes, NAME=no, or a number from 0 to 1")
        found.append({kind: name.strip(), "value": value})
    return found


def _text_of(file: str) -> str:
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file} cannot be read: {error}") from None


def _view(item: Item, *, for_tool: bool = False) -> ShownItem:
    return ShownItem.seen(item, for_tool=for_tool)


def show_rules(
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="check this file instead, and show what it says")
    ] = None,
    as_json: OneJsonOption = False,
) -> None:
    """Show the deployment's review rules as a bridge last copied them from their file, and what is wrong with the file.

    Exit code 1: the file as it is now cannot be used, and the rules of before stay in force.

    Example: `headrace review rules --file reviews.toml`
    """
    if file is not None:
        _put_rules(parse_rules(text_of(file, required=True), str(file)), as_json)
        return
    queue = need_ledger().of(ReviewQueue)
    standing, rules = queue.standing(), queue.rules()
    since = None if standing is None else standing.set_at
    refused = None if standing is None else standing.refused
    _put_rules(rules, as_json, since=rfc3339(since), refused=refused)
    if standing is None:
        say("no bridge has copied a file yet: a bridge does so about a minute after its start")
    if refused is not None:
        say(f"these rules stay in force, since the file cannot be used: {refused}")
        raise typer.Exit(1)


def _put_rules(rules: ReviewRules, as_json: bool, **told: Any) -> None:
    if as_json:
        put_json({**rules.model_dump(mode="json", exclude_none=True), **told})
        return
    for rule in rules.rules:
        put(str(rule))
    if not rules.rules:
        put("no rules: only held jobs enter the queue")
    most = f"a rule has {rules.most_open:,} open items of a tenant at most"
    put(f"lease {rules.lease}, people: {rules.people}; {most}")
    if silent := sorted(tenant for tenant, reviews in rules.tenants.items() if not reviews.training):
        put(f"no copies for training: {', '.join(silent)}")
