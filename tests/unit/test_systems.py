"""The table of systems, and the pages that tell of them."""

import re
from io import StringIO
from pathlib import Path

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from ptm_dist.cli import app, systems
from ptm_dist.cli.systems import STARTING_POINTS, SYSTEMS, find_recipes, rows_of, show_systems
from ptm_dist.errors import ConfigError
from ptm_dist.recipe_io import dump_recipe, load_recipe
from tests.tiny import tiny_recipe

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
PAGES = [ROOT / "docs" / "systems.md", ROOT / "docs" / "systems.zh.md"]
ELEVEN = ["ELMo", "GPT", "BERT", "GPT-2", "ERNIE 1.0", "BERT-wwm", "XLNet", "RoBERTa", "ERNIE 2.0", "BERT-wwm-ext", "ALBERT"]
PARENTS = {
    "GPT-2": "GPT",
    "ERNIE 1.0": "BERT-base-Chinese",
    "BERT-wwm": "BERT-base-Chinese",
    "XLNet": "BERT",
    "RoBERTa": "BERT",
    "ERNIE 2.0": "ERNIE 1.0",
    "BERT-wwm-ext": "BERT-wwm",
    "ALBERT": "BERT",
    "BERT-base-Chinese": "BERT",
    "ERNIE 2.0 zh": "ERNIE 2.0",
    "RoBERTa-wwm-ext": "BERT-wwm-ext",
    "albert_zh": "ALBERT",
}


@pytest.fixture(scope="module")
def rows():
    return {row.name: row for row in rows_of(CONFIGS)}


def printed(rows, **settings):
    console = Console(file=StringIO(), highlight=False, soft_wrap=True, **settings)
    show_systems(console, rows)
    return console.file.getvalue()


