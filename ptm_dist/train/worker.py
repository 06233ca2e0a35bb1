"""From a started process to the training loop: logs, process group, and errors named by cause."""

from __future__ import annotations

import os
import re
import sys
import threading
import traceback
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ptm_dist.errors import EXIT_CODES, InternalError, PeerLostError, PtmError, StorageError, error_of
from ptm_dist.run import RunFolder
from ptm_dist.store import read_json, write_json
from ptm_dist.train.attempt import attempt
from ptm_dist.train.context import COLLECTIVES, join, leave

_PEER_TROUBLE = re.compile(
    r"closed by peer|reset by peer|timed out|timeout|broken pipe|connection refused|already in use|gloo|nccl", re.IGNORECASE
)


GO_ON = "The same command goes on from the last checkpoint."


def work(path: Path, number: int, rank: int) -> None:
    """Be rank `rank` of attempt `number` of the run at `path`; the environment holds the rest (`join`).

    Raises:
        PtmError: what stopped it, by cause; a copy lies beside the log of the rank for whoever started it.

    """
    run = RunFolder(path)
    tee(run.rank_log(number, rank))
    try:
        try:
            attempt(run, join(number, COLLECTIVES * run.recipe().engine.timeout_seconds))
        except PtmError:
            raise
        except Exception as error:
            traceback.print_exc()
            raise _by_cause(error, rank) from error
        leave()
    except PtmError as error:
        print(f"exit {error.exit_code}: {error}", file=sys.stderr, flush=True)
        with suppress(StorageError):  # Where the disk is full, the exit code has to do.
            write_json(_error_path(run, number, rank), {"exit_code": error.exit_code, "message": str(error)})
        raise


def _by_cause(error: Exception, rank: int) -> PtmError:
    text = str(error).strip().partition("\n")[0]
    if isinstance(error, RuntimeError) and _PEER_TROUBLE.search(str(error)):
        return PeerLostError(f"worker {rank} lost a peer ({text}). {GO_ON}")
    return InternalError(f"worker {rank}: {type(error).__name__}: {text}")


def _error_path(run: RunFolder, number: int, rank: int) -> Path:
    return run.logs(number) / f"rank-{rank}.error.json"


def cause_of(run: RunFolder, number: int, exit_codes: Iterable[int] = (), silence: str = "") -> PtmError:
    """Return why attempt `number` ended: the cause of the rank that failed first, not that of those that lost it as a peer.

    `exit_codes` of the ranks tell where none could leave a message; `silence` is what their launcher says then.
    """
    found = [read_json(path) for path in sorted(run.logs(number).glob("rank-*.error.json"))]
    first = min(found, key=lambda error: error["exit_code"] == PeerLostError.exit_code, default=None)
    told = [code for code in exit_codes if code in EXIT_CODES and code not in {0, PeerLostError.exit_code}]
    if stacks := run.stacks(number):
        names = ", ".join(path.name for path in stacks)
        return PeerLostError(
            f"no progress for too long, so the workers were ended; where each stood: {run.logs(number)} ({names}). {GO_ON}"
        )
    if first is None and told:
        return error_of(told[0], f"{run.path}: {EXIT_CODES[told[0]]} (see {run.logs(number)}).")
    if first is None:
        return PeerLostError(f"a worker was killed{silence and f': {silence}'} (see {run.logs(number)}). {GO_ON}")
    return error_of(first["exit_code"], first["message"])


def tee(path: Path) -> None:
    """Copy everything this process prints, C++ libraries included, to `path` as well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    terminal = os.dup(1)
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    for descriptor in (1, 2):
        os.dup2(writing, descriptor)
    os.close(writing)
    threading.Thread(target=_copy, args=(reading, (log, terminal)), name="tee", daemon=True).start()


def _copy(reading: int, targets: tuple[int, ...]) -> None:
    while data := os.read(reading, 1 << 16):
        for target in targets:
            try:
                os.write(target, data)
            except OSError:
                continue  # A full disk or a closed terminal must not stop training.
