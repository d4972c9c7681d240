import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.pictures.drawing import draw
from tests.pictures.terminal import WIDTH, picture, words_of

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
NAMES = ("run", "evaluation", "quality")


def test_a_picture_holds_the_output_and_loads_nothing() -> None:
    output = "line  \x1b[1manswer\x1b[0m\n   1  <positive> & more\n"
    drawn = picture("headrace run jobs.jsonl", output, "test")
    assert words_of(drawn).splitlines() == [
        "$ headrace run jobs.jsonl", "line  answer", "   1  <positive> & more",
    ]  # fmt: skip
    assert_nothing_is_loaded(drawn)


@pytest.mark.parametrize("name", NAMES)
def test_each_picture_is_readable(name: str) -> None:
    drawn = (PICTURES / f"{name}.svg").read_text(encoding="utf-8")
    assert_nothing_is_loaded(drawn)
    assert max(map(len, words_of(drawn).splitlines())) <= WIDTH


@pytest.mark.slow
@pytest.mark.integration
def test_pictures_are_made_of_real_output(tmp_path: Path) -> None:
    work, into = tmp_path / "work", tmp_path / "pictures"
    work.mkdir()
    into.mkdir()
    paths = draw(work, into)
    assert [path.stem for path in paths] == list(NAMES)
    run, evaluation, quality = (words_of(path.read_text(encoding="utf-8")) for path in paths)
    receipts = [json.loads(line) for line in (work / "receipts.jsonl").read_text(encoding="utf-8").splitlines()]
    shown = {int(found[1]): found[0] for found in re.finditer(r"^ {2,3}(\d+)  .*$", run, re.MULTILINE)}
    assert len(shown) == len(receipts)
    for receipt in receipts:
        assert (receipt["answer"].get("text") or "(withheld)")[:20] in shown[receipt["line"]]
    verdicts = re.findall(r"^- (.*)$", (work / "report" / "report.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(verdicts) == 2
    assert all(verdict in " ".join(evaluation.split()) for verdict in verdicts)
    assert re.search(r"labels: 80\b", quality)
    for name, made in zip(NAMES, (run, evaluation, quality), strict=True):
        ships = words_of((PICTURES / f"{name}.svg").read_text(encoding="utf-8"))
        assert made.splitlines()[0] == ships.splitlines()[0]


def assert_nothing_is_loaded(drawn: str) -> None:
    """The picture is well-formed, and names no address from which anything would be fetched."""
    ElementTree.fromstring(drawn)
    assert set(re.findall(r"https?://[^\"' )]+", drawn)) <= {"http://www.w3.org/2000/svg"}
    assert "@font-face" not in drawn
