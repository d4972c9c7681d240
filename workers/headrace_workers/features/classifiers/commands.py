"""`headrace classifier`: train a head that answers a question in place of a language model, and measure it."""

import tempfile
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from headrace_schemas.errors import ConfigurationError
from headrace_workers.cli.connections import need_ledger
from headrace_workers.cli.options import JsonLinesOption, OneJsonOption, checked_tenant, tenant_meant
from headrace_workers.cli.output import console, put_json, say, table
from headrace_workers.cli.streams import standard_input
from headrace_workers.features.classifiers.card import (
    Card,
    check_name,
    classifiers,
    delete_classifier,
    find_classifier,
    load_classifier,
    save_classifier,
)
from headrace_workers.features.classifiers.decided import DecidedRows
from headrace_workers.features.classifiers.generator import ClassifierGenerator
from headrace_workers.features.classifiers.training import (
    Rule,
    check_enough,
    figures_of,
    interval,
    read_data,
    read_rows,
    vectors_of,
)
from headrace_workers.features.classifiers.training import train as learn
from headrace_workers.models.embedders.load_embedder import load_embedder
from headrace_workers.models.registry import model_dir
from headrace_workers.runtime.settings import ModelSettings, home_of

_Name = Annotated[str, typer.Argument(metavar="NAME", help="the name by which jobs ask for it, as for any model")]
_Tenant = Annotated[str | None, typer.Option("--tenant", help="only this tenant's, and those of no tenant")]
_MOST_BYTES: Final = 200_000_000  # of standard input: a container of the compose file has 256 MB for such a file
_THRESHOLDS: Final = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


def train(
    name: _Name,
    question: Annotated[str, typer.Option("--question", "-q", help="the name of the question that it answers")],
    data: Annotated[Path | None, typer.Option("--data", help="JSON lines: input, label; - is standard input")] = None,
    from_decisions: Annotated[
        bool, typer.Option("--from-decisions", help="learn from the decisions of --tenant in the ledger")
    ] = False,
    least: Annotated[
        float, typer.Option("--least-confidence", min=0, max=1, help="learn from decisions that were as sure as this")
    ] = 0.0,
    agreement: Annotated[
        float, typer.Option("--agreement", min=0.5, max=0.999, help="share of its answers that must be as labelled")
    ] = 0.95,
    instructions: Annotated[
        str | None, typer.Option("--instructions", help="answer the question only if its instructions are these")
    ] = None,
    licence: Annotated[str, typer.Option("--licence", help="of the data; its card repeats it")] = "not stated",
    tenant: Annotated[
        str | None, typer.Option("--tenant", help="the only tenant whose jobs may name it; without it, all may")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="another seed splits the rows in another way")] = 0,
    as_json: OneJsonOption = False,
) -> None:
    """Train a classifier on the vectors of the deployment's embedder, and write it as a model.

    A line of the data has an `input` and a `label`: a text, true or false; null says that no choice fits. It abstains
    below a threshold, so that the next model of a job's chain answers. A fifth of the rows is held out, and shows the
    agreement at 95 %.

    Examples: `headrace classifier train urgent --data labels.jsonl --question urgent`; `headrace classifier train
    intent --from-decisions --tenant acme --question intent --agreement 0.97`
    """
    home, owner = home_of(), "" if tenant is None else checked_tenant(tenant)
    if (data is None) != from_decisions:
        raise ConfigurationError("give either --data FILE or --from-decisions")
    check_name(home, name, owner)
    if data == Path("-"):
        with standard_input(_MOST_BYTES) as path:
            card = _trained(home, name, path, question, agreement, instructions, licence, owner, seed)
    elif data is not None:
        card = _trained(home, name, data, question, agreement, instructions, licence, owner, seed)
    else:
        with tempfile.TemporaryDirectory() as folder:
            rows = Path(folder) / "decisions.jsonl"
            asked = _write_decided(rows, tenant_meant(tenant), question, least, home)
            card = _trained(home, name, rows, question, agreement, instructions or asked, licence, owner, seed)
    if as_json:
        put_json({"classifier": name, **card.model_dump(mode="json")})
    say(
        f"{name}: answers {card.served:,} of {card.held_out:,} held-out rows, {card.agreed:,} of them as labelled: an "
        f"agreement of {card.agreement_bound:.3f} at least. Serve it with `headrace up --model {name}`, and "
        "name it first in a chain"
    )


