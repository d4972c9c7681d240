import os
import re
from pathlib import Path

import pytest

from headrace_schemas.errors import ConfigurationError
from headrace_workers.features.applications.definition import Definition, render
from headrace_workers.features.applications.file import read_application, toml_of

LEAST = """\
[problem]
purpose = "Route tickets."
owner = "support"
task = "classification"
metric = "exact_match"

[model]
name = "echo"

[[prompt.messages]]
role = "user"
text = "{{ ticket }}"

[prompt.variables.ticket]
type = "text"
"""
WHOLE = '''\
[problem]
purpose = "Route tickets."
owner = "support"
task = "classification"
metric = "right"

[model]
chain = ["small", "large"]
lane = "batch"
fallback_on_refusal = true
sampling = { temperature = 0.5, max_tokens = 20, stop = ["\\n"] }

[[prompt.messages]]
role = "system"
file = "triage/system.txt"

[[prompt.messages]]
role = "user"
name = "ann"
text = """
Of "{{ product }}":
{% for each in notes %}
- {{ each }}\\t
{% endfor %}
{{ ticket }}"""

[prompt.variables]
ticket = { type = "text", max_length = 4000 }
product = { type = "text", enum = ["mill", "dam"], default = "dam" }
notes = { type = "list", default = [] }

[format]
type = "json_schema"
[format.json_schema]
type = "object"
[format.json_schema.properties.team]
enum = ["a b", "c\\u007f"]
[[format.json_schema.allOf]]
required = ["team"]

[tools]
choice = "auto"
parallel_calls = false
[[tools.functions]]
name = "look_up"
parameters = { type = "object", properties = {} }

[knowledge]
base = "manual"
filter = { type = "eq", key = "lang", value = "en" }
without_passages = "answer"

[cache]
mode = "off"

[quality]
screen = true
min_quality = { criterion = "short", value = 0.5 }
[[quality.criteria]]
criterion = "length"
name = "short"
max_words = 10

[[review.rules]]
name = "short"
share = 0.5
people = 2
below = { criterion = "short", value = 0.25 }
[[review.rules]]
name = "rest"
disagreement = { between = ["right", "hate"] }

[test]
dataset = "triage/tickets.jsonl"
gate = "new >= production - 0.02"
reference = "{{team}}"
[[test.criteria]]
criterion = "exact_match"
name = "right"
'''


TEST = '[test]\ndataset = "triage/tickets.jsonl"\n'


def written(folder: Path, text: str = LEAST, name: str = "triage.toml") -> Path:
    (folder / "triage").mkdir(exist_ok=True)
    (folder / "triage" / "system.txt").write_text("Be brief.\n", encoding="utf-8")
    (folder / "triage" / "tickets.jsonl").write_text('{"ticket": "a", "team": "b"}\n', encoding="utf-8")
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ConfigurationError) as refused:
        read_application(path)
    return str(refused.value)


def test_a_file_is_read_with_the_files_beside_it(tmp_path: Path) -> None:
    definition = read_application(written(tmp_path, WHOLE))
    assert definition.name == "triage"
    assert definition.job == {
        "model": ["small", "large"],
        "lane": "batch",
        "fallback_on_refusal": True,
        "sampling": {"temperature": 0.5, "max_tokens": 20, "stop": ["\n"]},
        "output": {
            "type": "json_schema",
            "json_schema": {
                "type": "object",
                "properties": {"team": {"enum": ["a b", "c\x7f"]}},
                "allOf": [{"required": ["team"]}],
            },
        },
        "tools": [{"name": "look_up", "parameters": {"type": "object", "properties": {}}}],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "knowledge": "manual",
        "knowledge_filter": {"type": "eq", "key": "lang", "value": "en"},
        "without_passages": "answer",
        "cache": "off",
        "screen": True,
        "criteria": [{"criterion": "length", "name": "short", "max_words": 10}],
        "min_quality": {"criterion": "short", "value": 0.5},
    }
    assert [message.content for message in render(definition, {"ticket": "It broke.", "notes": ["x"]})] == [
        "Be brief.",
        'Of "dam":\n- x\t\nIt broke.',
    ]


