"""The verb finetune."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ptm_dist.cli.words import CACHE, CacheOption, ClusterOption, LauncherOption, RunOption, out, places_of
from ptm_dist.errors import ConfigError, StoppedError, error_of

if TYPE_CHECKING:
    from ptm_dist.driver.finetune import Make
    from ptm_dist.driver.run import Places
    from ptm_dist.driver.sweep import Axis
    from ptm_dist.finetune.results import Results
    from ptm_dist.finetune.setup import Setup

EPILOG = "Example: ptm finetune runs/bert configs/finetune/snippets.yaml optimizer.learning_rate=5e-5 --seeds 3"


def finetune(
    checkpoint: Annotated[str, typer.Argument(help="A run, RUN@STEP, a Hugging Face folder or a portable one.", metavar="CHECKPOINT")],
    words: Annotated[
        list[str], typer.Argument(help="The file of a task, more files, then dotted.key=value.", metavar="TASK... [KEY=VALUE]...")
    ],
    run: RunOption = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Fine-tune so many times, with seeds 1, 2, 3, ..")] = 1,
    grid: Annotated[
        bool, typer.Option("--grid", help="Try all that the authors of the system tried; a key with several values is tried without this.")
    ] = False,
    preset: Annotated[
        str, typer.Option("--preset", help="Whose published setting it begins with. Default: that of the checkpoint's system.")
    ] = "",
    from_scratch: Annotated[bool, typer.Option("--from-scratch", help="Begin with random weights: what pretraining is worth.")] = False,
    evaluate_only: Annotated[
        bool, typer.Option("--evaluate-only", help="CHECKPOINT is a fine-tuned run: measure it on the data of TASK.")
    ] = False,
    split: Annotated[
        list[str] | None, typer.Option("--split", help="What is measured: validation by default, and test where there is one.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the recipe; do nothing.")] = False,
    cache: CacheOption = CACHE,
    launcher: LauncherOption = "ray",
    cluster: ClusterOption = None,
) -> None:
    """Fine-tune a checkpoint on labelled data, predict what is held out, and measure it. The same command goes on where it stopped."""
    files, overrides = [word for word in words if "=" not in word], [word for word in words if "=" in word]
    if evaluate_only:
        show_results(_measured(checkpoint, files, overrides, split))
        return
    from ptm_dist.driver.finetune import axes_of_grid
    from ptm_dist.driver.sweep import axes_of
    from ptm_dist.finetune.setup import setup
    from ptm_dist.recipe_io import dump_recipe

    shared, varied = axes_of(overrides, least=0)

    def make(chosen: Sequence[str]) -> Setup:
        return setup(checkpoint, files, [*shared, *chosen], preset, from_scratch)

    first = make([f"{axis.key}={axis.values[0]}" for axis in varied])
    if dry_run:
        out.print(dump_recipe(first.recipe), markup=False)
        return
    axes, splits = axes_of_grid(first.grid if grid else {}, seeds, varied), split or _splits(first.recipe)
    if axes and cluster:
        raise ConfigError("--cluster: a grid and seeds run on the Ray of this machine, or that of RAY_ADDRESS. Leave --cluster out.")
    places = places_of(first.recipe, run, cache, launcher, cluster)
    if axes:
        _all(axes, make, run, places, splits)
    else:
        _one(first, places, splits)


def _one(found: Setup, places: Places, splits: Sequence[str]) -> None:
    from ptm_dist.driver.finetune import finetune
    from ptm_dist.progress import watching

    with watching(out) as watcher:
        show_results(finetune(found, places, watcher, splits))


def _all(axes: Sequence[Axis], make: Make, path: Path | None, places: Places, splits: Sequence[str]) -> None:
    from ptm_dist.driver.finetune import finetune_all, planned_grid
    from ptm_dist.progress import watching

    found = planned_grid(axes, make, path)
    with watching(out) as watcher:
        points, queue = finetune_all(found, places, watcher, splits)
    show_points(points)
    if queue.stops:
        raise StoppedError(f"{found[0].path}: stopped as asked. The same command goes on.")
    if queue.failures:
        name, (code, message) = next(iter(queue.failures.items()))
        what = f"{len(queue.failures)} of {len(found[0].runs)} runs failed; {name}: {message}"
        raise error_of(code, f"{what} The same command tries them again.")


def _splits(recipe: Any) -> list[str]:
    tested = all(source.has("test") for source in recipe.sources.values())
    return ["validation", "test"] if tested else ["validation"]


def _measured(checkpoint: str, files: list[str], overrides: list[str], splits: list[str] | None) -> list[Results]:
    """Measure a fine-tuned run, on the data of other files if there are some."""
    from ptm_dist.finetune.scoring import score_run, with_data
    from ptm_dist.run import RunFolder

    recipe = with_data(RunFolder(Path(checkpoint.partition("@")[0])).recipe(), files, overrides)
    return score_run(checkpoint, splits or _splits(recipe), recipe)


def show_results(results: Sequence[Results]) -> None:
    """Print a line for each measure, and what was left out."""
    from ptm_dist.cli.table import show_columns
    from ptm_dist.finetune.results import HEADING, table

    show_columns(out, HEADING, table(results), numbers=("value", "items", "seeds"))
    for one in results:
        if one.skipped:
            told = ", ".join(f"{count} {why}" for why, count in one.skipped.items())
            out.print(f"{one.task}, {one.split}: left out: {told}", markup=False)


def show_points(points: Sequence[Any]) -> None:
    """Print a line for each measure of each setting: means over seeds, with deviations."""
    from ptm_dist.cli.table import show_columns
    from ptm_dist.driver.sweep import labels
    from ptm_dist.finetune.results import HEADING, merge, table

    if not points:
        return
    ends = labels(list(points[0].values))
    lines = []
    for point in points:
        keys = dict.fromkeys((one.task, one.split) for one in point.results)
        over_seeds = [merge([one for one in point.results if (one.task, one.split) == key]) for key in keys]
        lines += [(*point.values.values(), *line) for line in table(over_seeds)]
    show_columns(out, (*ends.values(), *HEADING), lines, numbers=[*ends.values(), "value", "items", "seeds"])
