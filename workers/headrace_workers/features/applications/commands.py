"""`headrace apps`: versions of applications, their labels and their tests."""

import getpass
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer
from pydantic import TypeAdapter, ValidationError

from headrace_schemas.application import PRODUCTION
from headrace_schemas.errors import Category, ConfigurationError, HeadraceError
from headrace_schemas.limits import Alias, Label
from headrace_schemas.reasons import describe
from headrace_workers.cli.connections import need_ledger
from headrace_workers.cli.durations import rfc3339, show_ms, show_time
from headrace_workers.cli.options import JsonLinesOption, OneJsonOption, checked_tenant, limit_option, tenant_meant
from headrace_workers.cli.output import Column, NoSuchThing, console, put, put_json, put_list, say, table, write_file
from headrace_workers.cli.streams import standard_input
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.features.applications.definition import Definition
from headrace_workers.features.applications.file import MAX_FILE_BYTES, read_application, toml_of
from headrace_workers.features.applications.references import dangling, identities
from headrace_workers.features.applications.store import PASSED, SHARED, SKIPPED, Application, Applications, Version
from headrace_workers.features.applications.trial import Trial
from headrace_workers.features.applications.week import Week, week_of
from headrace_workers.features.evals.commands import Serving
from headrace_workers.features.spend.prices import money

_WEEK: Final = timedelta(days=7)
_SHOWN: Final = 20  # versions, with the newest first
_LISTED: Final = 1_000

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="the application")]
TenantOption = Annotated[str | None, typer.Option("--tenant", help="whose application; HEADRACE_TENANT")]
SharedOption = Annotated[bool, typer.Option("--shared", help="the application that all tenants share")]
_ByOption = Annotated[str | None, typer.Option("--by", help="who does this; by default the user of this machine")]
_WhyOption = Annotated[str | None, typer.Option("--why", help="the reason, for the history")]


class GateClosed(HeadraceError):
    """A version that may not get the label `production`."""

    category = Category.CONFLICT


def push(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE.toml…", help="the applications' files; - is standard input")
    ],
    tenant: TenantOption = None,
    shared: SharedOption = False,
    by: _ByOption = None,
    name: Annotated[str | None, typer.Option("--name", help="of the application on standard input")] = None,
    as_json: JsonLinesOption = False,
) -> None:
    """Push applications: each file whose content is new becomes a new version. Labels stay where they are.

    If a file is wrong, nothing is pushed. Names of models, knowledge bases and datasets that are not here are listed
    with their lines; the versions are pushed all the same, since they may be elsewhere or come later.

    A file's name is the application's; standard input needs --name. It has no files beside it: pin the dataset of a
    test there by its `sha256`, or leave the test out.

    Examples: `headrace apps push apps/ticket-triage.toml`, `headrace apps push apps/*.toml --shared`,
    `headrace apps push - --name ticket-triage < apps/ticket-triage.toml`
    """
    if (files == [Path("-")]) != (name is not None):
        raise ConfigurationError("give --name with `-`, and only then: the name of a file is its application's")
    if name is not None:
        with standard_input(MAX_FILE_BYTES, f"{Path(name).name}.toml") as path:
            _push([path], _scope(tenant, shared), _who(by), as_json)
    else:
        _push(files, _scope(tenant, shared), _who(by), as_json)


def _push(files: Sequence[Path], scope: str, who: str, as_json: bool) -> None:
    definitions, ledger = _read(files), need_ledger()
    for path, definition in zip(files, definitions, strict=True):
        for warning in dangling(path, definition, ledger, scope):
            say(f"warning: {warning}")
    for definition in definitions:
        number, is_new = ledger.of(Applications).push(scope, definition, who)
        if as_json:
            put_json({"application": definition.name, "tenant": scope or None, "version": number,
                      "digest": definition.digest, "new": is_new})  # fmt: skip
        elif is_new:
            put(f"{definition.name}@{number}")
            say(f"{definition.name}@{number} is new: `headrace apps test {definition.name}` tests it")
        else:
            put(f"{definition.name}@{number}")
            say(f"{definition.name}@{number} has this content already")


def _read(files: Sequence[Path]) -> list[Definition]:
    """Return what the files describe. Raise ConfigurationError, which names what is wrong in each."""
    definitions, problems = [], list[str]()
    for path in files:
        try:
            definitions.append(read_application(path))
        except ConfigurationError as error:
            problems.append(str(error))
    if problems:
        raise ConfigurationError("\n".join([*problems, "nothing was pushed"]))
    return definitions


