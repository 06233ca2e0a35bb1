"""ptm sweep: one run for each combination of some values of a recipe, side by side as there is room, and a table of what came out.

The runs lie in one directory under names that tell their values. Each is an ordinary run, so a sweep that was interrupted goes on where
its runs stopped, and what is finished is not done again.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ptm_dist.driver.run import finished
from ptm_dist.errors import EXIT_CODES, ConfigError
from ptm_dist.events import read_events, steps_of
from ptm_dist.recipe import Recipe
from ptm_dist.recipe_io import recipe_to_json
from ptm_dist.run import RunFolder
from ptm_dist.store import digest, read_json, write_json

MOST_RUNS: Final = 1000
LONGEST_NAME: Final = 64
TABLE: Final = "sweep.json"
_QUOTED: Final = re.compile(r""" "(?:[^"\\]|\\.)*" | '(?:[^']|'')*' """, re.VERBOSE | re.DOTALL)

Make = Callable[[list[str]], Recipe]
"""Returns the recipe that some overrides give."""


@dataclass(frozen=True)
class Axis:
    """A setting that varies, and its values as they were typed."""

    key: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class SweptRun:
    """One combination: its name, the value of each axis, the recipe that they give, and where the run lives."""

    name: str
    values: dict[str, str]
    recipe: Recipe
    path: Path

    @property
    def folder(self) -> RunFolder:
        """The directory of the run."""
        return RunFolder(self.path)

    @property
    def is_finished(self) -> bool:
        """Has this very recipe been trained to its end here?"""
        folder = self.folder
        return folder.exists and folder.recipe().digest == folder.with_known_steps(self.recipe).digest and finished(folder, folder.recipe())


@dataclass(frozen=True)
class Sweep:
    """All runs of a sweep, in the order in which they are started."""

    path: Path
    axes: tuple[Axis, ...]
    runs: tuple[SweptRun, ...]


def split_values(text: str) -> list[str]:
    """Split at commas that stand neither in quotes nor in brackets; each part parses as a value of a recipe."""
    parts, depth, at = [""], 0, 0
    while at < len(text):
        # An apostrophe within a word quotes nothing.
        begins = parts[-1].rstrip()[-1:] in ("", "[", "{", ",", ":")
        quoted = _QUOTED.match(text, at) if begins else None
        piece = quoted.group() if quoted else text[at]
        at += len(piece)
        depth = max(0, depth + (piece in "[{") - (piece in "]}"))
        if piece == "," and not depth:
            parts.append("")
        else:
            parts[-1] += piece
    return [part.strip() for part in parts]


def axes_of(overrides: Sequence[str], least: int = 1) -> tuple[list[str], tuple[Axis, ...]]:
    """Return the overrides that all runs share, and those that vary, `least` of them at least: KEY=a,b,c.

    Raises:
        ConfigError: too little varies, a key or a value is given twice, or a value is empty.

    """
    shared, axes, keys = list[str](), list[Axis](), list[str]()
    for override in overrides:
        dotted, _, text = override.partition("=")
        key = re.sub(r"\[(-?\d+)\]", r".\1", dotted.strip())
        values = split_values(text)
        if len(values) == 1:
            shared.append(override)
        else:
            _check_axis(key, values)
            axes.append(Axis(key, tuple(values)))
        keys.append(key)
    for key in keys:
        if keys.count(key) > 1:
            raise ConfigError(f"{key}: given {keys.count(key)} times; write all its values after one =, with commas between them.")
    if len(axes) < least:
        raise ConfigError("nothing varies. Give at least one setting two values: ptm sweep RECIPE optimizer.learning_rate=1e-4,3e-4")
    return shared, tuple(axes)


def _check_axis(key: str, values: list[str]) -> None:
    if key == "name":
        raise ConfigError("name: a sweep names its runs itself; give it one value.")
    if not all(values):
        raise ConfigError(
            f"{key}={','.join(values)}: a value is empty. Text that contains a comma must be quoted, inside the shell's quotes."
        )
    for value in values:
        if values.count(value) > 1:
            raise ConfigError(f"{key}: the value {value} is given twice; remove one.")


def planned(axes: Sequence[Axis], make: Make, path: Path | None, root: Path = Path("runs")) -> Sweep:
    """Return a run for each combination of values, the last axis varying fastest; `path` is `root`/sweep-DIGEST unless given.

    Raises:
        ConfigError: a combination is no recipe, two are the same, or there are too many.

    """
    count = 1
    for axis in axes:
        count *= len(axis.values)
    if count > MOST_RUNS:
        raise ConfigError(f"this sweep has {count:,} runs; {MOST_RUNS:,} is the most. Give fewer values.")
    found: list[tuple[str, dict[str, str], Recipe]] = []
    for values in itertools.product(*(axis.values for axis in axes)):
        chosen = {axis.key: value for axis, value in zip(axes, values, strict=True)}
        recipe = make([f"{key}={value}" for key, value in chosen.items()])
        found.append((run_name(recipe.name, chosen), chosen, recipe))
    _check_distinct(found)
    named = [(name, chosen, recipe.model_copy(update={"name": name})) for name, chosen, recipe in found]
    where = path or root / f"sweep-{digest([[name, recipe.digest] for name, _, recipe in named])[:8]}"
    return Sweep(where, tuple(axes), tuple(SweptRun(name, chosen, recipe, where / name) for name, chosen, recipe in named))


