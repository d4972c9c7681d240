"""The model card of a trained head: its training data, and its results on data that it has not seen. Pure."""

from collections import Counter
from collections.abc import Iterator, Sequence

from headrace_workers.features.moderation.examples import Example, sources_of
from headrace_workers.features.moderation.head import SCORE_FLOOR
from headrace_workers.features.moderation.head_training import Trained
from headrace_workers.features.moderation.siblings import families
from headrace_workers.features.quality.estimates import Estimate, Undefined


def card(trained: Trained, examples: Sequence[Example], file: str) -> str:
    """Return the card as Markdown."""
    return "\n".join([*_about(trained, file), *_data(examples), *_figures(trained), *_left_out(trained)]) + "\n"


def _about(trained: Trained, file: str) -> Iterator[str]:
    yield f"# {file}"
    yield ""
    yield f"A head for moderation, version `{trained.head.version}`: logistic regression for each category by itself,"
    yield f"over the sentences and longer stretches of a text, as the embedder `{trained.head.embedder}` reads them."
    yield ""
    yield "**Trained on prompts, unmeasured on outputs**, unless the sources below hold outputs of models. What it says"
    yield "of those is for a person to review, until it was measured on them."
    yield ""


def _data(examples: Sequence[Example]) -> Iterator[str]:
    yield "## Data"
    yield ""
    yield "| source | licence | texts | without siblings | benign | positives |"
    yield "|---|---|---|---|---|---|"
    family = dict(zip(map(id, examples), families([example.text for example in examples]), strict=True))
    for source, own in sources_of(list(examples)).items():
        counts = Counter(name for example in own for name, of_it in example.labels.items() if of_it)
        positives = ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items())) or "none"
        licences = ", ".join(sorted({example.licence for example in own}))
        alone = len({family[id(example)] for example in own})
        benign = sum(example.benign for example in own)
        yield f"| {_cell(source)} | {_cell(licences)} | {len(own):,} | {alone:,} | {benign:,} | {positives} |"
    yield ""
    yield "Siblings are texts of one template, or copies. They count under the source of the first of them."
    yield ""


def _figures(trained: Trained) -> Iterator[str]:
    yield "## Figures"
    yield ""
    yield f"At a score of {SCORE_FLOOR}. Split by source, never at random: each figure is of texts of sources that the"
    yield "head which was asked had not seen. In brackets, Wilson's interval at 95 %."
    yield ""
    yield "| category | positives | negatives | precision | recall | benign false positives |"
    yield "|---|---|---|---|---|---|"
    for name, found in trained.figures.items():
        rates = found.whole
        shares = " | ".join(map(_share, (rates.precision, rates.recall, rates.benign_false_positives)))
        yield f"| `{name}` | {found.positives:,} | {found.negatives:,} | {shares} |"
    yield ""
    yield "| category | source that was left out | recall | benign false positives |"
    yield "|---|---|---|---|"
    for name, found in trained.figures.items():
        for source, rates in found.by_source.items():
            yield f"| `{name}` | {_cell(source)} | {_share(rates.recall)} | {_share(rates.benign_false_positives)} |"
    yield ""


def _left_out(trained: Trained) -> Iterator[str]:
    if trained.left_out:
        yield "## Not trained"
        yield ""
        yield from (f"- `{name}`: {reason}" for name, reason in trained.left_out.items())


def _share(found: Estimate | Undefined) -> str:
    if isinstance(found, Undefined):
        return found.reason
    return f"{found.value:.3f} [{found.interval.low:.3f}, {found.interval.high:.3f}] of {found.n:,}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
