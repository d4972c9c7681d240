"""Models on the hub that are worth a first try: small enough for a CPU, of a free licence, and in one GGUF file.

Each file is pinned by its SHA-256. `checked` says whether that was compared with the bytes of a download; the others
are as the hub publishes them, and were not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from headrace_workers.features.generation.models.hub_download import HubFile

_PROCESS: Final = 300_000_000  # bytes of a worker without a model
_BATCH_TOKENS: Final = 2_048  # of the prompts in a batch on a CPU: each has a float32 for each token of the vocabulary


@dataclass(frozen=True, slots=True, kw_only=True)
class HubModel:
    """A model on the hub, and what a person must know to choose it. Sizes are in bytes; `int8_bytes` is the size of
    the converted weights, and `vocabulary` a number of tokens. `suits` completes "It suits …".
    """

    file: HubFile
    billions: float
    download_bytes: int
    int8_bytes: int
    licence: str
    context_length: int
    vocabulary: int
    suits: str
    checked: bool = False

    @property
    def memory(self) -> int:
        """Return the bytes of memory that a worker with this model takes on a CPU, about: with a full batch."""
        return self.int8_bytes + _BATCH_TOKENS * self.vocabulary * 4 + _PROCESS


HUB_MODELS: Final[Mapping[str, HubModel]] = {
    "qwen2.5-0.5b-instruct": HubModel(
        file=HubFile(
            repository="Qwen/Qwen2.5-0.5B-Instruct-GGUF",
            name="qwen2.5-0.5b-instruct-q8_0.gguf",
            revision="9217f5db79a29953eb74d5343926648285ec7e67",
            sha256="ca59ca7f13d0e15a8cfa77bd17e65d24f6844b554a7b6c12e07a5f89ff76844e",
        ),
        billions=0.5,
        download_bytes=675_710_816,
        int8_bytes=500_000_000,
        licence="Apache-2.0",
        context_length=32_768,
        vocabulary=151_936,
        suits="short answers in many languages",
    ),
    "qwen2.5-coder-0.5b-instruct": HubModel(
        file=HubFile(
            repository="Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
            name="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
            revision="ebb2015119c907b064c512bf053e945850b5875f",
            sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        ),
        billions=0.5,
        download_bytes=491_400_064,
        int8_bytes=632_839_555,
        licence="Apache-2.0",
        context_length=32_768,
        vocabulary=151_936,
        suits="short programs",
        checked=True,
    ),
    "qwen2.5-1.5b-instruct": HubModel(
        file=HubFile(
            repository="Qwen/Qwen2.5-1.5B-Instruct-GGUF",
            name="qwen2.5-1.5b-instruct-q8_0.gguf",
            revision="91cad51170dc346986eccefdc2dd33a9da36ead9",
            sha256="d7efb072e7724d25048a4fda0a3e10b04bdef5d06b1403a1c93bd9f1240a63c8",
        ),
        billions=1.5,
        download_bytes=1_894_532_128,
        int8_bytes=1_800_000_000,
        licence="Apache-2.0",
        context_length=32_768,
        vocabulary=151_936,
        suits="summaries, extraction and chat",
    ),
    "smollm2-1.7b-instruct": HubModel(
        file=HubFile(
            repository="HuggingFaceTB/SmolLM2-1.7B-Instruct-GGUF",
            name="smollm2-1.7b-instruct-q4_k_m.gguf",
            sha256="decd2598bc2c8ed08c19adc3c8fdd461ee19ed5708679d1c54ef54a5a30d4f33",
        ),
        billions=1.7,
        download_bytes=1_055_609_536,
        int8_bytes=1_800_000_000,
        licence="Apache-2.0",
        context_length=8_192,
        vocabulary=49_152,
        suits="summaries and rewriting in English",
    ),
    "qwen2.5-7b-instruct": HubModel(
        file=HubFile(
            repository="bartowski/Qwen2.5-7B-Instruct-GGUF",
            name="Qwen2.5-7B-Instruct-Q4_K_M.gguf",
            revision="8911e8a47f92bac19d6f5c64a2e2095bd2f7d031",
            sha256="65b8fcd92af6b4fefa935c625d1ac27ea29dcb6ee14589c55a8f115ceaaa1423",
        ),
        billions=7.6,
        download_bytes=4_683_074_240,
        int8_bytes=7_700_000_000,
        licence="Apache-2.0",
        context_length=32_768,
        vocabulary=151_936,
        suits="questions that need knowledge",
    ),
}
