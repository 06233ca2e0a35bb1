"""Weights and optimizer state on disk: safetensors of parameter fragments, found again by name at any world size and ZeRO stage."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ptm_dist.errors import DataIntegrityError, ResumeMismatchError

if TYPE_CHECKING:  # Reading a checkpoint must not cost the import of DeepSpeed.
    from ptm_dist.train.engine import Engine

VERSION: Final = 1
WEIGHT: Final = "weight"
HEADS: Final = "heads."


def write_state(engine: Engine, directory: Path) -> list[Path]:
    """Write this rank's fragments into `directory` and return the files."""
    tensors, steps = {}, {}
    for fragment in engine.layout.owned:
        state = engine.optimizer.state[fragment.flat]
        steps[fragment.name] = float(state["step"])
        for key, tensor in ((WEIGHT, fragment.flat), *((key, state[key]) for key in engine.optimizer.moments)):
            tensors[f"{fragment.name}@{fragment.start}|{key}"] = fragment.of(tensor).cpu().contiguous().clone()
    path = directory / f"rank-{engine.context.rank:05d}.safetensors"
    about = {"version": VERSION, "world": engine.context.world, "shapes": engine.layout.shapes, "steps": steps}
    _save(tensors, path, {key: json.dumps(value) for key, value in about.items()})
    return [path]


def consolidate(source: Path, directory: Path, weights_only: bool) -> Path:
    """Write the state of any number of workers as one file, which any number reads; without moments it serves `init:` only."""
    files = StateFiles(source)
    kinds = [WEIGHT] if weights_only else files.kinds
    tensors = {f"{name}@0|{kind}": files.whole(name, kind).flatten() for name in files.shapes for kind in kinds}
    about = {"version": VERSION, "world": 1, "shapes": files.shapes, "steps": files.steps}
    path = directory / f"rank-{0:05d}.safetensors"
    _save(tensors, path, {key: json.dumps(value) for key, value in about.items()})
    return path


def write_weights(weights: Mapping[str, Tensor], directory: Path) -> None:
    """Write parameters that come from elsewhere as one file of state without moments."""
    tensors = {f"{name}@0|{WEIGHT}": weight.float().flatten().contiguous().clone() for name, weight in weights.items()}
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    about = {"version": VERSION, "world": 1, "shapes": shapes, "steps": dict.fromkeys(shapes, 0.0)}
    _save(tensors, directory / f"rank-{0:05d}.safetensors", {key: json.dumps(value) for key, value in about.items()})


