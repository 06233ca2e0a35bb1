"""What the page of one run shows, as plain data, and the page."""

from __future__ import annotations

import importlib.metadata
import platform
from collections import Counter
from typing import Any, Final

import numpy as np

from ptm_dist.events import by_source
from ptm_dist.page.curves import averaged, numbers, smoothed, thinned
from ptm_dist.page.html import page
from ptm_dist.page.settings import changed_yaml
from ptm_dist.recipe_io import dump_recipe
from ptm_dist.status import Status
from ptm_dist.store import read_json
from ptm_dist.train.committed import list_checkpoints
from ptm_dist.watched import Watched

Data = dict[str, Any]

MOST_PHASES: Final = 300
PHASES: Final = ("forward", "backward", "optimizer", "communication", "data")
MOST_RANKS: Final = 8
"""So many ranks have a curve each; of more the least, the median and the greatest do."""


def page_of(run: Watched, live: bool = False) -> str:
    """Return the page of a run; a `live` one asks its server for news."""
    return page(f"{run.recipe.name}: report", "run", data_of(run), live)


def data_of(run: Watched) -> Data:
    """Return all that the page of a run shows."""
    status = run.status()
    return {
        "status": status.to_json(),
        "paper": run.recipe.paper,
        "tasks": list(run.plan.objectives),
        "stages": [{"name": stage.name, "first": stage.first, "end": stage.end, "steps": dict(stage.steps)} for stage in run.plan.stages],
        "first_step": run.observed.steps.numbers[0] if len(run.observed.steps) else 0,
        "overview": _overview(run),
        "losses": _losses(run, status),
        "rate": _rate(run),
        "learning_rate": _column(run, "learning_rate"),
        "gradient_norm": _column(run, "gradient_norm", smooth=True),
        "phases": _phases(run),
        "ranks": _ranks(run),
        "attempts": [attempt.to_json() for attempt in run.attempts()],
        "held_out": _held_out(run),
        "probes": _probes(run),
        "figures": _figures(run, status),
        "environment": _environment(run),
        "recipe": {"changed": changed_yaml(run.recipe), "whole": dump_recipe(run.recipe), "digest": run.recipe.digest},
    }


def _curve(steps: np.ndarray, values: np.ndarray, smooth: bool = True) -> Data:
    kept = thinned(values)
    curve: Data = {"steps": steps[kept].tolist(), "raw": numbers(values[kept])}
    return curve | {"smooth": numbers(smoothed(values)[kept])} if smooth else curve


def _overview(run: Watched) -> list[Data]:
    """Return the training loss of each task, all objectives with their weights."""
    steps = run.observed.steps
    step, loss = np.array(steps.numbers), steps.column("loss")
    masks = ((task, steps.of_task(task)) for task in run.plan.objectives if task in steps.tasks)
    return [{"task": task} | _curve(step[mine], loss[mine]) for task, mine in masks]


def _losses(run: Watched, status: Status) -> list[Data]:
    """Return a curve for each objective of each task with its held-out figures, and what a guess without context reaches."""
    steps, found = run.observed.steps, []
    step = np.array(steps.numbers)
    floors = {(figures.task, figures.objective): figures for figures in status.held_out}
    for task, objectives in run.plan.objectives.items():
        for objective in objectives:
            mine = steps.of_task(task) if task in steps.tasks else np.zeros(len(steps), dtype=bool)
            values = np.array(steps.losses.get(objective, np.full(len(steps), np.nan)))[mine]
            told = [event for (_, *pair), event in run.observed.evaluations.items() if pair == [task, objective]]
            curve: Data = {"task": task, "objective": objective} | _curve(step[mine], values)
            curve["held_out"] = {
                "steps": [event["step"] for event in told],
                "loss": numbers(event["loss"] for event in told),
                "accuracy": numbers(event["accuracy"] for event in told),
            }
            figures = floors.get((task, objective))
            if figures and figures.floor is not None:
                name = "unigram entropy" if figures.unigram_entropy is not None else "labels alone"
                curve["floor"] = {"name": name, "loss": figures.floor, "accuracy": figures.baseline_accuracy}
            found.append(curve)
    return found


def _held_out(run: Watched) -> list[Data]:
    """Return the newest held-out figures of each objective, and of each source in it, in the order of tasks."""
    last = run.observed.last_evaluations()
    order = [(task, objective) for task, objectives in run.plan.objectives.items() for objective in objectives]
    keys = ("task", "objective", "source", "step", "loss", "accuracy", "unigram_entropy", "baseline_loss", "baseline_accuracy")
    told = [found for pair in order if pair in last for found in by_source(last[pair])]
    return [{key: found.get(key) for key in keys} for found in told]


def _probes(run: Watched) -> list[Data]:
    """Return of each probe its accuracy and the share of the most frequent class, over steps."""
    told: dict[str, list[Data]] = {}
    for (_, name), event in run.observed.probes.items():
        told.setdefault(name, []).append(event)
    return [
        {"probe": name, "steps": [event["step"] for event in events]}
        | {key: numbers(event[key] for event in events) for key in ("accuracy", "baseline_accuracy")}
        for name, events in told.items()
    ]


