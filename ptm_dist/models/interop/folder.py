"""A Hugging Face folder on disk: config.json, model.safetensors, tokenizer files, README.md."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ptm_dist.errors import ConfigError, DataIntegrityError, DataUnavailableError, StorageError
from ptm_dist.store import explain_disk_errors, fsync_directory, read_json, write_atomic, write_json

Config = dict[str, Any]
Tensors = dict[str, Tensor]

MARK: Final = ".ptm_dist_export.json"
"""Lists the files of an export: a folder with this and no other file may be replaced."""

CONFIG: Final = "config.json"
PICKLE: Final = "pytorch_model.bin"
"""What transformers wrote before safetensors."""

NOT_FOR_EXPORT: Final = frozenset({"vocabulary.json", "added_words.json"})
"""What ptm_dist itself keeps beside the tokenizer files."""


def require_tensors(tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Check that `tensors` are exactly those of `shapes`.

    Raises:
        ConfigError: some are missing, extra or misshapen; the message names each.

    """
    wrong = [
        *(f"{name} is missing" for name in shapes if name not in tensors),
        *(f"{name} is unknown" for name in tensors if name not in shapes),
        *(
            f"{name} is {list(tensors[name].shape)}, expected {list(shape)}"
            for name, shape in shapes.items()
            if name in tensors and tensors[name].shape != shape
        ),
    ]
    if wrong:
        raise ConfigError(f"{where} do not fit the model: {'; '.join(wrong)}. Check that they belong to this configuration.")


def write_folder(
    directory: Path, config: Config, tensors: Tensors, tokenizer_folder: Path, card: str, instead: Mapping[str, bytes] | None = None
) -> None:
    """Write a folder that transformers opens; a crash leaves what was there before, or nothing, never half a folder.

    `instead` are files by name that it gets in place of those of the tokenizer.

    Raises:
        ConfigError: `directory` holds anything but an earlier export.
        DataUnavailableError: there are no tokenizer files.
        StorageError: the disk is full or cannot be written.

    """
    directory = directory.resolve()
    _require_replaceable(directory)
    temporary = directory.with_name(f".{directory.name}.{os.getpid()}.tmp")
    with explain_disk_errors(directory):
        shutil.rmtree(temporary, ignore_errors=True)  # in a container the next process has the id of the killed one
        temporary.mkdir(parents=True)
        try:
            write_json(temporary / CONFIG, config)
            _write_tensors(temporary / "model.safetensors", tensors)
            files = {path.name: path.read_bytes() for path in _tokenizer_files(tokenizer_folder)} | dict(instead or {})
            _write_files(temporary, files | {"README.md": card.encode()})
            _put_in_place(temporary, directory)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def read_folder(directory: Path) -> tuple[Config, Tensors]:
    """Return config.json and all tensors of a folder, from one file or several.

    Raises:
        DataUnavailableError: config.json or the safetensors are missing.
        DataIntegrityError: a file of tensors is damaged.

    """
    paths = sorted(directory.glob("model*.safetensors"))
    if not paths and (directory / PICKLE).exists():
        return read_json(directory / CONFIG), _read_pickle(directory / PICKLE)
    if not paths:
        raise DataUnavailableError(f"{directory}: there is no model.safetensors. Save the model again with a recent transformers.")
    tensors: Tensors = {}
    for path in paths:
        try:
            tensors |= load_file(path)
        except SafetensorError as error:
            raise DataIntegrityError(f"{path}: cannot be read ({error}). Copy it again from where it came.") from error
    return read_json(directory / CONFIG), tensors


def _read_pickle(path: Path) -> Tensors:
    """Read tensors, and nothing that could run code."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise ConfigError(
            f"{path}: refused, it holds more than tensors, or is damaged ({str(error).splitlines()[0]}). "
            "A pickle may run code when it is opened; ask for safetensors."
        ) from error
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise ConfigError(f"{path}: refused, it is no table of tensors. Ask for safetensors.")
    return found


def _require_replaceable(directory: Path) -> None:
    if not directory.exists():
        return
    if not directory.is_dir():
        raise ConfigError(f"{directory} is a file; choose another directory.")
    found = {path.name for path in directory.iterdir()}
    ours = {MARK, *read_json(directory / MARK)["files"]} if MARK in found else set()
    if foreign := sorted(found - ours):
        raise ConfigError(f"{directory} holds files that no export wrote ({', '.join(foreign[:5])}); choose another directory.")


def _write_files(directory: Path, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        write_atomic(directory / name, data)
    write_json(directory / MARK, {"files": sorted(path.name for path in directory.iterdir())})


def _tokenizer_files(folder: Path) -> list[Path]:
    found = sorted(path for pattern in ("*.json", "*.txt") for path in folder.glob(pattern) if path.name not in NOT_FOR_EXPORT)
    if not found:
        raise DataUnavailableError(f"{folder}: there are no tokenizer files. Prepare the data again with ptm data prepare.")
    return found


def _write_tensors(path: Path, tensors: Tensors) -> None:
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path, metadata={"format": "pt"})
    except SafetensorError as error:
        raise StorageError(f"cannot write {path}: {error}. Free some space or choose another directory.") from error
    # safetensors makes files that only their owner can read, and leaves them to the page cache.
    shutil.copymode(path.with_name("config.json"), path)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _put_in_place(temporary: Path, directory: Path) -> None:
    # A folder cannot be renamed over a full one, so the earlier export steps aside first.
    old = directory.with_name(f".{directory.name}.old")
    if directory.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.rename(directory, old)
    os.rename(temporary, directory)
    fsync_directory(directory.parent)
    shutil.rmtree(old, ignore_errors=True)