@pytest.mark.parametrize("text", [LEAST, WHOLE])
def test_a_file_that_was_written_gives_the_same_digest(tmp_path: Path, text: str) -> None:
    definition = read_application(written(tmp_path, text))
    elsewhere = tmp_path / "pulled"
    elsewhere.mkdir()
    (elsewhere / "triage.toml").write_text(toml_of(definition), encoding="utf-8")
    assert read_application(elsewhere / "triage.toml").digest == definition.digest
    assert read_application(elsewhere / "triage.toml") == Definition.from_json(definition.to_json())


@pytest.mark.parametrize("content", ["Be wordy.\n", "Be brief.", "Be  brief.\n"])
def test_a_file_beside_it_is_part_of_the_version(tmp_path: Path, content: str) -> None:
    path = written(tmp_path, WHOLE)
    before = read_application(path).digest
    (tmp_path / "triage" / "system.txt").write_text(content, encoding="utf-8")
    assert read_application(path).digest != before


def test_an_application_may_say_that_no_rule_draws_its_answers(tmp_path: Path) -> None:
    """It then differs from one that leaves this to the deployment."""
    definition = read_application(written(tmp_path, f"[review]\nrules = []\n{LEAST}"))
    assert definition.review is not None
    assert definition.review.rules == ()
    assert definition.digest != read_application(written(tmp_path, LEAST)).digest
    assert read_application(written(tmp_path, toml_of(definition))).digest == definition.digest


def test_the_ends_of_lines_are_no_part_of_the_version(tmp_path: Path) -> None:
    path = written(tmp_path, WHOLE)
    before = read_application(path).digest
    for file in (path, tmp_path / "triage" / "system.txt"):
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert read_application(path).digest == before


def test_the_content_of_the_dataset_is_part_of_the_version(tmp_path: Path) -> None:
    path = written(tmp_path, WHOLE)
    before = read_application(path)
    (tmp_path / "triage" / "tickets.jsonl").write_text('{"ticket": "a", "team": "c"}\n', encoding="utf-8")
    assert read_application(path).digest != before.digest
    path.write_text(toml_of(before), encoding="utf-8")
    assert "test.sha256: " in refusal(path)
    assert "has another SHA-256: remove `sha256`" in refusal(path)


