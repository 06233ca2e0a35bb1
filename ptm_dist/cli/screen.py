"""A run on a terminal: figures, a table of its tasks, and its losses drawn in characters."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ptm_dist.page.curves import smoothed
from ptm_dist.status import HeldOut, Probed, Status
from ptm_dist.watched import Watched

COLOURS: Final = ("cyan", "magenta", "yellow", "green", "blue", "red", "bright_cyan", "bright_magenta")
STATES: Final[Mapping[str, str]] = {
    "running": "bold green",
    "finished": "bold green",
    "preparing": "bold cyan",
    "restarting": "bold yellow",
    "stopped": "bold yellow",
    "failed": "bold red",
    "new": "bold",
}
BARS: Final = "▁▂▃▄▅▆▇█"
DOTS: Final = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bits of the dots of a braille character, by row and column."""
CHART_ROWS: Final = 9


def screen_of(watched: Watched, width: int) -> RenderableType:
    """Return all that is shown of a run on a terminal of `width` columns."""
    status = watched.status()
    parts: list[RenderableType] = [_heading(status), *_progress(status, width)]
    if len(watched.observed.steps):
        parts += [Text(), _chart(watched, width), Text(), _tasks(watched, status)]
    parts += [Text(), _figures(status, width)]
    return Group(*parts)


def show_plain(console: Console, status: Status) -> None:
    """Print the figures of a run as lines of name and value."""
    for name, value in [*_rows(status), *_held_out_rows(status)]:
        console.print(f"{name:<22}{value}", markup=False, soft_wrap=True)


def _heading(status: Status) -> Text:
    state = status.state if status.state != "failed" else f"failed: {status.cause}"
    told = Text.assemble((status.name, "bold"), "  ", (state, STATES.get(status.state, "bold")))
    if status.attempt:
        told.append(f"  attempt {status.attempt}", "dim")
    told.append(f"  {status.run}", "dim")
    if status.message and status.state in {"failed", "stopped", "restarting"}:
        told.append(f"\n{status.message}", "yellow")
    return told


def _progress(status: Status, width: int) -> list[RenderableType]:
    if status.total_steps is None:
        return []
    share = status.step / max(1, status.total_steps)
    place = Text.assemble((f"step {status.step:,}", "bold"), f" of {status.total_steps:,}", f"  {share:.1%}")
    if status.stage and status.stages > 1:
        place.append(f"  stage {status.stage_number} of {status.stages}, {status.stage}")
    if status.seconds_left is not None:
        place.append(f"  {span(status.seconds_left)} left", "bold")
    return [place, ProgressBar(total=status.total_steps, completed=status.step, width=min(width, 100))]


def _colour(watched: Watched, task: str) -> str:
    names = [*watched.plan.objectives, task]
    return COLOURS[names.index(task) % len(COLOURS)]