def list_applications(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="show this application")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="those of this tenant, and the shared ones")] = None,
    shared: Annotated[bool, typer.Option("--shared", help="only those that all tenants share")] = False,
    limit: Annotated[
        int | None, limit_option("so many applications, by name; or so many of the newest versions, or moves")
    ] = None,
    history: Annotated[bool, typer.Option("--history", help="the moves of its labels, the newest first")] = False,
    as_json: JsonLinesOption = False,
) -> None:
    """List applications with their newest version and their labels; with NAME, show that application: its purpose,
    labels and last gate, and the last 7 days by version.

    Cost, pass rate (by the metric) and latency are those of the last 1,000 jobs of each version that ended in these
    days.

    Examples: `headrace apps list --tenant shop`, `headrace apps list ticket-triage --history`
    """
    if name is not None:
        _show(name, tenant, shared, limit or _SHOWN, history, as_json)
        return
    if history:
        raise ConfigurationError("--history is of one application: give NAME")
    limit = limit or _LISTED
    scopes = {SHARED} if shared else None if tenant is None else {SHARED, checked_tenant(tenant)}
    found = need_ledger().of(Applications).listed(scopes, limit + 1)
    rows: Sequence[Any] = found
    if as_json:
        rows = [
            {"application": row.name, "tenant": row.scope or None, "newest": row.newest,
             "pushed_at": rfc3339(row.pushed_at), "labels": row.labels}
            for row in found
        ]  # fmt: skip
    columns: dict[str, Column] = {
        "application": "name", "tenant": lambda row: row.scope or "shared", "newest": "newest",
        "labels": _labels_in_words, "pushed": "pushed_at",
    }  # fmt: skip
    nothing = "there are no applications: `headrace apps push FILE.toml` makes one"
    put_list(
        rows, columns, nothing, as_json=as_json, limit=limit, which="first", right=("newest",), whole=("application",)
    )


def _show(name: str, tenant: str | None, shared: bool, limit: int, history: bool, as_json: bool) -> None:
    ledger = need_ledger()
    applications, app = _known(ledger, name, tenant, shared)
    if history:
        _show_history(applications.history(app.scope, name, limit), name, as_json)
        return
    versions = applications.versions(app.scope, name, limit)
    newest = Definition.from_json(_version(applications, app, str(app.newest)).definition)
    metric = newest.problem.metric
    weeks = {version.number: week_of(ledger, app.scope, name, version.number, metric, _WEEK) for version in versions}
    tests = {version.number: applications.last_test(app.scope, name, version.number) for version in versions}
    if as_json:
        put_json(
            {
                "application": name, "tenant": app.scope or None, **newest.problem.model_dump(), "labels": app.labels,
                "review": newest.review and newest.review.model_dump(mode="json", exclude_unset=True),
                "versions": [
                    {"version": version.number, "digest": version.digest, "pushed_at": rfc3339(version.pushed_at),
                     "pushed_by": version.pushed_by, "test": _test_json(tests[version.number]),
                     "last_7_days": weeks[version.number]._asdict()}
                    for version in versions
                ],
            }
        )  # fmt: skip
        return
    problem = newest.problem
    put(f"{name} ({app.scope or 'shared'}): {problem.purpose}")
    put(f"owner {problem.owner}, task {problem.task}, metric {metric}")
    put(f"labels: {_labels_in_words(app) or 'none'}")
    if newest.review is not None:
        put(f"review rules: {'; '.join(map(str, newest.review.rules)) or 'none'}")
    for version in versions:
        if (last := tests[version.number]) is not None:
            put(f"{name}@{version.number}, tested {show_time(last.at)}: {_test_in_words(last)}")
    rows = [
        (f"{version.number:,}", " ".join(sorted(key for key, at in app.labels.items() if at == version.number)),
         show_time(version.pushed_at), version.pushed_by, *_week_in_words(weeks[version.number]))
        for version in versions
    ]  # fmt: skip
    columns = ("version", "labels", "pushed", "by", "jobs in 7 days", "pass rate", "p50", "p95", "cost")
    console(data=True).print(table(None, columns, rows, right=("version", *columns[4:])))


