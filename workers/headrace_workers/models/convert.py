"""Any causal language model that CTranslate2 knows, from a Transformers folder, a GGUF file or the model hub.

A sentence-transformers folder becomes an embedder instead, and needs no torch. CTranslate2's converter leaves out,
without a word, what it does not know of some networks: with Llama 3.1's rotations as it writes them, a model is fluent
and wrong. So a small random network of the same configuration goes first, and its logits are compared with those of
Transformers.
"""

import copy
import importlib.util
import json
import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from headrace_schemas.errors import ConfigurationError, Unavailable
from headrace_workers.models.convert_gguf import convert_gguf, gguf_parts
from headrace_workers.models.engines.engine import Kind
from headrace_workers.models.llama_spec import RotaryScaling, scale_rotations
from headrace_workers.models.quantization import DEFAULT, check_quantization, quantize, weight_range
from headrace_workers.models.registry import (
    ModelCard,
    Progress,
    copy_present,
    folder_size,
    is_installed,
    load_card,
    model_dir,
    sha256_of,
    staged_model,
    write_card,
)
from headrace_workers.models.sentence_encoder import convert_sentence_encoder, is_sentence_encoder

# Files that serving reads beside the weights; a newer Transformers writes the chat template into a file of its own.
TOKENIZER_FILES: Final = (
    "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json",
)  # fmt: skip

_TOKENS: Final = 320  # the vocabulary of the small network
_LENGTH: Final = 200  # tokens whose logits are compared
_WINDOW, _BEHIND_WINDOW, _ANSWER = 64, 100, 8  # tokens: a small window, a prompt that is longer, and its answer
_SPECIAL: Final = {"unk_token": "t0", "pad_token": "t0", "bos_token": "t1", "eos_token": "t2"}
_TOLERANCE: Final = 0.01  # of the logits' standard deviation; right networks differ by less than a thousandth of it


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
            origin += f"#sha256={weights_sha256(folder)}"
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
    if not is_installed(home, alias):
        return False
    card = load_card(home, alias)
    if card.source != f"file:{path.name}#sha256={sha256_of(*gguf_parts(path))}":
        raise ConfigurationError(
            f"{path.name} would be called {alias}, which is another model here, made from {card.source}: convert the "
            f"file under another name with `headrace models convert {path} --alias NAME`, and serve NAME"
        )
    return card.weight_range == weight_range(card.quantization)


def weights_sha256(folder: Path) -> str:
    """Return the SHA-256 over the configuration and the weights of a Transformers folder, in order of their names."""
    weights = sorted(path for kind in ("*.safetensors", "*.bin") for path in folder.glob(kind))
    return sha256_of(*(path for path in (folder / "config.json", *weights) if path.is_file()))


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


def convert_transformers(folder: Path, draft: Path, quantization: str) -> int | None:
    """Write the network into `draft`. Return the largest context in tokens that it computes right, None for any.

    Raise ConfigurationError if CTranslate2 does not know the network, or computes it unlike Transformers.
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(str(folder))
        window = _check(config, folder.name)
        spec = _spec_of(_converter(folder), config)
        quantize(spec, quantization)
        spec.save(str(draft))
    except ConfigurationError:
        raise
    except Exception as error:  # a configuration that these libraries did not foresee can raise anything
        raise ConfigurationError(f"{folder.name} cannot be converted: {type(error).__name__}: {error}") from error
    return window


def _converter(folder: Path) -> Any:
    from ctranslate2.converters import TransformersConverter

    return TransformersConverter(str(folder), low_cpu_mem_usage=True)


def _spec_of(converter: Any, config: Any) -> Any:
    """Return the network as CTranslate2 describes it. The library's `convert` would quantize it, too."""
    spec = converter._load()
    scaling = getattr(config.get_text_config(), "rope_scaling", None) or {}
    if scaling.get("rope_type") == "llama3":
        numbers = RotaryScaling(
            factor=scaling["factor"],
            low=scaling["low_freq_factor"],
            high=scaling["high_freq_factor"],
            original=scaling["original_max_position_embeddings"],
        )
        for layer in spec.decoder.layer:
            scale_rotations(layer.self_attention, numbers)
    return spec


