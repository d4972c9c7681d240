from pathlib import Path

import pytest
from tests.workers.features.evals.runs import RUN

from headrace_workers.features.evals.run_file import Run, WrongRun, read_run

GOOD = RUN.format(more="")


def read(folder: Path, text: str) -> Run:
    (folder / "run.toml").write_text(text, encoding="utf-8")
    return read_run(folder / "run.toml", "echo")


def test_what_is_common_is_in_each_variant_unless_it_says_otherwise(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("From a file: {{q}}", encoding="utf-8")
    more = '[common]\nsystem = "Be brief."\nsampling = {max_tokens = 5, temperature = 0.5}\n'
    text = GOOD.replace('prompt = "Now: {{q}}"', 'prompt_file = "b.txt"\nmodel = "other"\nsampling = {temperature = 1}')
    a, b = read(tmp_path, text.replace("[[variants]]", more + "\n[[variants]]", 1)).variants
    assert (a.model, a.system, a.sampling.temperature, a.cache) == ("echo", "Be brief.", 0.5, "off")
    assert (b.model, b.prompt, b.sampling.max_tokens, b.sampling.temperature) == ("other", "From a file: {{q}}", 5, 1.0)


def test_criteria_are_called_by_their_kind_unless_they_have_a_name(tmp_path: Path) -> None:
    """So that two of one kind can be told apart."""
    run = read(tmp_path, GOOD)
    assert (run.criterion_names, run.primary_place, run.name) == (("right", "json_valid"), 0, "run")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("margin = 0.02", "", "margin: is missing"),
        ("margin = 0.02", "margin = 0.02\nmarg = 1", "'marg': is no field that is known here"),
        ('primary = "right"', 'primary = "best"', "primary: is 'best'; it must be one of right, json_valid"),
        ('name = "B"', 'name = "A"', "variants: two are called 'A'"),
        ('name = "B"', 'name = "B"\nsampling = {top_p = 3}', r"variants 2 \(B\).sampling.top_p: must be at most 1"),
        ('prompt = "{{q}}"', 'prompt = "{{q"', r"variants 1 \(A\).prompt: '{{q' opens no placeholder"),
        ('prompt = "{{q}}"', 'prompt_file = "gone.txt"', r"variants 1.prompt_file: .*gone.txt cannot be read"),
        ('prompt = "{{q}}"', 'prompt = "a"\nprompt_file = "b"', "both prompt and prompt_file are given"),
        ('text = "yes"', "", r"criteria 1 \(right\).text: is missing"),
        ('criterion = "json_valid"', 'criterion = "json"', r"criteria 2 \(json\).criterion: must be one of"),
        ('criterion = "json_valid"', 'criterion = "f1"', "reference: is missing, and f1 compares with it"),
        (
            'criterion = "json_valid"',
            'criterion = "json_schema"\njson_schema = {type = "text"}',
            r"criteria 2 \(json_schema\).json_schema: the schema cannot be used: /type: ",
        ),
        ("[[variants]]", "[variants]", "TOML|write \\[\\[variants"),
        ("margin = 0.02", "margin = ", r"it is no TOML: .*line \d"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert old in GOOD
    with pytest.raises(WrongRun, match=told) as caught:
        read(tmp_path, GOOD.replace(old, new, 1))
    assert str(caught.value).startswith(str(tmp_path / "run.toml"))


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(WrongRun, match="cannot be read"):
        read_run(tmp_path, "echo")


def test_a_criterion_may_stand_in_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "polite.toml").write_text('question = "Is it polite?"\nscale = "1-5"\n')
    run = read(tmp_path, GOOD.replace('criterion = "json_valid"', 'file = "polite.toml"'))
    assert (run.criterion_names, run.criteria[1].criterion) == (("right", "polite"), "rubric")
    (tmp_path / "polite.toml").write_text('question = "Is it kind?"\nscale = "1-5"\n')
    again = read(tmp_path, GOOD.replace('criterion = "json_valid"', 'file = "polite.toml"'))
    assert again.criteria[1].version != run.criteria[1].version
    (tmp_path / "polite.toml").write_text("question = \n")
    for text, told in (
        ('file = "polite.toml"', "polite.toml: it is no TOML"),
        ('file = "gone.toml"', "criteria 2.file: .*gone.toml cannot be read"),
        ('file = "polite.toml"\nscale = "1-5"', "criteria 2: file stands alone"),
    ):
        with pytest.raises(WrongRun, match=told):
            read(tmp_path, GOOD.replace('criterion = "json_valid"', text))