def _curves(watched: Watched) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return step and smoothed loss of each task, in the order in which they join."""
    steps = watched.observed.steps
    numbers, loss = np.array(steps.numbers), steps.column("loss")
    known = [task for task in watched.plan.objectives if task in steps.tasks]
    order = known + [task for task in steps.tasks if task not in known]
    found = {task: (numbers[mine], smoothed(loss[mine])) for task in order if (mine := steps.of_task(task)).any()}
    return {task: curve for task, curve in found.items() if np.isfinite(curve[1]).any()}


def _chart(watched: Watched, width: int) -> RenderableType:
    """Draw the smoothed loss of each task in braille, with the range of values at the side and of steps below."""
    curves = _curves(watched)
    if not curves:
        return Text("no finite loss yet", "dim")
    finite = np.concatenate([loss[np.isfinite(loss)] for _, loss in curves.values()])
    low, high = float(finite.min()), float(finite.max())
    columns, last = max(20, min(width, 120) - 10), watched.plan.total_steps or watched.observed.done
    first = min(int(numbers[0]) for numbers, _ in curves.values())
    reach = max(1, watched.observed.done - first)
    cells, colours = np.zeros((CHART_ROWS, columns), dtype=np.int32), np.full((CHART_ROWS, columns), "", dtype=object)
    for task, (numbers, loss) in curves.items():
        _draw(cells, colours, (numbers - first) / reach, (loss - low) / max(high - low, 1e-9), _colour(watched, task))
    lines = []
    for row in range(CHART_ROWS):
        label = {0: f"{high:.3f}", CHART_ROWS - 1: f"{low:.3f}"}.get(row, "")
        line = Text.assemble((f"{label:>8} ", "dim"))
        for cell, colour in zip(cells[row], colours[row], strict=True):
            line.append(chr(0x2800 + int(cell)), colour or None)
        lines.append(line)
    ends = f"{'training loss':<20}{'steps':>{max(5, columns // 2 - 20)}} {first:,} to {watched.observed.done:,} of {last:,}"
    return Group(*lines, Text(" " * 9 + ends, "dim"))


def _draw(cells: np.ndarray, colours: np.ndarray, x: np.ndarray, y: np.ndarray, colour: str) -> None:
    """Set the dots of one curve, x and y from 0 to 1, joined from column to column."""
    rows, columns = cells.shape[0] * len(DOTS), cells.shape[1] * 2
    at = np.clip((x * (columns - 1)).round(), 0, columns - 1).astype(int)
    before: int | None = None
    for column in np.unique(at):
        values = y[(at == column) & np.isfinite(y)]
        if not len(values):
            continue
        place = int(np.clip(round((1 - float(values.mean())) * (rows - 1)), 0, rows - 1))
        low, high = (place, place) if before is None else sorted((place, before + (1 if place > before else -1 if place < before else 0)))
        for dot in range(low, high + 1):
            cells[dot // 4, column // 2] |= DOTS[dot % 4][column % 2]
            colours[dot // 4, column // 2] = colour
        before = place


def sparkline(values: np.ndarray, width: int = 24) -> str:
    """Return a curve as `width` blocks."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return ""
    parts = np.array_split(finite, min(width, len(finite)))
    means = np.array([part.mean() for part in parts])
    low, high = means.min(), means.max()
    return "".join(BARS[int((mean - low) / max(high - low, 1e-9) * (len(BARS) - 1))] for mean in means)


def _tasks(watched: Watched, status: Status) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("task")
    table.add_column("loss so far")
    for name in ("loss", "held-out", "accuracy", "without context"):
        table.add_column(name, justify="right", no_wrap=True)
    several = len({figures.objective for figures in status.held_out}) > 1
    for task, (_, loss) in _curves(watched).items():
        now = " ".join(("*" if task == status.task and status.state == "running" else " ", task))
        cells = [Text(now, _colour(watched, task)), Text(sparkline(loss), _colour(watched, task)), _number(status.losses.get(task))]
        mine = [figures for figures in status.held_out if figures.task == task]
        for figures in mine or [None]:
            table.add_row(*cells, *_held_out_cells(figures, several))
            cells = ["", "", ""]
    return table


def _held_out_cells(figures: HeldOut | None, several: bool) -> list[str]:
    if figures is None:
        return ["", "", ""]
    name = f"{figures.objective}  " if several else ""
    alone = f"{_number(figures.floor)}"
    if figures.baseline_accuracy is not None:
        alone += f"  {figures.baseline_accuracy:.1%}"
    return [f"{name}{_number(figures.loss)}", "" if figures.accuracy is None else f"{figures.accuracy:.1%}", alone]


def _figures(status: Status, width: int) -> RenderableType:
    grid = Table.grid(padding=(0, 3))
    above = {"run", "step", "loss", *([] if status.state == "running" else ["state"])}
    rows = [row for row in _rows(status) if row[0] not in above]
    half = math.ceil(len(rows) / 2) if width >= 90 else len(rows)
    for one, other in zip(rows[:half], [*rows[half:], *[("", "")] * half], strict=False):
        grid.add_row(Text(one[0], "dim"), one[1], Text(other[0], "dim"), other[1])
    return Panel.fit(grid, border_style="dim")


def _rows(status: Status) -> list[tuple[str, str]]:
    """Return the figures by name, the place of the run first."""
    left = "" if status.seconds_left is None else f", {span(status.seconds_left)} left"
    total = "" if status.total_steps is None else f" of {status.total_steps:,}"
    rows = [
        ("run", f"{status.run} ({status.name})"),
        ("state", _state(status)),
        ("step", f"{status.step:,}{total}{left}"),
        ("stage", _stage(status)),
        ("loss", ", ".join(f"{task} {loss:.3f}" for task, loss in status.losses.items())),
        ("tokens/s", _speed(status)),
        ("tokens", f"{status.tokens:,}"),
        ("learning rate", _number(status.learning_rate, ".3e")),
        ("gradient norm", _number(status.gradient_norm)),
        ("workers", _workers(status)),
        ("last checkpoint", _checkpoint(status)),
        *((f"probe {probe.probe}", _probe(probe)) for probe in status.probes),
        ("goodput", "" if status.goodput is None else f"{status.goodput:.1%}{_least_good(status.goodput_seconds)}"),
        ("restarts", f"{status.restarts:,}, {status.lost_steps:,} steps lost" if status.restarts else "0"),
        ("skipped steps", f"{status.skipped_steps:,}" if status.skipped_steps else ""),
    ]
    return [row for row in rows if row[1]]


