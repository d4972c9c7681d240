"""Dividing labelled messages for the comparison of prompts and fine-tuning."""

import csv
from pathlib import Path

from bench.intents import prepare, split

from headrace_workers.features.tuning.recipe import read_recipe


def write_rows(path: Path, count: int, of: str) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("text", "category"))
        rows.writerows((f"{of} {number}", f"label_{number % 5}") for number in range(count))
    return path


def test_no_row_is_in_two_parts_and_no_training_row_has_the_text_of_a_test_row(tmp_path: Path) -> None:
    """Else the comparison measures memory."""
    train, test = write_rows(tmp_path / "train.csv", 300, "text"), write_rows(tmp_path / "test.csv", 50, "TEXT")
    rows = split(train, test)
    texts = [text.lower() for part in rows for text, _ in part]
    assert (len(texts), len(set(texts))) == (300, 300)


def test_a_smaller_set_of_training_rows_is_the_beginning_of_a_larger_and_has_each_label(tmp_path: Path) -> None:
    rows = split(write_rows(tmp_path / "train.csv", 300, "text"), write_rows(tmp_path / "test.csv", 50, "asked"))
    assert rows.evenly(20)[:5] == rows.evenly(5)
    assert sorted(label for _, label in rows.evenly(5)) == rows.labels


def test_prepared_recipes_are_those_that_tune_reads(tmp_path: Path) -> None:
    rows = split(write_rows(tmp_path / "train.csv", 300, "text"), write_rows(tmp_path / "test.csv", 50, "asked"))
    prepare(rows, tmp_path, "smollm2-135m-instruct", tmp_path / "model.gguf", ["20:3"])
    recipe = read_recipe(tmp_path / "recipe-20.toml")
    assert (recipe.data, recipe.training.epochs) == ("train-20.jsonl", 3)
    assert len((tmp_path / recipe.data).read_text(encoding="utf-8").splitlines()) == 20
