"""Weights to start from: `init:` of a recipe names a run, a run@step or a portable folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ptm_dist.errors import ConfigError
from ptm_dist.run import RunFolder
from ptm_dist.store import sha256_file
from ptm_dist.train.committed import list_checkpoints, verify

TOKENIZER: Final = "tokenizer"
"""The folder of the tokenizer in a portable folder, beside recipe.json and one file of state."""


@dataclass(frozen=True)
class Source:
    """Where weights lie, and the tokenizer that they were trained with."""

    directory: Path
    tokenizer: Path


def source_of(init: str) -> Source:
    """Return what `init:` names, its checkpoint verified.

    Raises:
        ConfigError: there are no weights.
        DataIntegrityError: the checkpoint is damaged.

    """
    name, _, step = init.rpartition("@") if init.rpartition("@")[2].isdigit() and "@" in init else (init, "", "")
    run = RunFolder(Path(name))
    found = {info.step: info.path for info in list_checkpoints(run.checkpoints)}
    if found and (int(step) if step else max(found)) in found:
        directory = found[int(step) if step else max(found)]
        verify(directory)
        return Source(directory, run.data().tokenizer)
    if not step and any(run.path.glob("rank-*.safetensors")):
        return Source(run.path, run.path / TOKENIZER)
    have = f" of step {step}; there are: {', '.join(map(str, sorted(found)))}" if found else ""
    raise ConfigError(f"init: {name} holds no weights{have}. Name a run, RUN@STEP, or a folder made by ptm checkpoint convert.")


def require_same_tokenizer(source: Source, tokenizer: Path) -> None:
    """Refuse weights whose tokens mean something else.

    Raises:
        ConfigError: a file of the tokenizers differs.

    """
    theirs, ours = ({path.name: sha256_file(path) for path in folder.iterdir()} for folder in (source.tokenizer, tokenizer))
    if theirs != ours:
        differing = sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name))
        raise ConfigError(
            f"init: the weights in {source.directory} were trained with another tokenizer ({', '.join(differing)} differ). "
            "Train on the same sources with the same tokenizer settings, or leave init out."
        )
