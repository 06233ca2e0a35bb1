"""One attempt of a run: put the parts together, resume, train to the end."""

from __future__ import annotations

import importlib.metadata
import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch

from ptm_dist.data.loader import Loader, Reader, Reading, require_rows
from ptm_dist.errors import ConfigError
from ptm_dist.events import EventLog, read_events
from ptm_dist.lease import held, require
from ptm_dist.metrics import Exporter
from ptm_dist.placed import Placed, read_placed
from ptm_dist.prepared import DataFolders
from ptm_dist.recipe import Recipe
from ptm_dist.run import RunFolder
from ptm_dist.schedule import Schedule
from ptm_dist.store import digest
from ptm_dist.targets import Target, write_targets
from ptm_dist.terms import MetricsBinding
from ptm_dist.trackers.sink import Sink
from ptm_dist.train.choices import settle
from ptm_dist.train.clock import Watchdog
from ptm_dist.train.commit import CheckpointStore
from ptm_dist.train.context import WorkerContext
from ptm_dist.train.device import gpu_of, node_name, peak_flops, reachable
from ptm_dist.train.engine import Engine
from ptm_dist.train.evaluation import HeldOut
from ptm_dist.train.loop import Reporter, Trainer
from ptm_dist.train.memory import LaneMemory
from ptm_dist.train.module import PretrainingModel
from ptm_dist.train.probe import Probes

LOCK_WAIT_SECONDS: Final = 60.0
"""How long a new attempt waits for a killed one to disappear."""


def schedule_of(recipe: Recipe, data: DataFolders) -> Schedule:
    """Return the steps of a recipe over its prepared data."""
    means = {}
    for task in recipe.tasks:
        dataset = data.open(task, "train")
        require_rows(dataset, "training")
        means[task] = dataset.tokens / dataset.rows
    return recipe.plan(means)


def stateful_tasks(recipe: Recipe) -> frozenset[str]:
    """Return the tasks whose rows go on from one another."""
    return frozenset(name for name, task in recipe.tasks.items() if task.format.stateful)


def reading_of(recipe: Recipe, data: DataFolders, rank: int, world: int) -> Reading:
    """Return how a rank reads."""
    return Reading(
        directories={f"{task}.{split}": data.datasets[task][split] for task in recipe.tasks for split in ("train", "validation")},
        objectives={name: task.objectives for name, task in recipe.tasks.items()},
        vocabulary=data.vocabulary,
        seed=recipe.seed,
        lanes=recipe.batch.lanes,
        micro=recipe.batch.micro_rows,
        stateful=stateful_tasks(recipe),
        rank=rank,
        world=world,
    )


def require_even(recipe: Recipe, world: int) -> None:
    """Make sure that the lanes can be dealt evenly to so many workers.

    Raises:
        ConfigError: they cannot.

    """
    if recipe.batch.lanes % world:
        raise ConfigError(
            f"engine.workers {world}: batch.lanes {recipe.batch.lanes} cannot be dealt to them evenly, so workers would wait for "
            f"each other. Take a divisor: {', '.join(str(n) for n in range(1, recipe.batch.lanes + 1) if recipe.batch.lanes % n == 0)}."
        )


def build(recipe: Recipe, run: RunFolder, context: WorkerContext, report: Reporter, lease: int) -> Trainer:
    """Put model, engine, loader and store together.

    Raises:
        ConfigError: the lanes cannot be dealt evenly to so many workers.

    """
    data = run.data()
    require_even(recipe, context.world)
    torch.set_num_threads(recipe.engine.threads)
    schedule = schedule_of(recipe, data)
    reading = reading_of(recipe, data, context.rank, context.world)
    recipe, chosen = settle(recipe, run, context, schedule, Reader(reading))
    for key, value in chosen.items():
        report("chosen", key=key, value=value)
    torch.manual_seed(recipe.seed)
    engine = Engine(PretrainingModel(recipe, data.vocabulary), recipe, context)
    loader = Loader(replace(reading, micro=recipe.batch.micro_rows), schedule, recipe.data.loader_processes, recipe.data.prefetch_steps)
    store = CheckpointStore(run.checkpoints, context, recipe.checkpoint.keep_last, lambda: require(run.lease_path, lease))
    memory = LaneMemory(context, reading.stateful, recipe.batch.lanes, recipe.batch.micro_rows)
    held_out = HeldOut(recipe, context, engine, loader.reader, memory)
    probes = Probes(recipe, context, engine, data)
    watchdog = Watchdog(run.stacks_path(context.attempt, context.rank), recipe.engine.timeout_seconds)
    return Trainer(recipe, run, context, schedule, loader, engine, store, report, held_out, probes, memory, watchdog)


