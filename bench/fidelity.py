"""Fidelity: how far int8 is from float32 on this processor, and on its kernels without VNNI."""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from bench.ends import Say
from bench.flow import SMOLLM2
from bench.groundedness_texts import HELD_OUT, HELD_OUT_2, SUPPORTED, TEXTS, pairs
from bench.peers.process import ask, command
from bench.report import Report, Row, report, row
from headrace_schemas.aliases import DEFAULT_EMBEDDER

NAME = "fidelity"
# What oneDNN may be held to: nothing, and the newest instructions that add int8 products in 16 bits.
KERNELS: Final = {"as it is": {}, "held to AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2"}}
_QUICK: Final = 4  # documents
_SECONDS: Final = 1_800.0
_LOAD: Final = "import sys, ctranslate2; ctranslate2.Encoder(sys.argv[1]).forward_batch([[1, 2, 3]])"


def bench(say: Say, *, quick: bool = False, embedded: bool = False) -> Report:
    """Compare 100 documents (4 when quick) and their sentences. No service: `embedded` changes nothing."""
    from headrace_workers.models.pull import pull

    asked = texts(_QUICK if quick else None)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for model in (SMOLLM2, DEFAULT_EMBEDDER):
            for kind in ("float32", "int8"):
                say(f"{model} in {kind}")
                pull(model, folder / kind, kind)
        (folder / "texts.json").write_text(json.dumps(asked), encoding="utf-8")
        rows, ran = [], []
        for label, held in KERNELS.items():
            env = os.environ | held
            ran.append(f"{label}: {kernels(folder / 'int8' / 'models' / DEFAULT_EMBEDDER, env)}")
            say(f"{len(asked['documents'])} documents, {ran[-1]}")
            rows += figures(label, ask(command("fidelity", str(folder)), env, _SECONDS))
    return report(NAME, "; ".join(ran), rows)


def texts(documents: int | None = None) -> dict[str, list[str]]:
    """Return the documents of the bench of groundedness, and sentences that they support; of the first few only."""
    found = [pair for file in (TEXTS, HELD_OUT, HELD_OUT_2) for pair in pairs(file) if pair.kind == SUPPORTED]
    contexts = list(dict.fromkeys(pair.context for pair in found))[:documents]
    return {"documents": contexts, "sentences": [pair.claim for pair in found if pair.context in contexts]}


def kernels(model: Path, env: dict[str, str]) -> str:
    """Return which library multiplies int8 in such an environment, and with which instructions."""
    loud = env | {"CT2_VERBOSE": "1", "ONEDNN_VERBOSE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", _LOAD, str(model)],
        env=loud, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True, timeout=_SECONDS,
    )  # fmt: skip
    return kernels_of(done.stdout)


def kernels_of(said: str) -> str:
    """Return what both libraries say of themselves: CTranslate2's name of its int8 backend, and oneDNN's of its ISA."""
    backend = re.search(r"GEMM_S8 backend: (\w+)", said)
    isa = re.search(r"cpu,isa:(.+)", said)  # Only where oneDNN ran.
    named = [backend.group(1) if backend else "unknown", *([isa.group(1).strip()] if isa else [])]
    return ", ".join(named)


def figures(label: str, found: dict[str, Any]) -> list[Row]:
    """Return what one process measured, with the targets."""
    return [
        row(f"{label}: SmolLM2, perplexity in float32", found["perplexity"]),
        row(f"{label}: SmolLM2, perplexity of int8 to float32", found["ratio"], "ratio", at_most=1.10),
        row(f"{label}: SmolLM2, the same most probable token", found["agreement"], "share", at_least=0.85),
        row(f"{label}: SmolLM2, KL divergence from float32", found["divergence"], "nats/token", at_most=0.1),
        row(f"{label}: SmolLM2, time of int8 to float32", found["time"], "ratio"),
        row(f"{label}: MiniLM, cosine to float32, mean", found["mean"], at_least=0.995),
        row(f"{label}: MiniLM, cosine to float32, least", found["least"], at_least=0.98),
    ]
