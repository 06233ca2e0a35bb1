"""Places the workers of an attempt, follows what they report, and turns signals into requests."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from ptm_dist.driver.cluster import start_ray
from ptm_dist.events import read_events
from ptm_dist.run import RunFolder
from ptm_dist.train.launch import launch as launch_local
from ptm_dist.train.worker import cause_of, work

EventHandler = Callable[[dict[str, Any]], None]


def train(run: RunFolder, launcher: str, on_event: EventHandler) -> None:
    """Start an attempt of a claimed run and wait for it; `on_event` sees every event of the attempt as it happens.

    Raises:
        PtmError: why the attempt ended before the last step.

    """
    if launcher == "ray":
        start_ray(run.recipe())  # In the main thread, and before the handlers below: Ray sets its own.
    run.stop_path.unlink(missing_ok=True)
    attempt = run.next_attempt()
    failures: list[BaseException] = []
    start = run.events_path.stat().st_size if run.events_path.exists() else 0
    thread = threading.Thread(target=_guarded, args=(LAUNCHERS[launcher], run, attempt, failures), daemon=True)
    previous = {number: signal.signal(number, _request_stop(run)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        thread.start()
        follower = _Follower(run.events_path, start, on_event)
        while thread.is_alive():
            thread.join(0.2)
            follower.read()
        follower.read()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if failures:
        raise failures[0]


def _guarded(launcher: Callable[[RunFolder, int], None], run: RunFolder, attempt: int, failures: list[BaseException]) -> None:
    try:
        launcher(run, attempt)
    except BaseException as error:
        failures.append(error)


def _request_stop(run: RunFolder) -> Callable[[int, Any], None]:
    asked = 0

    def handle(number: int, _: Any) -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            run.stop_path.touch()
            print("\nfinishing the step and saving; once more stops at once, without saving", file=sys.stderr, flush=True)
            return
        last = max((event["step"] for event in read_events(run.events_path, "checkpoint_saved")), default=0)
        print(f"\nexit 11: stopped at once; the same command goes on from step {last:,}", file=sys.stderr, flush=True)
        # Workers and a local Ray end with this process: the kernel sees to it.
        os._exit(11)

    return handle


class _Follower:
    """Reads what was appended to an event log since the last look."""

    def __init__(self, path: Path, offset: int, on_event: EventHandler) -> None:
        self._path, self._offset, self._on_event = path, offset, on_event

    def read(self) -> None:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        complete = data[: data.rfind(b"\n") + 1]
        self._offset += len(complete)
        for event in _parse(complete):
            self._on_event(event)


def _parse(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.splitlines() if line.startswith(b"{") and line.endswith(b"}")]


def _launch_here(run: RunFolder, attempt: int) -> None:
    launch_local(run, attempt, run.recipe().engine.workers)


def _launch_with_ray(run: RunFolder, attempt: int) -> None:
    """Let Ray Train place the workers. It never restarts them: the run directory, not Ray, knows where to go on."""
    import torch
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    engine = run.recipe().engine
    trainer = TorchTrainer(
        _ray_worker,
        train_loop_config={"run": str(run.path.resolve()), "attempt": attempt},
        scaling_config=ScalingConfig(
            num_workers=engine.workers, use_gpu=torch.cuda.is_available(), resources_per_worker={"CPU": engine.threads}
        ),
        run_config=RunConfig(
            name=f"attempt-{attempt}", storage_path=str(run.path.resolve() / "ray"), failure_config=FailureConfig(max_failures=0)
        ),
        torch_config=TorchConfig(timeout_s=engine.timeout_seconds),
    )
    try:
        trainer.fit()
    except Exception as error:
        raise cause_of(run, attempt) from error


def _ray_worker(config: dict[str, Any]) -> None:
    work(Path(config["run"]), config["attempt"], int(os.environ["RANK"]))


LAUNCHERS: Final[dict[str, Callable[[RunFolder, int], None]]] = {"ray": _launch_with_ray, "local": _launch_here}
