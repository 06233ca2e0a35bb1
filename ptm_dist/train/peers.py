"""How the ranks of an attempt agree: what fails on one fails on all, with the same cause, and nobody waits for the dead. No torch."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from ptm_dist.errors import InternalError, PtmError, StorageError, error_of

T = TypeVar("T")

_RUST_OS_ERROR = re.compile(r"\(os error \d+\)")  # safetensors reports a full disk in an exception of its own, in these words.


class Peers(Protocol):
    """How the ranks of an attempt talk to each other."""

    @property
    def rank(self) -> int:
        """The number of this rank, from 0."""
        ...

    @property
    def world(self) -> int:
        """The number of ranks."""
        ...

    def gather(self, value: T) -> list[T]:
        """Give every rank the small JSON-like values of all ranks, in rank order."""
        ...


@dataclass(frozen=True)
class Alone:
    """The only rank."""

    rank: int = 0
    world: int = 1

    def gather(self, value: T) -> list[T]:
        """Return [value]."""
        return [value]


def from_first(peers: Peers, work: Callable[[], T]) -> T:
    """Do `work` on rank 0 and return its result on all ranks.

    Raises: as `together`.

    """
    results: list[Any] = together(peers, lambda: work() if peers.rank == 0 else None)
    return results[0]


def together(peers: Peers, work: Callable[[], T]) -> list[T]:
    """Do `work` on every rank and return all results (small, JSON-like) on all ranks, in rank order.

    Raises:
        PtmError: it failed somewhere; the same cause on all ranks, the message names each rank that failed.

    """
    result, error = None, None
    try:
        result = work()
    except Exception as caught:
        error = caught
    answers: list[Any] = peers.gather([result, _cause(error)])
    causes = {rank: cause for rank, (_, cause) in enumerate(answers) if cause}
    if not causes:
        return [result for result, _ in answers]
    # A failed disk can be outlived, so any other cause counts more.
    code = next((code for code, _ in causes.values() if code != StorageError.exit_code), StorageError.exit_code)
    raise error_of(code, "; ".join(f"worker {rank}: {text}" for rank, (_, text) in causes.items())) from error


def _cause(error: Exception | None) -> list[Any] | None:
    """Return exit code and text of an error: what ranks tell each other of it."""
    if error is None:
        return None
    if isinstance(error, PtmError):
        return [error.exit_code, str(error)]
    of_disk = isinstance(error, OSError) or _RUST_OS_ERROR.search(str(error))
    return [(StorageError if of_disk else InternalError).exit_code, f"{type(error).__name__}: {error}"]