def _save(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    try:
        save_file(tensors, path, metadata)
    except SafetensorError as error:
        # The library hides the number of the system's error in its text; the commit protocol wants to know a full disk.
        number = re.search(r"os error (\d+)", str(error))
        raise OSError(int(number[1]) if number else errno.EIO, str(error), str(path)) from error
    path.chmod(0o644)  # The library makes files that only their owner can read.


@dataclass(frozen=True)
class _Piece:
    start: int
    file: Any
    key: str


class StateFiles:
    """The fragments of a checkpoint, whoever wrote them.

    Raises:
        DataIntegrityError: files are missing, unreadable or of another version.

    """

    def __init__(self, directory: Path) -> None:
        paths = sorted(directory.glob("rank-*.safetensors"))
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.steps: dict[str, float] = {}
        self._pieces: dict[tuple[str, str], list[_Piece]] = {}
        for path in paths:
            self._open(path, len(paths))
        if not paths:
            raise DataIntegrityError(f"{directory}: there is no rank-*.safetensors.")

    def _open(self, path: Path, files: int) -> None:
        try:
            file = safe_open(path, "pt")
            about = {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
        except (OSError, SafetensorError, ValueError) as error:
            raise DataIntegrityError(f"{path}: cannot be read ({error}).") from error
        if about.get("version") != VERSION or about.get("world") != files:
            raise DataIntegrityError(
                f"{path}: version {about.get('version')} of {about.get('world')} workers, expected {VERSION} of {files}."
            )
        self.shapes |= {name: tuple(shape) for name, shape in about["shapes"].items()}
        self.steps |= about["steps"]
        for key in file.keys():  # noqa: SIM118 - not a dict
            place, _, kind = key.rpartition("|")
            name, _, start = place.rpartition("@")
            self._pieces.setdefault((name, kind), []).append(_Piece(int(start), file, key))

    def fill(self, target: Tensor, name: str, kind: str, start: int = 0) -> None:
        """Copy elements start.. of parameter `name` into the flat tensor `target`.

        Raises:
            DataIntegrityError: the files do not hold all of them exactly once.

        """
        end, copied = start + target.numel(), 0
        for piece in self._pieces.get((name, kind), []):
            values = piece.file.get_slice(piece.key)
            first, last = max(start, piece.start), min(end, piece.start + values.get_shape()[0])
            if first < last:
                target[first - start : last - start].copy_(values[first - piece.start : last - piece.start])
                copied += last - first
        if copied != target.numel():
            raise DataIntegrityError(f"checkpoint: {kind} of {name} has {copied} of the {target.numel()} elements from {start}.")

    @property
    def kinds(self) -> list[str]:
        """What is stored of every parameter: the weight, and the moments unless they were left out."""
        return sorted({kind for _, kind in self._pieces})

    def whole(self, name: str, kind: str = WEIGHT) -> Tensor:
        """Return a parameter, or a moment of it, fp32 in its own shape."""
        values = torch.empty(prod(self.shapes[name]))
        self.fill(values, name, kind)
        return values.view(self.shapes[name])

    def weights(self) -> dict[str, Tensor]:
        """Return every parameter by name."""
        return {name: self.whole(name) for name in self.shapes}


@torch.no_grad()
def read_state(engine: Engine, directory: Path) -> list[str]:
    """Load weights, moments and step counts into an engine of any world size and stage, bit for bit.

    Heads that the checkpoint does not know stay fresh; their parameters are returned.

    Raises:
        ResumeMismatchError: parameters are missing, or have another shape.
        DataIntegrityError: the files do not cover a parameter exactly.

    """
    files = StateFiles(directory)
    fresh = {name for name in engine.layout.shapes.keys() - files.shapes.keys() if name.startswith(HEADS)}
    _require_same(files.shapes, {name: shape for name, shape in engine.layout.shapes.items() if name not in fresh})
    _load_steps(engine, files)
    for fragment in engine.layout.fragments:
        if fragment.name in fresh:
            continue
        state = engine.optimizer.state[fragment.flat]
        files.fill(fragment.of(fragment.flat), fragment.name, WEIGHT, fragment.start)
        for key in engine.optimizer.moments:
            files.fill(fragment.of(state[key]), fragment.name, key, fragment.start)
    engine.layout.refresh()
    return sorted(fresh)


@torch.no_grad()
def read_weights(engine: Engine, directory: Path) -> list[str]:
    """Load the weights that fit by name and shape, leave the rest fresh and return its names (`init:` of a recipe)."""
    files = StateFiles(directory)
    fits = {name for name, shape in engine.layout.shapes.items() if files.shapes.get(name) == shape}
    for fragment in engine.layout.fragments:
        if fragment.name in fits:
            files.fill(fragment.of(fragment.flat), fragment.name, WEIGHT, fragment.start)
    engine.layout.refresh()
    return sorted(engine.layout.shapes.keys() - fits)


def _load_steps(engine: Engine, files: StateFiles) -> None:
    # A rank that holds only padding of a flat tensor counts its steps all the same, so go by group, not by fragment.
    for flat, group in zip(engine.layout.flats, engine.layout.names, strict=True):
        found = {files.steps[name] for name in group if name in files.steps}
        if len(found) > 1:
            raise DataIntegrityError(f"checkpoint: parameters of one group were updated {sorted(found)} times.")
        engine.optimizer.state[flat]["step"].fill_(found.pop() if found else 0.0)


def _require_same(saved: dict[str, tuple[int, ...]], here: dict[str, tuple[int, ...]]) -> None:
    wrong = [
        *(f"{name} is missing" for name in sorted(here.keys() - saved.keys())),
        *(f"{name} is not in this model" for name in sorted(saved.keys() - here.keys())),
        *(f"{name} is {saved[name]}, here {here[name]}" for name in sorted(saved.keys() & here.keys()) if saved[name] != here[name]),
    ]
    if wrong:
        raise ResumeMismatchError(f"the checkpoint is of another model: {'; '.join(wrong[:5])}.")
