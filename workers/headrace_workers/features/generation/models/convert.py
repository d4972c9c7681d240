"""Any causal language model that CTranslate2 knows, from a Transformers folder, a GGUF file or the model hub.

A sentence-transformers folder becomes an embedder instead, and needs no torch.
"""

import importlib.util
import json
from pathlib import Path
from typing import Any, Final

from headrace_schemas.errors import ConfigurationError, Unavailable
from headrace_workers.features.generation.engines.engine import Kind
from headrace_workers.features.generation.models.convert_gguf import convert_gguf, gguf_parts
from headrace_workers.features.generation.models.convert_transformers import convert_transformers
from headrace_workers.features.generation.models.quantization import DEFAULT, check_quantization, weight_range
from headrace_workers.features.generation.models.registry import (
    CARD_FILE,
    ModelCard,
    load_card,
    model_dir,
    write_card,
)
from headrace_workers.features.generation.models.sentence_encoder import convert_sentence_encoder, is_sentence_encoder
from headrace_workers.features.generation.models.staging import (
    Progress,
    copy_present,
    folder_size,
    sha256_of,
    staged_model,
)

# Files that serving reads beside the weights; a newer Transformers writes the chat template into a file of its own.
TOKENIZER_FILES: Final = (
    "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json",
)  # fmt: skip


def convert(
    source: str,
    alias: str,
    home: Path,
    quantization: str = DEFAULT,
    *,
    for_elsewhere: bool = False,
    progress: Progress = lambda doing, done: None,
) -> ModelCard:
    """Convert `source` into `<home>/models/<alias>`, in place of what is there.

    A path that ends in `.gguf` is read directly; a folder, or else the id of a model on the hub (`owner/name`, needs a
    network), goes through Transformers and needs the extra `convert`. A sentence-transformers folder is read directly
    and becomes an embedder. ConfigurationError and Unavailable say what is missing.
    """
    check_quantization(quantization, for_elsewhere=for_elsewhere)
    model_dir(home, alias)  # refuses a bad alias before minutes of work
    path = Path(source).expanduser()
    if not path.exists() and (path.suffix == ".gguf" or source.startswith(("/", ".", "~"))):
        raise ConfigurationError(f"{source} does not exist: give a Transformers folder, a .gguf file or a hub id")
    kind: Kind = "generator"
    with staged_model(home, alias) as draft:
        if path.is_file():
            facts = convert_gguf(
                path, draft, quantization, lambda done: progress(f"converting to {quantization}", done)
            )
            origin = f"file:{path.name}#sha256={sha256_of(*gguf_parts(path))}"
            licence, context_length = facts.licence, facts.context_length
        else:
            folder = path if path.is_dir() else _fetch(source)
            origin = f"folder:{path.name}" if path.is_dir() else f"hub:{source}@{folder.name}"
            licence = _licence(folder)
            if is_sentence_encoder(folder):
                kind, context_length = "embedder", convert_sentence_encoder(folder, draft, quantization).max_tokens
            else:
                context_length = _through_transformers(folder, draft, quantization)
        card = ModelCard(
            alias=alias,
            engine="ctranslate2",
            source=origin,
            licence=licence,
            sha256=sha256_of(draft / "model.bin"),
            quantization=quantization,
            weight_range=weight_range(quantization),
            size_bytes=folder_size(draft),
            context_length=context_length,
            kind=kind,
        )
        write_card(draft, card)
    return card


def is_made_of(home: Path, alias: str, path: Path) -> bool:
    """Return True if the model of this alias was made of this file, with weights that compute right on every CPU.

    A model of another file under that name is kept: ConfigurationError then says so.
    """
    if not (model_dir(home, alias) / CARD_FILE).is_file():
        return False
    card = load_card(home, alias)
    if card.source != f"file:{path.name}#sha256={sha256_of(*gguf_parts(path))}":
        raise ConfigurationError(
            f"{path.name} would be called {alias}, which is another model here, made from {card.source}: convert the "
            f"file under another name with `headrace models convert {path} --alias NAME`, and serve NAME"
        )
    return card.weight_range == weight_range(card.quantization)


def _through_transformers(folder: Path, draft: Path, quantization: str) -> int:
    """Write the model into `draft`, and return its context in tokens."""
    _need_extra()
    length = _context_length(folder)
    computed = convert_transformers(folder, draft, quantization)
    copy_present(TOKENIZER_FILES, folder, draft)
    if not (draft / "tokenizer.json").is_file():
        _write_fast_tokenizer(folder, draft)
    return length if computed is None else min(length, computed)


def _write_fast_tokenizer(folder: Path, draft: Path) -> None:
    # An older model has only a slow tokenizer: Transformers turns it into a `tokenizer.json`.
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    if not tokenizer.is_fast:
        raise ConfigurationError(f"{folder.name} has no tokenizer.json, and none can be made from its tokenizer")
    tokenizer.save_pretrained(str(draft))


def _fetch(hub_id: str) -> Path:
    _need_extra()
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    patterns = ["*.json", "*.safetensors", "*.jinja", "*.model", "README.md", "LICENSE*"]
    try:
        return Path(snapshot_download(hub_id, allow_patterns=patterns))
    except HFValidationError as error:
        raise ConfigurationError(f"{hub_id!r} is neither a path here nor an id on the hub: {error}") from error
    except Exception as error:  # the library's errors for a server that is no hub, and for impossible names
        raise Unavailable(f"{hub_id} cannot be fetched from the hub: {error}") from error


def _need_extra() -> None:
    missing = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"{' and '.join(missing)} missing, which this conversion needs: pip install 'headrace[convert]'. "
            "A GGUF file of the architecture llama, qwen2 or qwen3 needs neither"
        )


def _config(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return content


def _context_length(folder: Path) -> int:
    config = _config(folder)
    length = config.get("max_position_embeddings") or config.get("n_positions") or config.get("max_seq_len")
    if not isinstance(length, int):
        raise ConfigurationError(f"{folder.name}/config.json does not say how long the context is")
    return length


def _licence(folder: Path) -> str:
    """Return the licence in the front matter of the model's README, as the hub writes it."""
    readme = folder / "README.md"
    if not readme.is_file():
        return "unknown"
    for line in readme.read_text(encoding="utf-8", errors="replace").splitlines()[:60]:
        if line.startswith("license:"):
            return line.removeprefix("license:").strip().strip("'\"") or "unknown"
    return "unknown"