def _check_distinct(found: Sequence[tuple[str, dict[str, str], Recipe]]) -> None:
    seen: dict[str, dict[str, str]] = {}
    for _, chosen, recipe in found:
        same = digest(recipe_to_json(recipe))
        if same in seen:
            told = " and ".join(", ".join(f"{key}={value}" for key, value in values.items()) for values in (seen[same], chosen))
            raise ConfigError(f"{told} are the same recipe; remove one.")
        seen[same] = chosen


def run_name(base: str, chosen: dict[str, str]) -> str:
    """Return the name of a run: that of the recipe, then each setting by the end of its key and its value.

    What a name cannot hold, or has no room for, is told apart by a digest.
    """
    ends = labels(list(chosen))
    told = [f"{ends[key]}-{value.strip(chr(34) + chr(39))}" for key, value in chosen.items()]
    name = "-".join([base, *told])
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name)
    if plain == name and len(name) <= LONGEST_NAME:
        return name
    return f"{plain[: LONGEST_NAME - 9]}-{digest(chosen)[:8]}"


def labels(keys: Sequence[str]) -> dict[str, str]:
    """Return the shortest end of each dotted key that no other one has."""
    found = {}
    for key in keys:
        parts = key.split(".")
        ends = [".".join(parts[-count:]) for count in range(1, len(parts) + 1)]
        others = [other for other in keys if other != key]
        found[key] = next((end for end in ends if not any(f".{other}".endswith(f".{end}") for other in others)), key)
    return found


@dataclass(frozen=True)
class Figures:
    """Where a run stands: its updates done, its last held-out losses by what was measured, and its speed without the first steps."""

    state: str
    step: int
    total_steps: int | None
    held_out: dict[str, float]
    tokens_per_second: float | None
    exit_code: int | None = None
    message: str = ""


def figures_of(run: SweptRun, state: str, failure: tuple[int, str] | None = None) -> Figures:
    """Read what a run has come to."""
    steps = steps_of(run.folder.events_path)
    started = {event["step"] for event in read_events(run.folder.events_path, "attempt_started")}
    # The first step of an attempt pays for allocation and warm-up.
    timed = [event for step, event in steps.items() if step not in started]
    seconds = sum(event["seconds"] for event in timed)
    measured = {}
    for event in read_events(run.folder.events_path, "evaluated"):
        several = len(run.recipe.tasks[event["task"]].objectives) > 1 if event["task"] in run.recipe.tasks else True
        measured[f"{event['task']} {event['objective']}" if several else event["task"]] = event["loss"]
    measured = {name: loss for name, loss in measured.items() if math.isfinite(loss)}  # A run that diverged is no best one.
    known = run.folder.recipe() if run.folder.exists else run.recipe
    return Figures(
        state,
        max(steps, default=-1) + 1,
        None if known.budgets else known.total_steps,
        measured,
        sum(event["tokens"] for event in timed) / seconds if seconds else None,
        *(failure or (None, "")),
    )


def write_table(sweep: Sweep, figures: Sequence[Figures]) -> list[dict[str, Any]]:
    """Write DIR/sweep.json, best first, and return its rows: by the first held-out loss, runs without one last."""
    rows = [
        {"name": run.name, "values": run.values, "path": str(run.path), **vars(found)}
        for run, found in zip(sweep.runs, figures, strict=True)
    ]
    columns = measures(rows)
    rows.sort(key=lambda row: row["held_out"].get(columns[0], float("inf")) if columns else 0.0)
    axes = {axis.key: list(axis.values) for axis in sweep.axes}
    write_json(sweep.path / TABLE, {"axes": axes, "runs": rows})
    return rows


def measures(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return what was measured in any of the runs, in the order in which they measured it."""
    return list(dict.fromkeys(name for row in rows for name in row["held_out"]))


def known_failures(sweep: Sweep) -> dict[str, str]:
    """Return why runs failed the last time, by name."""
    path = sweep.path / TABLE
    rows = read_json(path)["runs"] if path.exists() else []
    return {row["name"]: row["message"] for row in rows if row["state"] == "failed"}


def cause_text(exit_code: int) -> str:
    """Return what an exit code of a run's process means, a signal included."""
    return EXIT_CODES.get(exit_code, f"ended by signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}")