def _check(config: Any, name: str) -> int | None:
    """Return the largest prompt in tokens that is computed right, None for any. Raise ConfigurationError if none is."""
    import numpy as np

    window = _window(config)
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    ids = _random_ids(min(_LENGTH, positions or _LENGTH, window or _LENGTH))
    with TemporaryDirectory() as place:
        network, engine = _build(_small(config), Path(place))
        theirs = _logits(network, ids)
        ours = np.array(engine.forward_batch([_tokens(ids)]))[0][:, : theirs.shape[1]]
    difference = float(np.abs(ours - theirs).max() / theirs.std())
    if not difference <= _TOLERANCE:  # not a number is refused, too
        raise ConfigurationError(
            f"{name} is of a kind ({config.model_type}) that CTranslate2 computes otherwise than Transformers: logits "
            f"of a random network differ by {difference:.2g} of their standard deviation. Serve it with llama.cpp or "
            "vLLM, and name their endpoint in models.toml"
        )
    return None if window is None or _slides(config) else window


def _window(config: Any) -> int | None:
    """Return how many tokens back attention reaches, None if it reaches all."""
    text = config.get_text_config()
    kinds = getattr(text, "layer_types", None) or ["sliding_attention"]
    return getattr(text, "sliding_window", None) or None if "sliding_attention" in kinds else None


def _slides(config: Any) -> bool:
    """Return True if prompts longer than the window are computed right."""
    small = _small(config)
    small.get_text_config().sliding_window = _WINDOW
    ids = _random_ids(_BEHIND_WINDOW)
    with TemporaryDirectory() as place:
        network, engine = _build(small, Path(place))
        answer = engine.generate_batch(
            [_tokens(ids)], max_length=_ANSWER, sampling_topk=1, include_prompt_in_result=False, end_token=[]
        )[0].sequences[0]
        for token in answer:
            best = int(_logits(network, ids)[-1].argmax())
            if f"t{best}" != token:
                return False
            ids.append(best)
    return True


def _small(config: Any) -> Any:
    """Return this configuration with few layers, one of each kind at least, and few tokens."""
    small = copy.deepcopy(config)
    small._attn_implementation = "eager"
    text = small.get_text_config()
    layers, kinds = 2, getattr(text, "layer_types", None)
    if kinds:
        layers = max(2, *(kinds.index(kind) + 1 for kind in set(kinds)))
        text.layer_types = kinds[:layers]
    text.num_hidden_layers = layers
    text.vocab_size = _TOKENS
    text.pad_token_id, text.bos_token_id, text.eos_token_id = 0, 1, 2
    return small


def _build(small: Any, place: Path) -> tuple[Any, Any]:
    """Return a random network of this configuration, as Transformers and as CTranslate2 compute it."""
    import ctranslate2
    import torch
    from ctranslate2.converters import TransformersConverter

    networks = []

    class Probe(TransformersConverter):  # type: ignore[misc]
        def load_model(self, model_class: Any, _name: str, **_: Any) -> Any:
            torch.manual_seed(0)
            make = getattr(model_class, "from_config", None) or model_class._from_config
            network = make(small).float().eval()
            with torch.no_grad():
                for weights in network.parameters():
                    if weights.dim() > 1:  # large enough that attention decides the logits
                        weights.normal_(0, 2.4 / math.sqrt(weights.shape[-1]))
                    else:
                        weights.add_(torch.randn_like(weights), alpha=0.2)
            networks.append(network)
            return copy.deepcopy(network)  # which the converter takes apart

        def load_tokenizer(self, _class: Any, _name: str, **_: Any) -> Any:
            return _small_tokenizer()

    small.save_pretrained(str(place))
    (place / "engine").mkdir()
    spec = _spec_of(Probe(str(place)), small)
    spec.validate()
    spec.save(str(place / "engine"))
    return networks[0], ctranslate2.Generator(str(place / "engine"), compute_type="float32")


def _small_tokenizer() -> Any:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = models.WordLevel({f"t{number}": number for number in range(_TOKENS)}, unk_token=_SPECIAL["unk_token"])
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(words), **_SPECIAL)


def _random_ids(count: int) -> list[int]:
    import numpy as np

    return [1, *(int(number) for number in np.random.default_rng(0).integers(3, _TOKENS, count - 1))]


def _tokens(ids: list[int]) -> list[str]:
    return [f"t{number}" for number in ids]


def _logits(network: Any, ids: list[int]) -> Any:
    import torch

    with torch.no_grad():
        return network(torch.tensor([ids])).logits[0].numpy()