def attempt(run: RunFolder, context: WorkerContext) -> None:
    """Train a run from where it stands to its end: the body of every worker.

    Raises:
        PtmError: what stopped it, by cause.

    """
    recipe, placed = run.recipe(), read_placed(run, context.attempt)
    with ExitStack() as resources:
        lease = placed.lease if placed else 0
        if context.rank == 0:
            resources.enter_context(run.owned("writer", LOCK_WAIT_SECONDS))
            if placed is None:
                lease = resources.enter_context(held(run.path)).number
        report = _reporter(run, recipe, context)
        if report.trackers:
            resources.callback(report.trackers.close)
        address, ranks = _present(run, recipe, context, report, placed)  # Nobody goes on before rank 0 is the only writer.
        trainer = build(recipe, run, context, report, lease)
        resources.callback(trainer.engine.close)
        resources.callback(trainer.watchdog.close)
        for number in (signal.SIGTERM, signal.SIGUSR1):
            _on_signal(number, trainer.stop_signals.append)
        start, total = trainer.resume(), trainer.schedule.total_steps
        about = _about(recipe, run, trainer, placed)
        report("attempt_started", step=start, total_steps=total, metrics=address, ranks=ranks, **about)
        if run.trial_path.exists():
            trainer.try_out(int(run.trial_path.read_text()))
            return
        trainer.train(start, total)
        report("attempt_finished", step=total)


def _reporter(run: RunFolder, recipe: Recipe, context: WorkerContext) -> Reporter:
    """Return who hears of events: rank 0 has the log, and each node has one endpoint for the metrics of its ranks."""
    if context.rank == 0:
        log = EventLog(run.events_path, context.attempt)
        trackers = Sink(recipe.metrics.trackers, run, lambda line: log.write("tracker_failed", reason=line))
        return Reporter(context.attempt, log, Exporter(run.path.name, context.attempt), trackers)
    exporter = Exporter(run.path.name, context.attempt, "node", node=node_name()) if context.local_rank == 0 else None
    return Reporter(context.attempt, None, exporter)


def _present(
    run: RunFolder, recipe: Recipe, context: WorkerContext, report: Reporter, placed: Placed | None
) -> tuple[str, list[dict[str, Any]]]:
    """Serve metrics, gather what every rank is, and tell Prometheus where to look; return the URL of rank 0, and the ranks."""
    bound, address = (placed and placed.metrics) or MetricsBinding(**recipe.metrics.model_dump(include={"host", "port"})), ""
    if report.exporter:
        address = report.exporter.serve(bound.host, bound.port)
    mine = {"rank": context.rank, "node": node_name(), "pid": os.getpid(), "gpu": gpu_of(context.device), "metrics": reachable(address)}
    ranks = context.gather(mine)
    if context.rank == 0:
        served = [Target(rank["metrics"], rank["node"], "worker") for rank in ranks]
        write_targets(run, context.attempt, [*served, *([Target(placed.driver_metrics, placed.host, "driver")] if placed else [])])
    return address, ranks


def _about(recipe: Recipe, run: RunFolder, trainer: Trainer, placed: Placed | None) -> dict[str, Any]:
    """Return what an attempt is, beside where it starts."""
    code, before, context = code_version(), last_code(run), trainer.context
    if before and before != code:
        trainer.report("code_changed", before=before, after=code)
    waited = time.time() - placed.placed_at - trainer.restore_seconds if placed else 0.0
    return {
        "world": context.world,
        "examples": sum(data.open(task, "train").rows for data in [run.data()] for task in recipe.tasks),
        "code": code,
        "repeats": promise(recipe, context),
        "start_seconds": round(max(0.0, waited), 3),  # Clocks of two machines may differ.
        "restore_seconds": trainer.restore_seconds,
        "flops_per_token": placed.flops_per_token if placed else 0.0,
        "peak_flops": peak_flops(context.device, recipe.engine.precision) * context.world,
    }


def promise(recipe: Recipe, context: WorkerContext) -> str:
    """Return what another attempt of the same recipe, world size and kind of machine will repeat."""
    return "rows and masks" if context.device.type == "cuda" and recipe.engine.determinism == "fast" else "bits"


def code_version() -> str:
    """Return the version of the package, with the start of a hash of its sources."""
    package = Path(__file__).parent.parent
    sources = {str(path.relative_to(package)): path.read_text(encoding="utf8") for path in package.rglob("*.py")}
    return f"{importlib.metadata.version('ptm_dist')}+{digest(sources)[:8]}"


def last_code(run: RunFolder) -> str | None:
    """Return the code that the last attempt ran."""
    started = list(read_events(run.events_path, "attempt_started"))
    return started[-1].get("code") if started else None


def _on_signal(number: int, action: Callable[[int], None]) -> None:
    # Ray runs the training function in a thread, where Python allows no handlers; the STOP file works there too.
    with suppress(ValueError):
        signal.signal(number, lambda received, _: action(received))
