"""The verb sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ptm_dist.cli.words import CACHE, CacheOption, LauncherOption, TextOption, out, places_of, recipe_of
from ptm_dist.errors import StoppedError, error_of

EPILOG = "Example: ptm sweep configs/quickstart.yaml optimizer.learning_rate=1e-3,3e-3 seed=1,2,3"


def sweep(
    words: Annotated[
        list[str], typer.Argument(help="Recipe files, then dotted.key=value; one of several values varies.", metavar="RECIPE... KEY=A,B...")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the runs and where they stand; do nothing.")] = False,
    runs: Annotated[Path | None, typer.Option("--runs", help="Where the runs lie. Default: runs/sweep-DIGEST.", show_default=False)] = None,
    parallel: Annotated[
        int | None, typer.Option("--parallel", min=1, help="Most runs side by side. Default: as many as there is room for.")
    ] = None,
    text: TextOption = None,
    cache: CacheOption = CACHE,
    launcher: LauncherOption = "ray",
) -> None:
    """Train a recipe with every combination of some values, and compare them. The same command goes on, and retries what failed."""
    from ptm_dist.driver.sweep import axes_of, planned
    from ptm_dist.driver.sweep_queue import Queue
    from ptm_dist.progress import watching

    files = [word for word in words if "=" not in word]
    shared, axes = axes_of([word for word in words if "=" in word])
    found = planned(axes, lambda chosen: recipe_of([*files, *shared, *chosen], text), runs)
    places = places_of(found.runs[0].recipe, found.path, cache, launcher)
    if dry_run:
        show_plan(found)
        return
    with watching(out) as watcher:
        queue = Queue(found, places, watcher, parallel)
        rows = queue.work()
    show_rows(found, rows)
    failed = [row for row in rows if row["state"] == "failed"]
    for row in failed:
        out.print(f"{row['name']}: exit {row['exit_code']}: {row['message']}", markup=False)
    if queue.stops:
        raise StoppedError(f"{found.path}: stopped as asked. The same command goes on.")
    if failed:
        what = f"{found.path}: {len(failed)} of {len(rows)} runs failed ({', '.join(row['name'] for row in failed)})"
        raise error_of(failed[0]["exit_code"], f"{what}. The same command tries them again.")


def show_plan(found: Any) -> None:
    """Print the runs of a sweep and where each stands."""
    from ptm_dist.cli.table import show_columns
    from ptm_dist.driver.run import where_it_stands
    from ptm_dist.driver.sweep import known_failures, labels

    ends, failed = labels([axis.key for axis in found.axes]), known_failures(found)
    lines = []
    for run in found.runs:
        stands = where_it_stands(run.folder, run.recipe).partition(": ")[2] + ("; failed, to be tried again" if run.name in failed else "")
        lines.append((*run.values.values(), stands, str(run.path)))
    show_columns(out, (*ends.values(), "state", "run"), lines, numbers=list(ends.values()))


def show_rows(found: Any, rows: list[dict[str, Any]]) -> None:
    """Print the table of a sweep, best first."""
    from ptm_dist.cli.table import show_columns
    from ptm_dist.driver.sweep import TABLE, labels, measures

    ends, measured = labels([axis.key for axis in found.axes]), measures(rows)
    held_out = [f"held-out {name}" for name in measured]
    lines = []
    for row in rows:
        losses = [f"{row['held_out'][name]:.4f}" if name in row["held_out"] else "" for name in measured]
        speed = f"{row['tokens_per_second']:,.0f}" if row["tokens_per_second"] else ""
        where = row["state"] if row["state"] == "finished" else f"{row['state']} at step {row['step']:,}"
        lines.append((*row["values"].values(), *losses, speed, where, row["path"]))
    heading = (*ends.values(), *held_out, "tokens/s", "state", "run")
    show_columns(out, heading, lines, numbers=[*ends.values(), *held_out, "tokens/s"])
    out.print(f"also in {found.path / TABLE}", markup=False)
