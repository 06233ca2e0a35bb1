"""The examples of docs/labelled-data.md are what readers make of these files."""

import json
import re
from pathlib import Path

import pytest
import yaml

from ptm_dist.corpus.labelled import READERS, Labelled
from tests.unit.corpus.labelled.reading import read

PAGE = (Path(__file__).parents[4] / "docs" / "labelled-data.md").read_text(encoding="utf8")
EXAMPLES = re.findall(r"### (\w+)\n.*?```yaml\n(.*?)```\n```\n(.*?)```", PAGE, re.DOTALL)


def test_each_reader_has_one():
    assert sorted(name for name, _, _ in EXAMPLES) == sorted(READERS)
    assert all(f"| `{name}` |" in PAGE for name in READERS)


@pytest.mark.parametrize(("name", "settings", "shown"), EXAMPLES)
def test_they_are_what_comes_out(name, settings, shown):
    lines = shown.splitlines()
    data = "\n".join(line.replace("\\t", "\t") for line in lines if not line.startswith("-> "))
    settings = yaml.safe_load(settings)
    assert settings["kind"] == name
    assert [f"-> {item!r}" for item in read(settings, data, "train.tsv" if name != "choices" else "train.jsonl")] == [
        line for line in lines if line.startswith("-> ")
    ]


def test_the_source_is_one():
    (shown,) = re.findall(r"```\n(sources:.*?)```", PAGE, re.DOTALL)
    source = Labelled.model_validate_json(json.dumps(yaml.safe_load(shown)["sources"]["snippets"]))
    assert source.readers["test"].id == "index"


def test_every_reason_is_explained():
    folder = Path(__file__).parents[4] / "ptm_dist" / "corpus" / "labelled"
    code = "".join(path.read_text(encoding="utf8") for path in folder.glob("*.py"))
    reasons = set(re.findall(r'"((?:bad|empty|missing|not|no|unknown|answer_not|entity|overlapping|cut)_\w+)"', code))
    assert len(reasons) >= 12
    assert not {reason for reason in reasons if f"`{reason}`" not in PAGE}
