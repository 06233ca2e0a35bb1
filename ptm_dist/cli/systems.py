"""The published systems that configs/ holds, as one table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from re import search, split
from typing import Final, NamedTuple

from rich.console import Console

from ptm_dist.cli.table import show_columns
from ptm_dist.errors import ConfigError
from ptm_dist.recipe_io import load_recipe
from ptm_dist.recipe_yaml import parse
from ptm_dist.train.module import parameter_counts

UNKNOWN: Final = "-"


class System(NamedTuple):
    """What no recipe says of a system: its name, the month of its publication, and how it predicts."""

    name: str
    date: str
    family: str


SYSTEMS: Final = {
    "elmo": System("ELMo", "2018-02", "LSTM biLM"),
    "gpt": System("GPT", "2018-06", "causal"),
    "bert": System("BERT", "2018-10", "masked encoder"),
    "gpt2": System("GPT-2", "2019-02", "causal"),
    "ernie1": System("ERNIE 1.0", "2019-04", "masked encoder"),
    "bert_wwm": System("BERT-wwm", "2019-06", "masked encoder"),
    "xlnet": System("XLNet", "2019-06", "permutation"),
    "roberta": System("RoBERTa", "2019-07", "masked encoder"),
    "ernie2": System("ERNIE 2.0", "2019-07", "masked encoder"),
    "bert_wwm_ext": System("BERT-wwm-ext", "2019-07", "masked encoder"),
    "albert": System("ALBERT", "2019-09", "masked encoder"),
    "bert_zh": System("BERT-base-Chinese", "2018-11", "masked encoder"),
    "ernie2_zh": System("ERNIE 2.0 zh", "2019-07", "masked encoder"),
    "roberta_wwm_ext": System("RoBERTa-wwm-ext", "2019-09", "masked encoder"),
    "albert_zh": System("albert_zh", "2019-10", "masked encoder"),
}
"""By the stem of the recipe: the eleven systems by date, then their relatives by date.

Source: the first version on arXiv, by whose numbers those of one month are ordered; of GPT and GPT-2 the paper's release; of BERT-wwm-ext
(30 July 2019, a day after ERNIE 2.0) and RoBERTa-wwm-ext the news in ymcui/Chinese-BERT-wwm; of BERT-base-Chinese its file; of albert_zh
its first weights.
"""


@dataclass(frozen=True)
class Row:
    """A line of the table, as text; fields are its columns."""

    name: str
    date: str
    family: str
    parent: str
    paper: str
    recipe: str
    parameters: str
    steps: str


HEADINGS: Final = {"family": "class"}
"""Columns that are not called as their field is: Python keeps the word for itself."""
NUMBERS: Final = ("parameters", "steps")
STARTING_POINTS: Final = ("quickstart", "domain")
"""What the names of recipes begin with that are of no published system."""


def find_recipes() -> Path:
    """Return configs/ of the current directory, or else that of the package's repository.

    Raises:
        ConfigError: neither holds the recipe of a published system.

    """
    for folder in (Path("configs"), Path(__file__).parents[2] / "configs"):
        if any((folder / f"{stem}.yaml").is_file() for stem in SYSTEMS):
            return folder
    raise ConfigError("configs/: no published recipe is here; run this in the repository of ptm_dist, or copy its configs/ here.")


def rows_of(folder: Path) -> list[Row]:
    """Return a row for each recipe in a folder: the systems in the order of the table above, then others by name, without starting points.

    Raises:
        ConfigError: a file is no recipe.

    """
    found = sorted(path.stem for path in folder.glob("*.yaml") if not path.stem.startswith(STARTING_POINTS))
    published = [stem for stem in SYSTEMS if stem in found]
    return [_row(folder / f"{stem}.yaml") for stem in [*published, *(stem for stem in found if stem not in SYSTEMS)]]


def show_systems(console: Console, rows: Iterable[Row]) -> None:
    """Print a table on a terminal, elsewhere a line a row with the columns below each other."""
    heading = [HEADINGS.get(field.name, field.name) for field in fields(Row)]
    show_columns(console, heading, [astuple(row) for row in rows], numbers=NUMBERS, whole=("date",))


def _row(path: Path) -> Row:
    recipe = load_recipe([path])
    system = _system(path.stem)
    counts = parameter_counts(recipe)
    return Row(
        name=system.name,
        date=system.date,
        family=system.family,
        parent=_parent(path),
        paper=_reference(recipe.paper),
        recipe=str(path),
        parameters=f"{sum(counts.values()):,}" if counts else UNKNOWN,
        steps=UNKNOWN if recipe.budgets else f"{recipe.total_steps:,}",
    )


def _system(stem: str) -> System:
    return SYSTEMS.get(stem, System(stem, UNKNOWN, UNKNOWN))


def _parent(path: Path) -> str:
    data, _ = parse(path.read_text(encoding="utf-8-sig"), str(path))
    extended = data.get("extends", [])
    for name in [extended] if isinstance(extended, str) else extended:
        # What lies in a folder below is corpora or an overlay, and no ancestor.
        if (path.parent / name).resolve().parent == path.parent.resolve():
            return _system(Path(name).stem).name
    return UNKNOWN


def _reference(paper: str) -> str:
    """Return authors, year and number of the paper that a recipe names first; where it names a repository, that."""
    first = split(r"[;:] ", paper)[0]
    cited = search(r"\(([^()]*\b(?:19|20)\d\d\b[^()]*)\)", first)
    return cited[1] if cited else first.partition(",")[0] or UNKNOWN
