"""Texts of others that moderation is to leave alone: product reviews and news, what people write every day, and what
they ask of models.
"""

import gzip
import json
import random
import re
from typing import Any, Final

from bench.foreign_package import Package, fetched, tar_member

# Hutto and Gilbert 2014: sentences of reviews at Amazon, of editorials of the New York Times, of film reviews, tweets.
VADER: Final = Package(
    "vaderSentiment==2.5",
    "b960c954831f5ca58afee61780cc04ed48e551b91e783bfcbfb2c18bb8081a84",
    "MIT",
    source_archive=True,
)
EVALSCOPE: Final = Package(
    "evalscope==1.14.1", "ae4bb15908862d6ae22c9ffe2af3c11e8f446a0ea798912870178f4347ef90c4", "Apache-2.0"
)
# Markov et al. 2023, the test set of OpenAI's moderation. MIT. The texts are read and counted, and never shown.
_SAMPLES: Final = (
    "https://raw.githubusercontent.com/openai/moderation-api-release/"
    "f4ab51b5edd3bfbcb349a56324274235b674e0e4/data/samples-1680.jsonl.gz"
)
_SAMPLES_DIGEST: Final = "ef3f7de86ee394fe337b0a566ba4b9c7db058f3caa8d6a4a0006138b663ab9a8"
_WRITING: Final = "evalscope/third_party/longbench_write/resources/longbench_write.jsonl"
_CUT: Final = re.compile(r"\s*\.\.\. \[TRUNCATED[^]]*\](?: \.\.\.)?")
_INSIDE: Final = "vaderSentiment-2.5/additional_resources/hutto_ICWSM_2014.tar.gz"


def products_and_news(each: int) -> list[str]:
    """Return as many texts of product reviews and of news, drawn without regard to what they say."""
    return [*_drawn("amazonReviewSnippets", each), *_drawn("nytEditorialSnippets", each)]


def everyday(each: int) -> list[str]:
    """Return as many texts each of product reviews, news, film reviews and tweets."""
    names = ("amazonReviewSnippets", "nytEditorialSnippets", "movieReviewSnippets", "tweets")
    return [text for name in names for text in _drawn(name, each)]


def labelled(label: str) -> tuple[list[str], list[str]]:
    """Return the texts that have a label of OpenAI's test set for moderation, and the texts that are known not to have
    it. Raise Unavailable where the set cannot be had.
    """
    content = fetched(_SAMPLES, "samples-1680.jsonl.gz", _SAMPLES_DIGEST)
    samples = [json.loads(line) for line in gzip.decompress(content).splitlines()]
    with_it, without = ([sample["prompt"] for sample in samples if sample.get(label) == known] for known in (1, 0))
    return with_it, without


def _drawn(name: str, count: int) -> list[str]:
    content = tar_member(VADER.read(_INSIDE), f"hutto_ICWSM_2014/{name}_GroundTruth.txt").decode("utf-8", "replace")
    texts = sorted({line.split("\t")[-1].strip() for line in content.splitlines() if "\t" in line})
    return random.Random(7).sample(texts, min(count, len(texts)))


def tasks() -> list[str]:
    """Return what models are asked: an example of each benchmark of evalscope, and its requests to write something. In
    English, and without what it cut out of long examples.
    """
    found = [json.loads(line)["prompt"] for line in EVALSCOPE.read(_WRITING).splitlines()]
    for name in EVALSCOPE.members("evalscope/benchmarks/_meta/"):
        example = json.loads(EVALSCOPE.read(name)).get("sample_example") or {}
        found.append(_CUT.sub(" ", _words((example.get("data") or {}).get("input"))).strip())
    return [text for text in dict.fromkeys(found) if len(text) > 20 and is_english(text)]


def is_english(text: str) -> bool:
    """Return True if hardly any character is foreign to English."""
    return sum(map(str.isascii, text)) > 0.9 * len(text)


def _words(asked: Any) -> str:
    """Return the text of a prompt: of its turns, and of their parts."""
    match asked:
        case str():
            return asked
        case dict():
            return _words(asked.get("content") or asked.get("text"))
        case list():
            return "\n".join(filter(None, map(_words, asked)))
    return ""
