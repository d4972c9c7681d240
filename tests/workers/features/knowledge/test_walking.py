import os
import re
from pathlib import Path

import pytest

from headrace_workers.features.knowledge.documents import DocumentRefused
from headrace_workers.features.knowledge.reading import find_files


def names(*paths: object) -> list[str]:
    return [found.name for found in find_files(map(str, paths))]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "docs"
    for name in ("b.md", "a/z.md", "a/.hidden.md", ".git/config", "c/d/e.txt"):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text("text")
    return made


def test_a_folder_is_walked_in_order(folder: Path) -> None:
    assert names(folder) == ["docs/a/z.md", "docs/b.md", "docs/c/d/e.txt"]


def test_files_and_globs(folder: Path) -> None:
    """A file that is named itself is taken, also a hidden one; a glob stands for what a shell would have named."""
    assert names(folder / "a/.hidden.md", folder / "b.md") == [".hidden.md", "b.md"]
    assert names(folder / "**/*.md") == ["z.md", "b.md"]
    assert names(folder / "**") == ["z.md", "b.md", "e.txt"]
    assert names(folder / "*") == ["a/z.md", "b.md", "c/d/e.txt"]
    assert names(folder / "[ac]") == ["a/z.md", "c/d/e.txt"]


@pytest.mark.parametrize("name", ["gone.md", "*.pdf", "empty/**"])
def test_a_path_that_names_nothing(folder: Path, name: str) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(DocumentRefused, match=re.escape(name)):
        names(folder / name)


def test_links(folder: Path, tmp_path: Path) -> None:
    """Those that leave the folder are passed over, and those to folders, hidden files and nothing; it is told."""
    (tmp_path / "secret.md").write_text("text")
    (tmp_path / "docs-of-others").mkdir()
    for name, target in {
        "inside": "b.md",
        "outside": "../secret.md",
        "outside-folder": "../docs-of-others",
        "loop": ".",
        "around": "around",
        "hidden": ".git/config",
        "nothing": "gone",
    }.items():
        (folder / name).symlink_to(target)
    told: dict[str, str] = {}
    found = [file.name for file in find_files([str(folder)], lambda path, why: told.update({path.name: why}))]
    assert [name for name in found if "." not in Path(name).name] == ["docs/inside"]
    assert told == {
        "outside": "is a link that leaves the folder",
        "outside-folder": "is a link that leaves the folder",
        "loop": "is a link to a folder",
        "around": "is a link to nothing",
        "hidden": "is a link to a hidden file",
        "nothing": "is a link to nothing",
    }


def test_a_folder_that_is_a_link_itself(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    assert names(tmp_path / "link") == names(folder)


def test_pipes_and_sockets_are_no_documents(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    assert "docs/pipe" not in names(folder)


def test_a_folder_is_read_when_its_turn_comes(folder: Path) -> None:
    walk = find_files([str(folder)])
    assert next(walk).name == "docs/a/z.md"
    (folder / "c/d/new.txt").write_text("text")
    assert "docs/c/d/new.txt" in [found.name for found in walk]


def test_names_that_are_no_utf8(folder: Path) -> None:
    (folder / os.fsdecode(b"caf\xe9.md")).write_text("text")
    assert "docs/caf\N{REPLACEMENT CHARACTER}.md" in names(folder)
