"""Who starts the workers of an attempt, how many would fit now, and what notice of losing them there is."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeAlias

import torch

from ptm_dist.driver.node_check import NodeReport, check_nodes
from ptm_dist.placed import Placed
from ptm_dist.recipe import Recipe
from ptm_dist.run import RunFolder
from ptm_dist.train.context import COLLECTIVES
from ptm_dist.train.device import node_name
from ptm_dist.train.launch import launch as launch_local
from ptm_dist.train.worker import cause_of, work

START_TIMEOUT: Final = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"
"""How long Ray Train waits for workers to be placed, before the attempt fails and the supervisor looks at what there is."""

Leaving: TypeAlias = Literal["workers", "driver"]
NODE_ID: Final = "ray.io/node-id"
"""The label that Ray gives every node."""


class Launcher(Protocol):
    """Starts workers."""

    def launch(self, run: RunFolder, placed: Placed) -> None:
        """Run an attempt and wait for its end.

        Raises:
            PtmError: the cause of the worker that failed first.

        """
        ...

    def free(self, recipe: Recipe, without: Collection[str] = ()) -> int:
        """Return how many more workers would find a place now, but on nodes that are left out."""
        ...

    def has_gpus(self) -> bool:
        """Return whether workers run on GPUs."""
        ...

    def check(self, seconds: float, recipe: Recipe) -> list[NodeReport]:
        """Return what was found of each node."""
        ...

    def nodes(self) -> list[str]:
        """Return the names of the machines that there are."""
        ...

    def leaving(self, run: RunFolder, attempt: int) -> Leaving | None:
        """Return who loses a node soon: workers of the attempt, or the driver itself."""
        ...


class LocalLauncher:
    """Processes of this machine."""

    def launch(self, run: RunFolder, placed: Placed) -> None:
        """Start ranks from a warm forkserver."""
        launch_local(run, placed.attempt, placed.workers)

    def free(self, recipe: Recipe, without: Collection[str] = ()) -> int:
        """Return all that the recipe wants: processes share cores."""
        return recipe.engine.workers

    def has_gpus(self) -> bool:
        """Return whether this machine has any."""
        return torch.cuda.is_available()

    def check(self, seconds: float, recipe: Recipe) -> list[NodeReport]:
        """Return nothing: there is no other node to compare with."""
        return []

    def nodes(self) -> list[str]:
        """Return this machine."""
        return [node_name()]

    def leaving(self, run: RunFolder, attempt: int) -> Leaving | None:
        """Return None: when this machine goes, the driver gets SIGTERM."""
        return None


class RayLauncher:
    """Workers of Ray Train. It never restarts them: the run directory, not Ray, knows where to go on."""

    def launch(self, run: RunFolder, placed: Placed) -> None:
        """Let Ray Train place the workers."""
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer

        engine = run.recipe().engine
        os.environ.setdefault(START_TIMEOUT, "60")
        trainer = TorchTrainer(
            _ray_worker,
            train_loop_config={"run": str(run.path.resolve()), "attempt": placed.attempt},
            scaling_config=ScalingConfig(
                num_workers=placed.workers,
                use_gpu=self.has_gpus(),
                resources_per_worker={"CPU": engine.threads},
                label_selector={NODE_ID: f"!in({', '.join(placed.left_out)})"} if placed.left_out else None,
            ),
            run_config=RunConfig(
                name=f"attempt-{placed.attempt}",
                storage_path=str(run.path.resolve() / "ray"),
                failure_config=FailureConfig(max_failures=0, max_preemption_failures=0),
            ),
            torch_config=TorchConfig(timeout_s=COLLECTIVES * engine.timeout_seconds),
        )
        try:
            trainer.fit()
        except Exception as error:
            raise cause_of(run, placed.attempt, silence=_last_line(error)) from error

    def free(self, recipe: Recipe, without: Collection[str] = ()) -> int:
        """Return the workers for which nodes that stay have cores, and GPUs if there are any."""
        from ray._private.state import available_resources_per_node

        shut, threads = _draining() | set(without), recipe.engine.threads
        free = [found for node, found in available_resources_per_node().items() if node not in shut]
        if self.has_gpus():
            return sum(int(min(found.get("GPU", 0), found.get("CPU", 0) // threads)) for found in free)
        return sum(int(found.get("CPU", 0) // threads) for found in free)

    def has_gpus(self) -> bool:
        """Return whether the cluster has any."""
        import ray

        return ray.cluster_resources().get("GPU", 0) > 0

    def check(self, seconds: float, recipe: Recipe) -> list[NodeReport]:
        """Let every node multiply and add up."""
        return check_nodes(seconds, recipe.engine.threads)

    def nodes(self) -> list[str]:
        """Return the nodes of the cluster that live."""
        import ray

        return sorted(node["NodeName"] for node in ray.nodes() if node["Alive"])

    def leaving(self, run: RunFolder, attempt: int) -> Leaving | None:
        """Return whose node Ray drains. Ray Train wants its controller on the node of the driver, so without that one nothing goes on."""
        import ray

        drained = _draining()
        if not drained:
            return None
        if ray.get_runtime_context().get_node_id() in drained:
            return "driver"
        nodes = {path.read_text(encoding="ascii").strip() for path in run.logs(attempt).glob("rank-*.node")}
        return "workers" if nodes & drained else None


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]


def fitting(recipe: Recipe, available: int, least: int) -> int:
    """Return the most workers, up to those that are wanted, that find a place and share the lanes evenly; 0 if fewer than `least`."""
    most = min(recipe.engine.workers, available)
    return next((count for count in range(most, least - 1, -1) if count > 0 and recipe.batch.lanes % count == 0), 0)


def _draining() -> set[str]:
    """Return the ids of nodes that have been given notice."""
    from ray._private.state import state

    return set(state.get_draining_nodes())


def _ray_worker(config: dict[str, Any]) -> None:
    import ray

    run, attempt, rank = RunFolder(Path(config["run"])), config["attempt"], int(os.environ["RANK"])
    (run.logs(attempt) / f"rank-{rank}.node").write_text(ray.get_runtime_context().get_node_id() + "\n", encoding="ascii")
    work(run.path, attempt, rank)


LAUNCHERS: Final[dict[str, Launcher]] = {"ray": RayLauncher(), "local": LocalLauncher()}
