"""Weights & Biases: files in the run directory, or its server where the settings say so."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from ptm_dist.trackers.base import KINDS, Tracker, TrackerSettings, imported, note, noted, settings_of

if TYPE_CHECKING:
    from ptm_dist.run import RunFolder

CLOSED: Final = "closed"
"""A file in the folder of an attempt that has ended in order."""


class WandB(TrackerSettings):
    """One run of Weights & Biases over all attempts. Its key comes from `wandb login` or WANDB_API_KEY, never from a recipe."""

    kind: Literal["wandb"] = "wandb"
    project: str = "ptm_dist"
    entity: str | None = None
    mode: Literal["offline", "online"] = "offline"
    """offline writes files to RUN/wandb, which `wandb sync` uploads; online asks the network."""

    def open(self, run: RunFolder) -> Tracker:
        """Return a tracker; the package is asked to send neither code nor terminal output."""
        return _Run(run, self, imported("wandb", self.kind))


class _Run(Tracker):
    """Steps of Weights & Biases only ever grow, so what was told first stays.

    Offline it loses what it holds in memory when a process is killed, which may be all of an attempt. So the folder of such an attempt is
    set aside, and the next one tells its figures anew from the event log.
    """

    kind: ClassVar[str] = "wandb"

    def __init__(self, run: RunFolder, settings: WandB, wandb: Any) -> None:
        super().__init__(run, settings.every_steps)
        self._settings, self._library, self._run, self._done = settings, wandb, None, -1
        self._place = f"wandb {settings.entity or ''}/{settings.project}"

    def begin(self, attempt: int, start: int) -> None:
        known = noted(self.run, self._place)
        if not known:
            known = {"id": secrets.token_hex(8), "done": -1}
            note(self.run, self._place, **known)
        offline = self._settings.mode == "offline"
        if offline:
            self._set_aside(known["id"])
        self._run: Any = self._library.init(
            project=self._settings.project,
            entity=self._settings.entity,
            mode=self._settings.mode,
            id=known["id"],
            resume=None if offline else "allow",
            name=self.run.path.name,
            dir=str(self.run.path),
            config=settings_of(self.run),
            allow_val_change=True,
            save_code=False,
            settings={"console": "off", "silent": True, "disable_git": True, "disable_code": True},
        )
        # Online its server knows how far it has come.
        self._done = known["done"] if offline else self._run.step - 1
        self.reached = dict.fromkeys(KINDS, self._done)
        self.tell_again(attempt, self._done, start)

    def _set_aside(self, identity: str) -> None:
        folder = self.run.path / "wandb"
        for left in folder.glob(f"offline-run-*-{identity}"):
            if not (left / CLOSED).exists():
                left.rename(folder / f"lost-{left.name}")

    def write(self, done: int, values: Mapping[str, float], time: float) -> None:
        self._done = max(done, self._done)
        self._run.log(dict(values), step=done)

    def close(self) -> None:
        if self._run:
            self._run.finish(exit_code=0 if self.succeeded else 1)
            (Path(self._run.dir).parent / CLOSED).touch()
            note(self.run, self._place, done=self._done)
