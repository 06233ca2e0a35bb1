"""Every error a user can meet, by cause. The cause decides the exit code; the message says what, where and what to do."""

from __future__ import annotations

from typing import ClassVar, Final

EXIT_CODES: Final[dict[int, str]] = {
    0: "done",
    10: "stopped on request, checkpoint written; the same command goes on",
    11: "stopped on request, no new checkpoint; the same command goes on from the last one",
    20: "the command or the recipe is wrong",
    21: "the run directory is in use by another process",
    22: "the run directory belongs to another recipe or other data",
    30: "data is damaged",
    31: "data cannot be read",
    40: "the run has checkpoints, but none is valid (see ptm checkpoint ls RUN)",
    41: "the disk is full or cannot be written",
    50: "the numbers went wrong: the loss is not finite",
    60: "a worker was lost or hung; the same command goes on from the last checkpoint",
    70: "a defect of ptm_dist",
}

CAUSES: Final[dict[int, str]] = {
    0: "finished",
    10: "stopped",
    11: "stopped",
    20: "config",
    21: "config",
    22: "config",
    30: "data",
    31: "data",
    40: "checkpoint",
    41: "storage",
    50: "numeric",
    60: "lost_worker",
    70: "defect",
}
"""What an exit code is called where nobody told the cause."""

RETRYABLE: Final = frozenset({10, 11, 31, 60})
"""Exit codes after which the same command may succeed without anybody changing anything."""


class PtmError(Exception):
    """An error with a cause that a user can act on."""

    exit_code: ClassVar[int] = 70


class ConfigError(PtmError):
    """A recipe or a command says something impossible; the message starts with the dotted path."""

    exit_code = 20


class RunOwnedError(PtmError):
    """Another process writes to the run directory."""

    exit_code = 21


class ResumeMismatchError(PtmError):
    """A run directory holds a run of another recipe, other data, or other code."""

    exit_code = 22


class DataIntegrityError(PtmError):
    """Bytes are not what the manifest promises."""

    exit_code = 30


class DataUnavailableError(PtmError):
    """A file cannot be found or read, or there is no usable text in it."""

    exit_code = 31


class NoValidCheckpointError(PtmError):
    """There are checkpoints, and each is damaged."""

    exit_code = 40


class StorageError(PtmError):
    """A disk is full, read-only or failing."""

    exit_code = 41


class NumericError(PtmError):
    """Loss or gradient stays infinite or undefined."""

    exit_code = 50


class PeerLostError(PtmError):
    """A worker died or stopped answering."""

    exit_code = 60


class StoppedError(PtmError):
    """The run was asked to stop and did so after writing a checkpoint."""

    exit_code = 10


class StoppedUnsavedError(PtmError):
    """The run was stopped at once, without a new checkpoint."""

    exit_code = 11


class InternalError(PtmError):
    """Something that should not happen."""

    exit_code = 70


def error_of(exit_code: int, message: str) -> PtmError:
    """Return the error whose cause has this exit code."""
    return next((kind for kind in PtmError.__subclasses__() if kind.exit_code == exit_code), InternalError)(message)