def cells_of(page):
    """Return the rows of all tables of a page, with the system's name as the key, in two dictionaries: by date, by numbers."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.read_text(encoding="utf8").splitlines()]
    changes = {row[1]: row for row in cells if re.fullmatch(r"20\d\d-\d\d", row[0])}
    numbers = {row[0]: row for row in cells if len(row) == 7 and re.fullmatch(r"[\d,]+", row[1])}
    return changes, numbers


def test_the_eleven_come_first_by_date(rows):
    assert list(rows)[:11] == ELEVEN
    for names in (list(rows)[:11], list(rows)[11:]):
        assert [rows[name].date for name in names] == sorted(rows[name].date for name in names)


def test_dates_are_those_of_the_papers_numbers(rows):
    # The paper of BERT-wwm-ext is a later version of BERT-wwm's, so it has no number of its own.
    numbers = {name: re.search(r"arXiv:(\d\d)(\d\d)\.(\d{5})", row.paper) for name, row in list(rows.items())[:11]}
    found = {name: number for name, number in numbers.items() if number}
    assert found.keys() == set(ELEVEN) - {"GPT", "GPT-2", "BERT-wwm-ext"}
    assert [number[0] for number in found.values()] == sorted(number[0] for number in found.values())
    assert {name: f"20{number[1]}-{number[2]}" for name, number in found.items()} == {name: rows[name].date for name in found}


def test_every_recipe_but_starting_points_has_a_row(rows):
    recipes = {str(path) for path in CONFIGS.glob("*.yaml") if not path.stem.startswith(STARTING_POINTS)}
    assert {row.recipe for row in rows.values()} == recipes
    assert {path for path in recipes if Path(path).stem in SYSTEMS} == recipes


def test_parents_are_those_of_the_files(rows):
    assert {name: row.parent for name, row in rows.items() if row.parent != "-"} == PARENTS
    for row in rows.values():
        extended = yaml.safe_load(Path(row.recipe).read_text(encoding="utf8")).get("extends", [])
        ancestors = [name for name in ([extended] if isinstance(extended, str) else extended) if not name.startswith("sources/")]
        assert [f"{CONFIGS / name}" for name in ancestors] == ([] if row.parent == "-" else [rows[row.parent].recipe])


@pytest.mark.parametrize(
    ("name", "parameters", "steps"),
    [
        ("BERT", "110,106,428", "1,000,000"),
        ("GPT-2", "124,439,808", "600,000"),
        ("XLNet", "116,750,336", "500,000"),
        ("BERT-wwm-ext", "102,882,442", "1,400,000"),
        ("ALBERT", "11,813,810", "125,000"),
    ],
)
def test_sizes_are_those_published(rows, name, parameters, steps):
    assert (rows[name].parameters, rows[name].steps) == (parameters, steps)


def test_families_are_those_of_the_heads(rows):
    families = {"LSTM biLM": "bidirectional_lm", "causal": "causal_lm", "masked encoder": "masked_lm", "permutation": "permutation_lm"}
    for row in rows.values():
        named = re.findall(r"kind: (\w+_lm)\b", Path(row.recipe).read_text(encoding="utf8"))
        assert set(named) <= {families[row.family]}


def test_papers_are_short(rows):
    assert rows["BERT"].paper == "Devlin et al. 2019, arXiv:1810.04805"
    assert rows["GPT"].paper == "Radford et al. 2018"
    assert rows["BERT-wwm-ext"].paper == "ymcui/Chinese-BERT-wwm"


def test_lines_where_there_is_no_terminal(rows):
    heading, *lines = printed(rows.values()).splitlines()
    columns = ["name", "date", "class", "parent", "paper", "recipe", "parameters", "steps"]
    assert heading.split() == columns
    assert [re.split(r" {2,}", line)[0] for line in lines] == list(rows)
    assert all(len(re.split(r" {2,}", line.strip())) == len(columns) for line in lines)
    assert len({line.rindex("configs/") for line in lines}) == 1


@pytest.mark.parametrize("width", [100, 200])
def test_a_table_that_fits_a_terminal(rows, width):
    text = re.sub(r"\x1b\[[\d;]*m", "", printed(rows.values(), force_terminal=True, width=width))
    assert max(map(len, text.splitlines())) <= width
    for row in rows.values():
        assert row.parameters in text
        assert row.steps in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_name_every_system(page, rows):
    changes, numbers = cells_of(page)
    assert {name: (row[0], row[2] or "-") for name, row in changes.items()} == {row.name: (row.date, row.parent) for row in rows.values()}
    assert {name: (row[1], row[5]) for name, row in numbers.items()} == {name: (rows[name].steps, rows[name].parameters) for name in ELEVEN}


def read_number(text):
    digits, scale = re.match(r"([\d.]+)([MBT])", text).groups()
    return float(digits) * {"M": 1e6, "B": 1e9, "T": 1e12}[scale]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_count_rows_and_positions_as_the_recipes_do(page, rows):
    for name, cells in cells_of(page)[1].items():
        recipe = load_recipe([rows[name].recipe])
        counted = []
        for stage in recipe.planned_stages:
            for task, steps in stage.steps.items():
                length = recipe.tasks[task].format.length
                counted.append((steps * recipe.rows_of(stage, mean_tokens=length), length))
        positions = sum(number * length for number, length in counted)
        # A row of ELMo has 20 words forward and 20 backward.
        positions /= 2 if name == "ELMo" else 1
        assert read_number(cells[3]) == pytest.approx(sum(number for number, _ in counted), rel=0.01)
        assert read_number(cells[4]) == pytest.approx(positions, rel=0.01)


def test_pages_say_the_same():
    english, chinese = ([line for line in page.read_text(encoding="utf8").splitlines() if line.startswith("|")] for page in PAGES)
    assert len(english) == len(chinese)
    # Of the names in bold, which begin what is told wrong of a system.
    assert [re.findall(r"^\| \*\*(.+?)\*\*", line) for line in english] == [re.findall(r"^\| \*\*(.+?)\*\*", line) for line in chinese]


def test_recipes_of_ones_own_come_last(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "configs"
    (folder / "sources").mkdir(parents=True)
    (folder / "elmo.yaml").write_text((CONFIGS / "elmo.yaml").read_text())
    (folder / "sources" / "none.yaml").write_text("seed: 3\n")
    (folder / "base.yaml").write_text(dump_recipe(tiny_recipe()))
    (folder / "mine.yaml").write_text("extends: [sources/none.yaml, base.yaml]\nname: mine\n")
    assert find_recipes() == Path("configs")
    found = rows_of(find_recipes())
    assert [(row.name, row.date, row.parent, row.recipe) for row in found] == [
        ("ELMo", "2018-02", "-", "configs/elmo.yaml"),
        ("base", "-", "-", "configs/base.yaml"),
        ("mine", "-", "base", "configs/mine.yaml"),
    ]


def test_the_repository_of_the_package_is_found_from_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_recipes() == CONFIGS


def test_no_recipes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(systems, "__file__", str(tmp_path / "site" / "ptm_dist" / "cli" / "systems.py"))
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "quickstart.yaml").touch()
    with pytest.raises(ConfigError, match=r"configs/: no published recipe is here; run this in the repository of ptm_dist, or copy"):
        find_recipes()


def test_the_command(monkeypatch, rows):
    monkeypatch.chdir(ROOT)
    result = CliRunner().invoke(app, ["systems"])
    assert result.exit_code == 0
    assert [re.split(r" {2,}", line)[0] for line in result.output.splitlines()] == ["name", *rows]
    assert "Example: ptm systems" in CliRunner().invoke(app, ["systems", "--help"]).output