def _rate(run: Watched) -> Data:
    steps = run.observed.steps
    seconds = steps.column("seconds")
    speed = np.where(seconds > 0, steps.column("tokens") / np.where(seconds > 0, seconds, 1.0), np.nan)
    return _curve(np.array(steps.numbers), speed)


def _column(run: Watched, name: str, smooth: bool = False) -> Data:
    return _curve(np.array(run.observed.steps.numbers), run.observed.steps.column(name), smooth)


def _phases(run: Watched) -> Data:
    """Return the seconds of a step by phase, means over parts of the run; what no phase tells is `compute`, or the rest."""
    steps = run.observed.steps
    told = [name for name in PHASES if name in steps.phases]
    names = told or ["data"]
    columns = [np.array(steps.phases[name]) for name in told] or [steps.column("data_seconds")]
    if not len(steps):
        return {"steps": [], "names": [], "seconds": []}
    rest = np.maximum(0.0, steps.column("seconds") - np.nan_to_num(np.array(columns)).sum(axis=0))
    table = averaged(np.column_stack([np.array(steps.numbers), *columns, rest]), MOST_PHASES)
    return {
        "steps": numbers(table[:, 0]),
        "names": [*names, "rest" if told else "compute"],
        "seconds": [numbers(column) for column in table[:, 1:].T],
    }


def _ranks(run: Watched) -> Data:
    """Return the seconds a step that ranks computed by themselves."""
    told = [event for event in run.observed.ranks if event.get("busy_seconds")]
    steps, busy = [event["step"] for event in told], [event["busy_seconds"] for event in told]
    if not told:
        return {"steps": [], "names": [], "seconds": [], "slowest": ""}
    world = max(map(len, busy))
    table = np.array([[*row, *[np.nan] * (world - len(row))] for row in busy], dtype=float)
    last = busy[-1]
    slowest = f"rank {int(np.argmax(last))}" if len(last) > 1 else ""
    if world <= MOST_RANKS:
        names, columns = [f"rank {rank}" for rank in range(world)], table.T
    else:
        names, columns = ["least", "median", "greatest"], np.array([f(table, axis=1) for f in (np.nanmin, np.nanmedian, np.nanmax)])
    return {"steps": steps, "names": names, "seconds": [numbers(column) for column in columns], "slowest": slowest}


def _figures(run: Watched, status: Status) -> list[list[str]]:
    """Return what `report.summary` tells but for held-out figures, from what was read already: logs may be of months."""
    steps, checkpoints = run.observed.steps, list_checkpoints(run.folder.checkpoints)
    rows = [["steps", f"{status.step:,} of {run.recipe.length.removesuffix(' steps')}"]]
    if len(steps):
        seconds = float(np.nansum(steps.column("seconds")))
        speed = f"{status.tokens_per_second_average or 0:,.0f} tokens/s, {status.tokens:,} tokens in {seconds:,.0f} s"
        rows += [["training loss", f"{status.loss:.4f} nats at step {steps.numbers[-1]:,}"], ["speed", speed]]
    rows += [["run", str(run.folder.path)], ["event log", str(run.folder.events_path)]]
    newest = max(checkpoints, key=lambda checkpoint: checkpoint.step, default=None)
    return [*rows, *([["last checkpoint", str(newest.path)]] if newest else [])]


def _environment(run: Watched) -> list[list[str]]:
    newest = run.observed.newest
    started = newest.told.get("attempt_started", {}) if newest else {}
    ranks = started.get("ranks") or ()
    gpus = Counter(str(rank["gpu"]) for rank in ranks if rank.get("gpu"))
    status = run.status()
    rows = [
        ("workers", f"{status.workers} of {status.wanted_workers} wanted" if status.workers else ""),
        ("nodes", ", ".join(status.nodes)),
        ("GPUs", ", ".join(f"{count} x {name}" for name, count in gpus.items())),
        ("code of the last attempt", str(started.get("code", ""))),
        ("a repetition gives the same", str(started.get("repeats", ""))),
        ("examples prepared", f"{started['examples']:,}" if isinstance(started.get("examples"), int) else ""),
        *((f"chosen: {event.get('key')}", str(event.get("value"))) for event in run.observed.other if event["event"] == "chosen"),
        *(("code changed", f"{e.get('before')} -> {e.get('after')}") for e in run.observed.other if e["event"] == "code_changed"),
        *(("settings changed", _change(entry)) for entry in run.folder.history()),
        ("forked from", _parent(run)),
        ("recipe digest", run.recipe.digest),
        ("data", _data(run)),
        ("this page was made by", _versions()),
    ]
    return [[name, value] for name, value in dict(rows).items() if value]


def _change(entry: Data) -> str:
    told = ", ".join(f"{key}: {before} -> {after}" for key, before, after in entry.get("changes", []))
    return f"{told} ({entry['because']})" if entry.get("because") else told


def _parent(run: Watched) -> str:
    parent = run.folder.parent()
    return f"{parent.get('run')} at step {parent.get('step')}" if parent else ""


def _data(run: Watched) -> str:
    if not run.folder.data_path.exists():
        return ""
    return ", ".join(sorted(set(read_json(run.folder.data_path).get("datasets", {}))))


def _versions() -> str:
    packages = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("ptm_dist", "torch", "deepspeed", "ray"))
    return f"{packages}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
