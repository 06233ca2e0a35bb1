"""TensorBoard event files in the run directory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ptm_dist.trackers.base import Tracker, TrackerSettings, imported

if TYPE_CHECKING:
    from ptm_dist.run import RunFolder


class TensorBoard(TrackerSettings):
    """Event files in RUN/tensorboard, one an attempt: tensorboard --logdir runs."""

    kind: Literal["tensorboard"] = "tensorboard"

    def open(self, run: RunFolder) -> Tracker:
        """Return a tracker. Not over tensorboardX, which Ray Train brings: its flush leaves behind what waits in its queue."""
        imported("tensorboard", self.kind)
        return _Files(run, self.every_steps)


class _Files(Tracker):
    """A new file for each attempt, which tells readers to forget what the one before it did in vain."""

    kind: ClassVar[str] = "tensorboard"
    _writer: Any = None

    def begin(self, attempt: int, start: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(self.run.path / "tensorboard"), purge_step=start + 1, filename_suffix=f".attempt-{attempt}")

    def write(self, done: int, values: Mapping[str, float], time: float) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, done, walltime=time)

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        if self._writer:
            self._writer.close()
