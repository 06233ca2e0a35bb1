"""Recipes against what was published: the files of published values, how they are found, and what is said."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ptm_dist.cli import app
from ptm_dist.cli.papers import MISSING, Published, agrees, compare, paper_of, read_paper
from ptm_dist.cli.systems import SYSTEMS
from ptm_dist.errors import ConfigError
from ptm_dist.recipe_io import dump_recipe, load_recipe
from tests.tiny import tiny_recipe

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
PAPERS = sorted((CONFIGS / "papers").glob("*.yaml"))
NAMES = [path.stem for path in PAPERS]
LAPTOP = CONFIGS / "scale" / "laptop.yaml"


def lines_of(*files):
    return {line.key: line for line in compare(load_recipe(files), read_paper(paper_of([str(file) for file in files])))}


def recipe_at(path, **changes):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dump_recipe(tiny_recipe(**changes)))
    return str(path)


def paper_at(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_every_published_recipe_has_a_paper():
    assert sorted(SYSTEMS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_recipe_is_as_published_or_says_why_not(name):
    lines = lines_of(CONFIGS / f"{name}.yaml")
    assert len(lines) >= 15
    assert [key for key, line in lines.items() if line.found is MISSING] == []
    assert [key for key, line in lines.items() if line.mark == "differs" and not line.published.why] == []
    # What the file says of the recipe is so.
    explained = {key: line for key, line in lines.items() if line.published.why}
    assert [key for key, line in explained.items() if line.mark != "differs" or not agrees(line.published.here, line.found)] == []
    assert [
        key
        for key, line in lines.items()
        if line.mark in {"contested", "not published"} and not (line.published.also or line.published.note)
    ] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_laptop_departs(name):
    differing = {key for key, line in lines_of(CONFIGS / f"{name}.yaml", LAPTOP).items() if line.mark == "differs"}
    assert len(differing) >= 5
    assert differing & {"model.layers", "model.hidden", "model.cell"} or differing & {"parameters", "batch.rows"}


def test_what_is_often_told_wrong_stands_in_the_papers():
    values = {name: {key: line.values for key, line in read_paper(CONFIGS / "papers" / f"{name}.yaml").items()} for name in NAMES}
    assert values["bert_wwm"]["sources"] == [["wikipedia_zh"]]
    assert values["bert_wwm_ext"]["stages.1.rows"] == [384]
    assert values["xlnet"]["batch.rows"] == [8192, 2048]
    assert values["gpt2"]["parameters"] == ["124M", "117M"]
    assert values["albert"]["tasks.pairs.objectives.0.most"] == [20]
    assert values["ernie1"]["model.positions"] == [513]
    assert values["roberta_wwm_ext"]["model.kind"] == ["bert"]
    assert values["gpt2"]["optimizer.learning_rate"] == []


@pytest.mark.parametrize(
    ("published", "found", "so"),
    [
        ("110M", 110_106_428, True),
        ("110M", 110_500_001, False),
        ("110M", 109_482_240, False),
        ("93.6M", 93_600_864, True),
        ("93.6M", 93_660_000, False),
        ("8K", 8192, True),
        ("4.1B", 4_096_000_000, True),
        ("8K", "8K", True),
        (1e-4, 0.0001, True),
        (1, 1.0, True),
        ([0.9, 0.98], [0.9, 0.999], False),
        (None, None, True),
        (None, 0, False),
        ("gelu", "gelu_tanh", False),
        (12, MISSING, False),
        ("12M", MISSING, False),
    ],
)
def test_agreement_is_as_exact_as_what_was_published(published, found, so):
    assert agrees(published, found) is so


@pytest.mark.parametrize(
    ("line", "found", "mark"),
    [
        ({"published": 12, "where": "3"}, 12, "same"),
        ({"published": 12, "where": "3"}, 2, "differs"),
        ({"published": 77, "also": [20], "where": "3"}, 20, "contested"),
        ({"published": 77, "also": [20], "where": "3"}, 30, "differs"),
        ({"note": "nobody said"}, 30, "not published"),
        ({"published": None, "where": "3"}, None, "same"),
    ],
)
def test_marks(line, found, mark):
    assert Published.model_validate(line).mark(found) == mark


def test_paths_lead_to_values_names_and_kinds(tmp_path):
    recipe = recipe_at(tmp_path / "own.yaml")
    paper_at(
        tmp_path / "papers" / "own.yaml",
        "sources: {published: [own], where: here}\ntasks.mlm.objectives: {published: [masked_lm], where: here}\n"
        "stages.0.steps.mlm: {published: 40, where: here}\nstages.1.steps.mlm: {published: 40, where: here}\n"
        "sequences: {published: 640, where: here}\nmodel.memory_length: {published: 0, where: here}\n",
    )
    assert {key: line.mark for key, line in lines_of(recipe).items()} == {
        **dict.fromkeys(("sources", "tasks.mlm.objectives", "stages.0.steps.mlm", "sequences"), "same"),
        **dict.fromkeys(("stages.1.steps.mlm", "model.memory_length"), "differs"),
    }


def test_the_paper_is_that_of_the_nearest_ancestor(tmp_path):
    recipe_at(tmp_path / "old" / "base.yaml")
    base = paper_at(tmp_path / "old" / "papers" / "base.yaml", "model.layers: {published: 2, where: here}\n")
    (tmp_path / "none.yaml").write_text("seed: 3\n")
    (tmp_path / "child.yaml").write_text("extends: [old/base.yaml, none.yaml]\nname: child\n")
    (tmp_path / "grandchild.yaml").write_text("extends: child.yaml\nname: grandchild\n")
    assert paper_of([str(tmp_path / "grandchild.yaml")]) == tmp_path / "old" / "papers" / "base.yaml"
    assert paper_of([str(tmp_path / "grandchild.yaml"), str(LAPTOP)]) == base
    own = paper_at(tmp_path / "papers" / "child.yaml", "")
    assert paper_of([str(tmp_path / "grandchild.yaml")]) == own
    # The last of several recipes is laid over the others.
    assert paper_of([str(tmp_path / "child.yaml"), str(tmp_path / "old" / "base.yaml")]) == base


def test_no_paper(monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(
        ConfigError, match=r"configs/quickstart.yaml: no published values lie in papers/ .*those of: albert, albert_zh, bert, .*"
    ):
        paper_of(["configs/quickstart.yaml"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- model.layers", r"each line is a setting with what was published of it; write model.layers: \{published: 12"),
        ("model.layers: 12", r"each line is a setting"),
        ("model.layers: {publishd: 12}", r"model.layers.publishd: Extra inputs are not permitted \(.*own.yaml:1\)"),
        ("seed: {}\nmodel.layers: {published: 12}", r"model.layers: say where it was published; add where \(.*own.yaml:2\)"),
        ("model.layers: {also: [12]}", r"model.layers: also, where and why go with published; add it, or remove them"),
        ("model.layers: {published: 12, where: there, why: so}", r"model.layers: here and why go together; give both, or none"),
        ("model.layers: {published: 12, where: 3}", r"model.layers.where: Input should be a valid string"),
    ],
)
def test_a_file_that_is_no_paper(text, said, tmp_path):
    with pytest.raises(ConfigError, match=said):
        read_paper(paper_at(tmp_path / "own.yaml", text))


def shown(*words):
    result = CliRunner().invoke(app, ["show", *words, "--paper"])
    assert result.exit_code == 0
    return result.output


def test_the_command(monkeypatch):
    monkeypatch.chdir(ROOT)
    text = shown("configs/bert.yaml")
    assert text.startswith("bert against configs/papers/bert.yaml\nBERT (Devlin et al. 2019")
    table = {cells[0]: cells[1:] for cells in (re.split(r" {2,}", line) for line in text.splitlines())}
    assert table["setting"] == ["recipe", "published", "where", "mark", "note"]
    assert table["parameters"] == ["110,106,428", "110M", "3", "same"]
    assert table["tasks.long.objectives.0.most"][1:] == ["77 or 20", "README.md; issue 51 of google-research/albert", "contested"]
    assert table["tokens"][0] == "42,598,400,000"
    assert table["tokens"][3:] == ["differs", "that is so of the rows of 512; nine tenths of the steps have rows of 128"]
    assert text.endswith("differs 1, contested 3, not published 1\n")
    assert "\x1b" not in text


def test_a_reason_is_given_of_the_shipped_value_alone(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert "nine tenths of the steps" not in shown("configs/bert.yaml", "configs/scale/laptop.yaml")
    assert "nine tenths of the steps" in shown("configs/bert.yaml", "seed=3")


@pytest.mark.parametrize("page", ["systems.md", "systems.zh.md"])
def test_pages_show_what_is_printed(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    blocks = re.findall(r"^```\n\$ ptm (.+)\n((?:.*\n)+?)```$", (ROOT / "docs" / page).read_text(encoding="utf8"), re.M)
    assert len(blocks) == 3
    for command, text in blocks:
        printed = CliRunner().invoke(app, command.split()).output.splitlines()
        assert [line for line in text.splitlines() if line not in (*printed, "...")] == []
