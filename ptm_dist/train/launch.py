"""Starts the ranks of an attempt on this machine from a warm forkserver: for tests, debugging, and machines without Ray."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Sequence
from multiprocessing import forkserver
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from ptm_dist.data.loader import die_with_parent
from ptm_dist.errors import PtmError
from ptm_dist.run import RunFolder
from ptm_dist.train.context import listen, meet_at
from ptm_dist.train.worker import cause_of, work

GRACE_SECONDS = 10.0
"""How long the other ranks get to name their own cause after one has failed, before they are ended."""


def launch(run: RunFolder, attempt: int, workers: int) -> None:
    """Run all ranks of an attempt and wait for them.

    Raises:
        PtmError: the cause of the first rank that failed.

    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ptm_dist.train.warm"])
    with listen() as listener:
        ranks = [context.Process(target=_rank, args=(run.path, attempt, rank, workers, listener)) for rank in range(workers)]
        for rank in ranks:
            rank.start()
    try:
        _watch(ranks)
    finally:
        for rank in ranks:
            rank.kill()
            rank.join()
    if any(rank.exitcode for rank in ranks):
        raise cause_of(run, attempt, [rank.exitcode or 0 for rank in ranks])


def _watch(ranks: Sequence[BaseProcess]) -> None:
    """Wait until all ranks have ended, or one has failed and the others had their time."""
    running = {rank.sentinel: rank for rank in ranks}
    deadline = None
    while running and (deadline is None or time.monotonic() < deadline):
        for ended in wait(list(running), timeout=1.0):
            if running.pop(ended).exitcode and deadline is None:  # type: ignore[call-overload]
                deadline = time.monotonic() + GRACE_SECONDS


def _rank(run: Path, attempt: int, rank: int, workers: int, listener: socket.socket) -> None:
    # A rank is a child of the forkserver, which ends with the driver, unless a rank keeps the pipe open that tells it.
    os.close(forkserver._forkserver._forkserver_alive_fd)  # type: ignore[attr-defined]
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the driver turns it into a request to stop.
    store = meet_at(listener, rank, workers)  # noqa: F841  It serves while it is kept.
    try:
        work(run, attempt, rank)
    except PtmError as error:
        os._exit(error.exit_code)
