"""What a model remembers of the rows before, by lane: carried from step to step, and saved so that any number of workers goes on with it.

Only tasks whose rows go on from one another (ELMo, XLNet) have any. Lane n is row n of every batch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ptm_dist.errors import DataIntegrityError
from ptm_dist.models.base import Memory
from ptm_dist.train.context import WorkerContext

FILES: Final = "memory-*.safetensors"


@dataclass
class LaneMemory:
    """The memory of this rank's lanes, for each micro-batch of each task; `lanes` are those of all ranks, `micro` rows go at once."""

    context: WorkerContext
    tasks: frozenset[str]
    lanes: int
    micro: int
    _known: dict[tuple[str, int], Memory] = field(default_factory=dict)

    @property
    def _mine(self) -> int:
        return self.lanes // self.context.world

    def fresh(self) -> LaneMemory:
        """Return the same lanes at their beginning."""
        return LaneMemory(self.context, self.tasks, self.lanes, self.micro)

    def before(self, task: str, number: int) -> Memory | None:
        """Return what the rows of a micro-batch remember; None at the beginning."""
        return self._known.get((task, number))

    def after(self, task: str, number: int, memory: Memory) -> None:
        """Keep what they remember now."""
        if task in self.tasks and memory:
            self._known[task, number] = {name: values.detach() for name, values in memory.items()}

    def write(self, directory: Path) -> list[Path]:
        """Write the memory of this rank's lanes, and return the files: none where there is no memory."""
        tensors: dict[str, Tensor] = {}
        for task in sorted({task for task, _ in self._known}):
            parts = [memory for (of, _), memory in sorted(self._known.items()) if of == task]
            for name in parts[0]:
                # The last micro-batch may be filled up with rows that are no lane's.
                lanes = torch.cat([part[name] for part in parts])[: self._mine]
                tensors[f"{task}|{name}"] = lanes.cpu().contiguous()
        if not tensors:
            return []
        path = directory / f"memory-{self.context.rank:05d}.safetensors"
        save_file(tensors, path)
        path.chmod(0o644)
        return [path]

    def read(self, directory: Path) -> None:
        """Take up the memory of this rank's lanes, whoever wrote it.

        Raises:
            DataIntegrityError: the files do not hold every lane once.

        """
        self._known.clear()
        files = [_opened(path) for path in sorted(directory.glob(FILES))]
        first = self.context.rank * self._mine
        for key in sorted(files[0].keys()) if files else []:
            lanes = torch.cat([file.get_tensor(key) for file in files])
            if len(lanes) != self.lanes:
                raise DataIntegrityError(f"{directory}: the memory {key} is of {len(lanes)} lanes, not {self.lanes}.")
            task, _, name = key.partition("|")
            mine = lanes[first : first + self._mine].to(self.context.device)
            for number, rows in enumerate(self._cut(mine)):
                self._known.setdefault((task, number), {})[name] = rows

    def _cut(self, lanes: Tensor) -> list[Tensor]:
        """Cut lanes into micro-batches as the loader cuts rows, the last filled up with rows of zeros."""
        count = -(-self._mine // self.micro)
        width = -(-self._mine // count)
        filler = lanes.new_zeros(count * width - self._mine, *lanes.shape[1:])
        return list(torch.cat([lanes, filler]).split(width))


def _opened(path: Path) -> safe_open:
    try:
        return safe_open(path, "pt")
    except (OSError, SafetensorError) as error:
        raise DataIntegrityError(f"{path}: cannot be read ({error}).") from error