def _held_out_rows(status: Status) -> list[tuple[str, str]]:
    rows = []
    for figures in status.held_out:
        alone = f" (labels alone {figures.baseline_loss:.3f}, {figures.baseline_accuracy:.1%})" if figures.baseline_accuracy else ""
        alone = f" (unigram entropy {figures.unigram_entropy:.3f})" if figures.unigram_entropy else alone
        accuracy = "" if figures.accuracy is None else f", accuracy {figures.accuracy:.1%}"
        rows.append(("held-out", f"{figures.task} {figures.objective} {_number(figures.loss)} at step {figures.step:,}{accuracy}{alone}"))
    return rows


def _state(status: Status) -> str:
    told = status.state if status.attempt is None else f"{status.state}, attempt {status.attempt}"
    if status.cause and status.cause != status.state:
        told += f", {status.cause}"
    if status.exit_code:
        told += f" (exit code {status.exit_code})"
    if status.state == "running" and status.last_step_at is not None:
        told += f", last step {span(status.seen_at - status.last_step_at)} ago"
    return told


def _stage(status: Status) -> str:
    if status.stage is None:
        return ""
    task = f", task {status.task}" if status.task and len(status.losses) > 1 else ""
    return f"{status.stage} ({status.stage_number} of {status.stages}){task}"


def _speed(status: Status) -> str:
    if status.tokens_per_second is None or status.tokens_per_second_average is None:
        return ""
    return f"{status.tokens_per_second:,.0f} now, {status.tokens_per_second_average:,.0f} on average"


def _workers(status: Status) -> str:
    if status.workers is None:
        return f"{status.wanted_workers} wanted"
    nodes = f" on {len(status.nodes)} nodes" if len(status.nodes) > 1 else f" on {status.nodes[0]}" if status.nodes else ""
    return f"{status.workers} of {status.wanted_workers}{nodes}"


def _checkpoint(status: Status) -> str:
    if status.checkpoint is None:
        return "none yet" if status.step else ""
    size = "" if status.checkpoint.bytes is None else f", {size_of(status.checkpoint.bytes)}"
    return f"step {status.checkpoint.step:,}, {span(status.checkpoint.age_seconds)} ago{size}"


def _probe(probe: Probed) -> str:
    accuracy, alone = ("" if share is None else f"{share:.1%}" for share in (probe.accuracy, probe.baseline_accuracy))
    return f"accuracy {accuracy} at step {probe.step:,} (most frequent class {alone})"


def _least_good(seconds: Mapping[str, float]) -> str:
    """Return the largest of the classes that are not productive."""
    wall = sum(seconds.values())
    rest = {name: share for name, share in seconds.items() if name != "productive"}
    most = max(rest, key=lambda name: rest[name], default=None)
    return f", {most} {rest[most] / wall:.1%}" if most and wall > 0 and rest[most] / wall >= 0.001 else ""


def _number(value: float | None, form: str = ".3f") -> str:
    return "" if value is None else format(value, form)


def span(seconds: float) -> str:
    """Return a span of time in its two largest units."""
    seconds = max(0, round(seconds))
    parts = [(seconds // 86400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "min"), (seconds % 60, "s")]
    first = next((place for place, (number, _) in enumerate(parts) if number), len(parts) - 1)
    return " ".join(f"{number} {unit}" for number, unit in parts[first : first + 2] if number or first == len(parts) - 1)


def size_of(count: int) -> str:
    """Return a number of bytes in a unit that people read."""
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count} bytes"


def moment(at: float) -> str:
    """Return a time as people here write it."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def shown_nodes(nodes: Sequence[str]) -> str:
    """Return the names of a few nodes, or how many they are."""
    return ", ".join(nodes) if len(nodes) <= 3 else f"{len(nodes)} nodes"
