"""A Transformers folder as a CTranslate2 folder, after a proof that CTranslate2 computes this network right.

CTranslate2's converter leaves out, without a word, what it does not know of some networks: with Llama 3.1's rotations
as it writes them, a model is fluent and wrong. So a small random network of the same configuration goes first, and its
logits are compared with those of Transformers.
"""

import copy
import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from headrace_schemas.errors import ConfigurationError
from headrace_workers.features.generation.models.int8_weights import quantize
from headrace_workers.features.generation.models.llama_spec import RotaryScaling, scale_rotations

_TOKENS: Final = 320  # the vocabulary of the small network
_LENGTH: Final = 200  # tokens whose logits are compared
_WINDOW, _BEHIND_WINDOW, _ANSWER = 64, 100, 8  # tokens: a small window, a prompt that is longer, and its answer
_SPECIAL: Final = {"unk_token": "t0", "pad_token": "t0", "bos_token": "t1", "eos_token": "t2"}
_TOLERANCE: Final = 0.01  # of the logits' standard deviation; right networks differ by less than a thousandth of it


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
