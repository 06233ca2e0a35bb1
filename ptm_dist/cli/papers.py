"""A recipe against what was published, line by line.

`papers/NAME.yaml` beside a recipe NAME.yaml holds, of each setting by its dotted path and of each figure of its cost, what was
published and where. A number that ends in K, M or B is as exact as it is written: 110M is anything from 109.5M to 110.5M.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from rich.console import Console

from ptm_dist.cli.systems import find_recipes
from ptm_dist.cli.table import show_columns
from ptm_dist.cost import cost_of
from ptm_dist.errors import ConfigError
from ptm_dist.recipe import Recipe
from ptm_dist.recipe_io import recipe_to_json
from ptm_dist.recipe_yaml import parse

FOLDER: Final = "papers"
MISSING: Final = object()
Mark: TypeAlias = Literal["same", "differs", "contested", "not published"]
STYLES: Final = {"same": "green", "differs": "bold red", "contested": "yellow", "not published": "dim"}
"""The marks in the order in which they are summed up, and how they look."""
HEADING: Final = ("setting", "recipe", "published", "where", "mark", "note")
_ROUNDED: Final = re.compile(r"(\d+(?:\.(\d+))?)([KMB])")
_SCALES: Final = {"K": 1e3, "M": 1e6, "B": 1e9}


class Published(BaseModel):
    """What was published of one setting. Without `published` nothing was."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    published: Any = MISSING
    also: list[Any] = []
    """What another source says: the value is contested."""
    where: str = ""
    """Section of the paper, or file of the code; of all values, in their order."""
    here: Any = MISSING
    """What the shipped recipe has instead."""
    why: str = ""
    """Why it does."""
    note: str = ""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.published is MISSING and (self.also or self.where or self.why):
            raise ValueError("also, where and why go with published; add it, or remove them")
        if (self.here is MISSING) != (not self.why):
            raise ValueError("here and why go together; give both, or none")
        if self.published is not MISSING and not self.where:
            raise ValueError("say where it was published; add where")
        return self

    @property
    def values(self) -> list[Any]:
        """All published values."""
        return [] if self.published is MISSING else [self.published, *self.also]

    def mark(self, found: Any) -> Mark:
        """Return how a recipe's value stands to the published ones; `MISSING` is like none of them."""
        if not self.values:
            return "not published"
        if not any(agrees(value, found) for value in self.values):
            return "differs"
        return "contested" if self.also else "same"


class Line(NamedTuple):
    """A setting or figure of a recipe, beside what was published of it."""

    key: str
    found: Any
    published: Published
    mark: Mark


def compare(recipe: Recipe, published: dict[str, Published]) -> list[Line]:
    """Return a line for each published setting; a recipe that lacks one has `MISSING` there."""
    plain = recipe_to_json(recipe) | {name: MISSING if figure is None else figure for name, figure in cost_of(recipe).figures.items()}
    found = {key: _at(plain, key) for key in published}
    return [Line(key, found[key], line, line.mark(found[key])) for key, line in published.items()]


def show_paper(console: Console, recipe: Recipe, files: Sequence[str]) -> None:
    """Print a recipe against the paper of its files.

    Raises:
        ConfigError: there is none, or its file does not hold what it should.

    """
    path = paper_of(files)
    lines = compare(recipe, read_paper(path))
    console.print(f"{recipe.name} against {path}", markup=False)
    console.print(f"{recipe.paper}\n", markup=False)
    rows = [(line.key, _text(line.found), _told(line.published), line.published.where, line.mark, _note(line)) for line in lines]
    show_columns(console, HEADING, rows, whole=("mark",), styles=STYLES)
    counts = Counter(line.mark for line in lines)
    console.print("\n" + ", ".join(f"{mark} {counts[mark]}" for mark in STYLES), markup=False)


def paper_of(files: Sequence[str]) -> Path:
    """Return the published values of the last of some recipe files that has any, its own or of its nearest ancestor.

    Raises:
        ConfigError: none has.

    """
    for file in reversed(files):
        for ancestor in _lineage(Path(file)):
            path = ancestor.parent / FOLDER / f"{ancestor.stem}.yaml"
            if path.is_file():
                return path
    folder = find_recipes() / FOLDER
    there = ", ".join(sorted(path.stem for path in folder.glob("*.yaml"))) or "none"
    raise ConfigError(
        f"{' '.join(files)}: no published values lie in {FOLDER}/ beside it, nor beside what it extends. In {folder} there are those of: "
        f"{there}. Extend one of these recipes, or write {FOLDER}/{Path(files[-1]).stem}.yaml beside yours."
    )


def read_paper(path: Path) -> dict[str, Published]:
    """Return the published values of a file by the dotted paths of their settings.

    Raises:
        ConfigError: the file is no mapping of settings, or says something else of one than `Published` has.

    """
    data, origins = parse(path.read_text(encoding="utf-8-sig"), str(path))
    if not isinstance(data, dict) or not all(isinstance(line, dict) for line in data.values()):
        raise ConfigError(
            f"{path}: each line is a setting with what was published of it; write model.layers: {{published: 12, where: ..}}."
        )
    found = {}
    for key, line in data.items():
        try:
            found[key] = Published.model_validate(line)
        except ValidationError as error:
            first = error.errors()[0]
            said = ".".join([key, *map(str, first["loc"])])
            raise ConfigError(f"{said}: {first['msg'].removeprefix('Value error, ')} ({origins[(key,)].place})") from error
    return found


def agrees(published: Any, found: Any) -> bool:
    """Say whether a value is what was published, as exactly as that is written."""
    rounded = _ROUNDED.fullmatch(published) if isinstance(published, str) else None
    if rounded is None or not isinstance(found, int | float):
        return published == found
    digits = len(rounded[2] or "")
    return round(found / _SCALES[rounded[3]], digits) == float(rounded[1])


def _lineage(path: Path) -> Iterator[Path]:
    """Yield a recipe file and what it extends, the nearest first, and of those as near the one that is laid over the others."""
    generation = [path]
    while generation:
        yield from generation
        generation = [parent for child in generation for parent in _parents(child)]


def _parents(path: Path) -> list[Path]:
    # The recipe has been read before, so these are files without a circle.
    data, _ = parse(path.read_text(encoding="utf-8-sig"), str(path))
    names = (data or {}).get("extends", [])
    return [path.parent / name for name in reversed([names] if isinstance(names, str) else names)]


def _at(plain: Any, key: str) -> Any:
    """Return what a dotted path leads to: a value; of a mapping its names; of a list of plug-ins their kinds."""
    for part in key.split("."):
        if isinstance(plain, list) and part.isdigit() and int(part) < len(plain):
            plain = plain[int(part)]
        elif isinstance(plain, dict) and part in plain:
            plain = plain[part]
        else:
            return MISSING
    if isinstance(plain, dict):
        return sorted(plain)
    return [item["kind"] if isinstance(item, dict) else item for item in plain] if isinstance(plain, list) else plain


def _told(published: Published) -> str:
    return " or ".join(_text(value) for value in published.values)


def _note(line: Line) -> str:
    why = line.published.why if agrees(line.published.here, line.found) else ""
    return "; ".join(text for text in (why, line.published.note) if text)


def _text(value: Any) -> str:
    match value:
        case _ if value is MISSING:
            return "-"
        case None:
            return "none"
        case bool():
            return str(value).lower()
        case int():
            return f"{value:,}"
        case list():
            return ", ".join(map(_text, value))
        case _:
            return str(value)
