"""Number formats of weights: which this machine computes in, and int8 with which every CPU computes the same.

A CPU without VNNI multiplies int8 in pairs: it adds activation 2k × weight 2k and activation 2k+1 × weight 2k+1 in 16
bits, and cuts off what does not fit. CTranslate2's own int8 weights go up to ±127, and overflow there. Here the scale
of each row is chosen so that no pair can overflow: activations are unsigned, up to 255, so the two weights of a pair
may sum to 128 on each side of zero. 255 × 128 = 32,640 fits into 16 bits, and 255 × 129 does not.
"""

from typing import TYPE_CHECKING, Any, Final

from headrace_schemas.errors import ConfigurationError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DEFAULT: Final = "int8"
PAIRS: Final = "pairs"  # the bound of the int8 weights that we write
QUANTIZATIONS: Final = ("int8", "int8_float32", "int8_float16", "int8_bfloat16", "float16", "bfloat16", "float32")

LARGEST: Final = 127  # of one weight
LARGEST_PAIR: Final = 128  # of two neighbours of one sign, together
_BEFORE_ROUNDING: Final = (
    LARGEST_PAIR - 0.1
)  # two roundings add up to 1, and a sum of integers below 129 is at most 128
_BLOCK: Final = 4_096  # rows that are worked on at a time: it bounds the memory
# The format of what is not multiplied (norms, biases) beside int8 weights; `int8` leaves it as it is.
_BESIDE: Final = {"int8_float32": "float32", "int8_float16": "float16", "int8_bfloat16": "bfloat16"}


def weight_range(quantization: str) -> str:
    """Return the name of the bound that weights in this format are written with; "" where none are int8."""
    return PAIRS if quantization.startswith("int8") else ""


def check_quantization(quantization: str, *, for_elsewhere: bool = False) -> None:
    """Raise ConfigurationError for an unknown format, or one that no device of this machine computes in.

    `for_elsewhere` allows what only another machine can do: converting here for a GPU over there.
    """
    if quantization not in QUANTIZATIONS:
        raise ConfigurationError(f"quantization {quantization!r} is not one of {', '.join(QUANTIZATIONS)}")
    if for_elsewhere:
        return
    import ctranslate2

    devices = ["cpu", *(["cuda"] if ctranslate2.get_cuda_device_count() else [])]
    possible = {device: sorted(ctranslate2.get_supported_compute_types(device)) for device in devices}
    if not any(quantization in kinds for kinds in possible.values()):
        listed = "; ".join(f"{device}: {', '.join(kinds)}" for device, kinds in possible.items())
        raise ConfigurationError(
            f"this machine does not compute in {quantization}; possible here: {listed}. "
            "To convert for another machine, say so (for_elsewhere)"
        )


def quantize(spec: Any, quantization: str | None) -> None:
    """Validate a CTranslate2 model spec, share equal weights and write all in this format; None keeps their types.

    Other formats than int8 are the library's own work.
    """
    spec.validate()
    if not is_int8(quantization):
        spec.optimize(quantization=quantization)
        return
    spec.optimize(quantization=None)  # equal weights become aliases, which share one scale
    _write_all(spec, quantization)


def quantize_layer(layer: Any, quantization: str | None) -> None:
    """Write the weights of one layer as int8 and free the others; do nothing for any other format."""
    if is_int8(quantization):
        layer.validate()
        _write_all(layer, quantization)


def is_int8(quantization: str | None) -> bool:
    """Return True for int8 weights, whatever stands beside them."""
    return quantization is not None and quantization.startswith("int8")


def pair_safe(weights: "NDArray[np.float32]") -> "tuple[NDArray[np.int8], NDArray[np.float32]]":
    """Return weights (rows = outputs, columns = inputs) as int8, and each row's scale: int8 = weight × scale."""
    import numpy as np

    if len(weights) > _BLOCK:
        parts = [pair_safe(weights[at : at + _BLOCK]) for at in range(0, len(weights), _BLOCK)]
        return np.concatenate([part for part, _ in parts]), np.concatenate([scale for _, scale in parts])
    # A weight without a neighbour has zero beside it. float64 keeps the scale of the tiniest rows finite.
    padded = np.pad(weights, ((0, 0), (0, weights.shape[1] % 2))).astype(np.float64)
    first, second = padded[:, 0::2], padded[:, 1::2]
    above = (np.maximum(first, 0) + np.maximum(second, 0)).max(axis=1)
    below = (np.minimum(first, 0) + np.minimum(second, 0)).min(axis=1)
    pair, single = np.maximum(above, -below), np.abs(padded).max(axis=1)
    # The scale is stored as float32; a row of zeros has any.
    with np.errstate(divide="ignore"):
        scale = np.minimum(LARGEST / single, _BEFORE_ROUNDING / pair)
    scale = np.where(single > 0, np.minimum(scale, np.finfo(np.float32).max), 1.0).astype(np.float32)
    return np.rint(weights * scale[:, None]).astype(np.int8), scale


def _write_all(layer: Any, quantization: str | None) -> None:
    from ctranslate2.specs.model_spec import visit_spec

    beside = _BESIDE.get(quantization or "")
    visit_spec(layer, lambda part, name, value: _write(part, name.rpartition("/")[2], value, beside))


def _write(layer: Any, name: str, value: Any, beside: str | None) -> None:
    """Quantize one variable of a layer in place: weights have a scale next to them, and all else has none."""
    from ctranslate2.specs.model_spec import NumpyVariable, Variable

    if not isinstance(value, Variable) or value.is_scalar() or value.dtype not in ("float32", "float16", "bfloat16"):
        return
    if not hasattr(layer, f"{name}_scale"):
        setattr(layer, name, value.to(beside) if beside else value)
        return
    weights = value.to("float32").numpy()
    integers, scale = pair_safe(weights.reshape(len(weights), -1))  # a convolution has three dimensions
    setattr(layer, name, NumpyVariable(integers.reshape(weights.shape)))
    setattr(layer, f"{name}_scale", NumpyVariable(scale))