def try_version(
    name: NameArgument,
    version: Annotated[int | None, typer.Option("--version", min=1, help="by default the newest")] = None,
    tenant: TenantOption = None,
    shared: SharedOption = False,
    folder: Annotated[
        Path, typer.Option("--folder", metavar="FOLDER", help="where the application's file is, and its dataset")
    ] = Path("apps"),
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="folder for the report")
    ] = None,
    again: Annotated[str, typer.Option("--name", help="a new name runs all jobs again, even if answered")] = "",
    start: Annotated[bool, typer.Option("--start/--no-start", help="start a stack if none runs")] = True,
    engine_threads: Annotated[
        int | None, typer.Option("--engine-threads", min=1, help="threads of the models; all cores by default")
    ] = None,
    as_json: OneJsonOption = False,
) -> None:
    """Test a version with its own examples against the version in production, as `headrace evaluate` does.

    Each row of the dataset gives the variables of a job. The result is kept with the version, for the label
    `production`. Exit code 1: the gate does not hold with certainty.

    Example: `headrace apps test ticket-triage`
    """
    ledger = need_ledger()
    app = _own(ledger, name, _scope(tenant, shared))
    trial = Trial(ledger, app, version or app.newest, tenant_meant(tenant), folder)
    passed = trial.run(output, again, Serving(start, engine_threads), as_json=as_json)
    raise typer.Exit(0 if passed else 1)


def label(
    name: NameArgument,
    label: Annotated[str, typer.Argument(metavar="LABEL", help="the label, such as production")],
    version: Annotated[int | None, typer.Option("--version", min=1, help="by default the newest")] = None,
    back: Annotated[bool, typer.Option("--back", help="for production, the version that it named before")] = False,
    without_gate: Annotated[
        str | None, typer.Option("--without-gate", metavar="REASON", help="for production, without a passed test")
    ] = None,
    why: _WhyOption = None,
    tenant: TenantOption = None,
    shared: SharedOption = False,
    by: _ByOption = None,
) -> None:
    """Let a label name a version. It holds for jobs that are sent more than one second later.

    `production` moves only to a version that passed its test with the models that are served now. `--without-gate`
    moves it all the same, and the history has the reason. A second `--back` goes one version further back.

    Examples: `headrace apps label ticket-triage production`, `headrace apps label ticket-triage canary --version 4`,
    `headrace apps label ticket-triage production --back --why "wrong queue for refunds"`
    """
    if back and (label != PRODUCTION or version or without_gate is not None):
        raise ConfigurationError(f"--back is for the label {PRODUCTION} alone: leave --version and --without-gate out")
    if without_gate is not None and label != PRODUCTION:
        raise ConfigurationError(f"--without-gate is for the label {PRODUCTION}: other labels have no gate")
    if without_gate is not None and not without_gate.strip():
        raise ConfigurationError("--without-gate needs a reason, such as --without-gate 'the provider withdrew it'")
    ledger = need_ledger()
    app = _own(ledger, name, _scope(tenant, shared))
    if back:
        moved = _applications(ledger).rollback(app.scope, name, _who(by), why)
        say(f"{name}@{PRODUCTION} is version {moved.to_number} again, and was {moved.from_number}")
        return
    number, gate = version or app.newest, None
    if _checked(Label, label, "label") == PRODUCTION:
        gate = PASSED if without_gate is None else SKIPPED
    if gate == PASSED:
        _check_gate(ledger, app, number)
    move = ledger.of(Applications).move(app.scope, name, label, number, _who(by), without_gate or why, gate)
    if move is None:
        say(f"{name}@{label} is version {number} already")
        return
    before = "" if move.from_number is None else f", and was {move.from_number}"
    say(f"{name}@{label} is version {number} now{before}")


def _check_gate(ledger: Ledger, app: Application, number: int) -> None:
    """Raise GateClosed unless this version passed its test with the models that are served now."""
    applications, text = _applications(ledger), f"{app.name}@{number}"
    definition = Definition.from_json(_version(applications, app, str(number)).definition)
    last = applications.last_test(app.scope, app.name, number)

    def refuse(what: str, *, testable: bool = True) -> NoReturn:
        test = (
            f"`headrace apps test {app.name} --version {number}`, or " if testable else "a version with a [test], or "
        )
        raise GateClosed(f"{text} {what}: {test}--without-gate REASON; {PRODUCTION} has not moved")

    if definition.test is None:
        refuse("has no [test], so nothing shows that it is good enough", testable=False)
    if last is None:
        refuse("was never tested")
    if not last.passed:
        refuse("did not pass its last test")
    now = identities(definition, ledger)
    if changed := sorted(name for name in now.keys() | last.models.keys() if now.get(name) != last.models.get(name)):
        noun = "the models" if len(changed) > 1 else "the model"
        refuse(f"was tested before {noun} {', '.join(changed)} changed")