def _trained(
    home: Path, name: str, data: Path, question: str, agreement: float, instructions: str | None, licence: str,
    owner: str, seed: int
) -> Card:  # fmt: skip

    embedder_name = ModelSettings.from_env().embedder
    embedder = load_embedder(home, embedder_name)
    rows = read_data(data, embedder, seed)
    for line in rows.said:
        say(f"{data.name}: {line}")
    check_enough(len(rows.labels), agreement)
    labels = tuple(label for label in rows.classes if label is not None)
    trained = learn(
        vectors_of(rows, embedder), rows.labels, len(rows.classes), len(labels), agreement, seed, embedder.id
    )
    figures = trained.figures
    card = Card(
        question=question, instructions=instructions, labels=labels, none=None in rows.classes,
        embedder=embedder_name, threshold=trained.rule.threshold,
        least_logit=trained.rule.least_logit, agreement=agreement, agreement_bound=figures.agreement_bound,
        rows=trained.rows, held_out=figures.rows, served=figures.served, agreed=figures.agreed, right=figures.right,
        foreign=figures.foreign,
        calibration_error=figures.calibration_error, calibrated=trained.calibrated, data_sha256=rows.digest, seed=seed,
    )  # fmt: skip
    save_classifier(
        home, name, card, trained.head, trained.novelty, source=f"{data.name}#{rows.digest[:12]}", licence=licence,
        tenant=owner, context_length=embedder.max_tokens,
    )  # fmt: skip
    return card


def _write_decided(path: Path, tenant: str, question: str, least: float, home: Path) -> str | None:
    """Write the tenant's decided rows as a file, and return the instructions of the question. Raise ConfigurationError
    where there are none, or the question was asked in several ways.
    """
    asked: Counter[str] = Counter()
    own = frozenset(card.alias for card in classifiers(home))
    with path.open("w", encoding="utf-8") as file:
        for row, question_asked in need_ledger().of(DecidedRows).of(tenant, question, least, own):
            asked[question_asked.instructions] += 1
            file.write(row.model_dump_json() + "\n")
    if not asked:
        raise ConfigurationError(f"the ledger has no decision of {tenant} with a question named {question!r}")
    if len(asked) > 1:
        raise ConfigurationError(
            f"the question {question!r} of {tenant} has {len(asked)} versions of its instructions: name each version "
            "otherwise, so that a classifier learns one"
        )
    return next(iter(asked))


