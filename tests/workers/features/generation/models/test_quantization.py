"""Which number formats are accepted."""

import pytest

from headrace_schemas.errors import ConfigurationError
from headrace_workers.features.generation.models.quantization import check_quantization


def test_an_unknown_format_is_refused_with_the_known_ones() -> None:
    """A typing error is answered with the list."""
    with pytest.raises(ConfigurationError, match="float32"):
        check_quantization("int4")


def test_a_format_that_this_machine_lacks_is_refused_with_those_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what is possible here, and how to convert for another machine."""
    monkeypatch.setattr("ctranslate2.get_cuda_device_count", lambda: 0)
    monkeypatch.setattr("ctranslate2.get_supported_compute_types", lambda device: {"int8", "float32"})
    check_quantization("int8")
    with pytest.raises(ConfigurationError, match="possible here: cpu: float32, int8"):
        check_quantization("float16")
    check_quantization("float16", for_elsewhere=True)