def _show_history(moves: Sequence[Any], name: str, as_json: bool) -> None:
    rows = [{**move._asdict(), "at": rfc3339(move.at)} for move in moves] if as_json else moves
    columns: dict[str, Column] = {
        "when": lambda move: show_time(move.at), "label": "label", "from": "from_number", "to": "to_number",
        "who": "who", "gate": "gate", "why": "why",
    }  # fmt: skip
    nothing = f"{name} has no labels: `headrace apps label {name} {PRODUCTION}` sets one"
    put_list(rows, columns, nothing, as_json=as_json, right=("from", "to"))


def pull(
    name: Annotated[str, typer.Argument(metavar="NAME[@LABEL]", help="the application, or NAME@VERSION")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="by default NAME.toml; - for standard output")
    ] = None,
    tenant: TenantOption = None,
    shared: SharedOption = False,
) -> None:
    """Write a version as a file, with the texts of the files beside it in it. Pushing that file gives the same version.

    The dataset of its test is not part of a version.

    Examples: `headrace apps pull ticket-triage`, `headrace apps pull ticket-triage@3 -o -`
    """
    name, _, at = name.partition("@")
    applications, app = _known(need_ledger(), name, tenant, shared)
    text = toml_of(Definition.from_json(_version(applications, app, at or PRODUCTION).definition))
    path = output or Path(f"{name}.toml")
    if str(path) == "-":
        put(text.rstrip("\n"))
        return
    if path.is_file() and path.read_bytes() != text.encode():
        raise ConfigurationError(f"{path} is there, and is another: name another file with -o, or remove it")
    write_file(path, [text.encode()])
    say(f"{path} is written")


def _scope(tenant: str | None, shared: bool) -> str:
    if shared and tenant is not None:
        raise ConfigurationError("--tenant and --shared are both given: give one of them")
    return SHARED if shared else tenant_meant(tenant)


def _who(by: str | None) -> str:
    return by or getpass.getuser()


def _checked(kind: Any, text: str, what: str) -> str:
    try:
        return str(TypeAdapter(kind).validate_python(text))
    except ValidationError as error:
        raise ConfigurationError(f"the {what} {text[:80]!r} {describe(error).removeprefix('value: ')}") from None


def _applications(ledger: Ledger) -> Applications:
    return ledger.of(Applications)


def _own(ledger: Ledger, name: str, scope: str) -> Application:
    """Return the application of this scope. Raise NoSuchThing, which says where one of this name is."""
    found = _applications(ledger).listed(name=_checked(Alias, name, "name"))
    for app in found:
        if app.scope == scope:
            return app
    others = [f"--tenant {app.scope}" if app.scope else "--shared" for app in found]
    whose = f"{scope} has no application {name}" if scope else f"no application {name} is shared"
    hint = f"; there is one with {others[0]}" if others else ": `headrace apps list` shows those that there are"
    raise NoSuchThing(whose + hint)


def _known(ledger: Ledger, name: str, tenant: str | None, shared: bool) -> tuple[Applications, Application]:
    """Return the application that a tenant's jobs get: its own, else the shared one. Raise NoSuchThing."""
    applications, scope = _applications(ledger), _scope(tenant, shared)
    return applications, applications.visible(scope, _checked(Alias, name, "name")) or _own(ledger, name, scope)


def _version(applications: Applications, app: Application, at: str) -> Version:
    """Return a version by its label or its number in digits. Raise NoSuchThing."""
    version = applications.version(app.scope, app.name, at)
    if version is None:
        kind = "version" if at.isdigit() else "label"
        raise NoSuchThing(f"{app.name} has no {kind} {at}: `headrace apps list {app.name}` shows what it has")
    return version


def _labels_in_words(app: Application) -> str:
    return ", ".join(f"{label} {number}" for label, number in app.labels.items())


def _test_json(test: Any) -> dict[str, Any] | None:
    return None if test is None else {**test._asdict(), "at": rfc3339(test.at)}


def _test_in_words(test: Any) -> str:
    gate = test.report.get("gate") or {}
    return str(gate.get("words") or ("passed" if test.passed else "not passed"))


def _week_in_words(week: Week) -> tuple[str, ...]:
    rate = f"{week.passed / week.judged:.1%} of {week.judged:,}" if week.judged else "–"
    cost = "–" if week.currency is None else f"{money(week.cost)} {week.currency}"
    return (f"{week.jobs:,}", rate, show_ms(week.p50_ms), show_ms(week.p95_ms), cost)