def evaluate(
    name: _Name,
    data: Annotated[Path, typer.Option("--data", help="JSON lines: input, label; none that it was trained on")],
    cost: Annotated[
        float | None, typer.Option("--cost", min=0, help="what 1,000 jobs cost with the model after it in the chain")
    ] = None,
    as_json: OneJsonOption = False,
) -> None:
    """Measure a classifier: the share that it answers, and at which agreement, with exact intervals at 95 %.

    `headrace cost` shows what the jobs of a model cost. With --cost, it shows the cost of 1,000 jobs before and after.

    Example: `headrace classifier evaluate urgent --data test.jsonl --cost 0.40`
    """
    home = home_of()
    card, head, novelty = load_classifier(model_dir(home, name), find_classifier(home, name))
    embedder = load_embedder(home, card.embedder)
    ClassifierGenerator(name, card, head, novelty, embedder)  # refuses another embedder
    rows = read_rows(data, embedder, card.labels)
    for line in rows.said:
        say(f"{data.name}: {line}")
    vectors = vectors_of(rows, embedder)
    logits, foreign = head.logits(vectors), novelty.foreign(vectors)

    def line_of(rule: Rule) -> dict[str, Any]:
        figures = figures_of(logits, rows.labels, foreign, rule)
        return {
            "threshold": round(rule.threshold, 4),
            "rows": figures.rows, "served": figures.served, "agreed": figures.agreed,
            "share": figures.served / figures.rows, "share_interval": interval(figures.served, figures.rows),
            "agreement": figures.agreed / figures.served if figures.served else None,
            "agreement_interval": interval(figures.agreed, figures.served),
            "cost": cost, "cost_after": None if cost is None else cost * (1 - figures.served / figures.rows),
        }  # fmt: skip

    refused, count = int(foreign.sum()), len(foreign)
    refused_interval = interval(refused, count)
    own = line_of(card.rule)
    others = [line_of(Rule(at, card.least_logit, len(card.labels))) for at in _THRESHOLDS]
    if as_json:
        accuracy = figures_of(logits, rows.labels, foreign, card.rule).right / count
        put_json({"classifier": name, **own, "accuracy": accuracy, "foreign": refused,
                  "foreign_interval": refused_interval, "thresholds": others})  # fmt: skip
        return
    cells = [_cells(entry) for entry in (own, *others)]
    cells[0] = (f"{cells[0][0]} (its own)", *cells[0][1:])
    columns = ("threshold", "answers", "95 %", "as labelled", "95 %", "1,000 jobs cost")
    console(data=True).print(table(name, columns, cells, right=columns[1:]))
    low, high = refused_interval
    say(f"{refused:,} of {count:,} texts ({low:.1%} to {high:.1%}) are outside what {name} was trained on: it leaves "
        "them to the next model at every threshold")  # fmt: skip


def _cells(line: dict[str, Any]) -> tuple[str, ...]:
    def share(value: float | None) -> str:
        return "–" if value is None else f"{value:.1%}"

    def between(pair: tuple[float, float]) -> str:
        return f"{pair[0]:.1%} to {pair[1]:.1%}"

    cost = "–" if line["cost"] is None else f"{line['cost']:.2f}, now {line['cost_after']:.2f}"
    return (
        f"{line['threshold']:.3f}", share(line["share"]), between(line["share_interval"]), share(line["agreement"]),
        between(line["agreement_interval"]), cost,
    )  # fmt: skip


def list_all(tenant: _Tenant = None, as_json: JsonLinesOption = False) -> None:
    """List the classifiers of this home: their questions, and what they were shown to do.

    Example: `headrace classifier list --tenant acme`
    """
    home = home_of()
    found = [(card, load_classifier(model_dir(home, card.alias), card)[0]) for card in classifiers(home, tenant)]
    if as_json:
        for model, card in found:
            put_json({"classifier": model.alias, "tenant": model.tenant or None, "licence": model.licence,
                      **card.model_dump(mode="json")})  # fmt: skip
        return
    if not found:
        say("no classifiers here: `headrace classifier train` makes one")
        return
    rows = [
        (model.alias, card.question, f"{len(card.labels):,}", model.tenant or "all", f"{card.rows:,}",
         f"{card.served / card.held_out:.1%}", f"{card.foreign / card.held_out:.1%}", f"{card.agreement_bound:.3f}",
         card.embedder)
        for model, card in found
    ]  # fmt: skip
    columns = ("classifier", "question", "labels", "tenant", "rows", "answers", "outside", "agreement", "embedder")
    console(data=True).print(table(None, columns, rows, right=columns[2:3] + columns[4:8]))


def delete(name: _Name, tenant: _Tenant = None) -> None:
    """Delete a classifier. Jobs that name it alone are refused from then on.

    Example: `headrace classifier delete urgent`
    """
    delete_classifier(home_of(), name, tenant)
    say(f"{name} is deleted")
