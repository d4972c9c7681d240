"""Texts of others that moderation is to leave alone: product reviews and news, and what people write every day."""

import random
from typing import Final

from bench.foreign_package import Package, tar_member

# Hutto and Gilbert 2014: sentences of reviews at Amazon, of editorials of the New York Times, of film reviews, tweets.
VADER: Final = Package(
    "vaderSentiment==2.5",
    "b960c954831f5ca58afee61780cc04ed48e551b91e783bfcbfb2c18bb8081a84",
    "MIT",
    source_archive=True,
)
_INSIDE: Final = "vaderSentiment-2.5/additional_resources/hutto_ICWSM_2014.tar.gz"


def products_and_news(each: int) -> list[str]:
    """Return as many texts of product reviews and of news, drawn without regard to what they say."""
    return [*_drawn("amazonReviewSnippets", each), *_drawn("nytEditorialSnippets", each)]


def everyday(each: int) -> list[str]:
    """Return as many texts each of product reviews, news, film reviews and tweets."""
    names = ("amazonReviewSnippets", "nytEditorialSnippets", "movieReviewSnippets", "tweets")
    return [text for name in names for text in _drawn(name, each)]


def _drawn(name: str, count: int) -> list[str]:
    content = tar_member(VADER.read(_INSIDE), f"hutto_ICWSM_2014/{name}_GroundTruth.txt").decode("utf-8", "replace")
    texts = sorted({line.split("\t")[-1].strip() for line in content.splitlines() if "\t" in line})
    return random.Random(7).sample(texts, min(count, len(texts)))
