"""Number formats that weights may be stored in, and whether this machine computes in them."""

from typing import Final

from headrace_schemas.errors import ConfigurationError

DEFAULT: Final = "int8"
PAIRS: Final = "pairs"  # the bound of the int8 weights that we write: see `int8_weights`
QUANTIZATIONS: Final = ("int8", "int8_float32", "int8_float16", "int8_bfloat16", "float16", "bfloat16", "float32")


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