@pytest.mark.parametrize(
    ("old", "new", "line", "reason"),
    [
        ('owner = "support"\n', "", 1, "problem.owner: is missing"),
        ("[model]", "[modell]", 7, "modell: is not known; known are problem, model, prompt, format"),
        ('name = "echo"', "", 7, "model: names no model: give `name`, or `chain`"),
        ('name = "echo"', 'name = "echo@3"', 8, "model.name: must be a model"),
        ('name = "echo"', 'name = "echo"\nchain = ["echo"]', 9, "model.chain: name and chain are both given"),
        ('name = "echo"', 'name = "echo"\nlane = "fast"', 9, "model.lane: must be 'interactive' or 'batch'"),
        ('name = "echo"', 'name = "echo"\nsampling = { seed = 2026-01-01 }', 9, "is a date or a time"),
        ('name = "echo"', 'name = "echo"\nsampling = { top_p = nan }', 9, "must be a finite number"),
        ('name = "echo"', 'name = "echo"\n[tools]\nchoice = "required"', 10, "tools.choice: tool_choice is given"),
        ('name = "echo"', 'name = "echo"\n[[quality.criteria]]\ncriterion = "regex"\npattern = "("', 11, "pattern"),
        (
            'name = "echo"',
            'name = "echo"\n[[quality.criteria]]\ncriterion = "f1"',
            5,
            "must be one of the criteria: f1",
        ),
        ('text = "{{ ticket }}"', 'text = "{{ tickt }}"', 12, "prompt.messages 1.text: 'tickt' is no variable; known"),
        ('text = "{{ ticket }}"', 'text = """\na\n{{ a() }}"""', 14, "a call is not allowed"),
        ('text = "{{ ticket }}"', "", 10, "must have `text`, or `file`"),
        ('text = "{{ ticket }}"', 'file = "triage/none.txt"', 12, "none.txt is no file: create it"),
        ('text = "{{ ticket }}"', 'file = "../secret.txt"', 12, "lies outside of the folder of this file: move it"),
        ('text = "{{ ticket }}"', 'file = "/etc/hostname"', 12, "lies outside of the folder of this file: move it"),
        ('text = "{{ ticket }}"', 'file = "triage"', 12, "is no file"),
        ('text = "{{ ticket }}"', 'file = "a\\u0000"', 12, "is no name of a file"),
        ('type = "text"', 'type = "integer"\nmax_length = 5', 16, "max_length: is for texts and lists"),
        ('type = "text"', 'type = "integer"\nenum = [1, "2"]', 16, "enum: one of the values must be a whole number"),
        ('type = "text"', 'type = "text"\nenum = ["a"]\ndefault = "b"', 17, 'default: must be one of "a"'),
        ('type = "text"', 'type = "integer"\ndefault = "5"', 16, "default: must be a whole number, not text"),
        ("variables.ticket]", "variables.loop]", 14, "loop: is a word of the template language"),
        ("[problem]", "[review]\n[problem]", 1, "review.rules: is missing"),
        ("[problem]", "review = 5\n[problem]", 1, "review: must be a table: write [review]"),
        ("[problem]", '[[review.rules]]\nname = "held"\n[problem]', 2, "rules 1.name: held is the rule of held jobs"),
        (
            "[problem]",
            '[[review.rules]]\nname = "a"\n[[review.rules]]\nname = "a"\n[problem]',
            4,
            "review.rules 2.name: is the name of a rule above",
        ),
        ("[problem]", '[test]\ndataset = "x.jsonl"\n[problem]', 2, "x.jsonl is no file: create it"),
        (
            "[problem]",
            TEST + 'gate = "better"\n[problem]',
            3,
            "test.gate: must be `new >=",
        ),
        ("[problem]", TEST + 'criteria = [{ criterion = "regex", pattern = "(" }]\n[problem]', 3, "criteria 1.pattern"),
        (
            "[problem]",
            TEST + 'criteria = [{ criterion = "f1" }, { criterion = "f1" }]\n[problem]',
            3,
            "are called 'f1'",
        ),
        ("[problem]", TEST + 'reference = "{{"\n[problem]', 3, "opens no placeh"),
    ],
)
def test_an_error_names_the_line_and_what_to_do(tmp_path: Path, old: str, new: str, line: int, reason: str) -> None:
    path = written(tmp_path, LEAST.replace(old, new))
    assert refusal(path).startswith(f"{path}, line {line}: ")
    assert reason in refusal(path)


def test_an_error_in_a_file_beside_it_names_that_file_and_its_line(tmp_path: Path) -> None:
    path = written(tmp_path, WHOLE)
    (tmp_path / "triage" / "system.txt").write_text("Be\n{{ brief.now }}", encoding="utf-8")
    assert refusal(path).startswith(f"{path.parent / 'triage' / 'system.txt'}, line 2: ")


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret", encoding="utf-8")
    folder = tmp_path / "apps"
    folder.mkdir()
    path = written(folder, LEAST.replace('text = "{{ ticket }}"', 'file = "link.txt"'))
    (folder / "link.txt").symlink_to(secret)
    assert "lies outside of the folder" in refusal(path)


@pytest.mark.parametrize("what", ["fifo", "long", "latin"])
def test_what_is_no_short_text_is_refused(tmp_path: Path, what: str) -> None:
    """A pipe would be waited for without end."""
    path = written(tmp_path, WHOLE)
    file = tmp_path / "triage" / "system.txt"
    file.unlink()
    if what == "fifo":
        os.mkfifo(file)
    else:
        file.write_bytes(b"a" * 1_000_001 if what == "long" else b"\xe9")
    assert re.search("is no file|has more than 1,000,000 bytes|is not UTF-8: byte 1", refusal(path))


@pytest.mark.parametrize("name", ["Triage.toml", "a b.toml"])
def test_the_name_of_the_file_is_the_applications(tmp_path: Path, name: str) -> None:
    assert "the file's name is the application's, and must be 1 to 64 of a-z" in refusal(written(tmp_path, name=name))


def test_what_is_no_toml_is_refused_with_the_line(tmp_path: Path) -> None:
    assert "is no TOML" in refusal(written(tmp_path, "[problem\n"))
    assert "line 1" in refusal(written(tmp_path, "[problem\n"))
