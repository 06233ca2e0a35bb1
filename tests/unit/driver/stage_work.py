"""Task functions for the tests of stages: Ray's workers import them by name."""

from __future__ import annotations

import os
import signal

from ptm_dist.driver.stages import Output
from ptm_dist.errors import DataIntegrityError
from ptm_dist.store import write_atomic


def square(directory, number):
    write_atomic(directory / f"{number}.txt", str(number * number).encode())
    with (directory.parent / "calls.log").open("a") as log:
        log.write(f"{number}\n")
    return Output([f"{number}.txt"], {"square": number * number})


def refuse(directory, what):
    raise DataIntegrityError(f"{what}: damaged. Copy it again.")


def defect(directory):
    return Output([], {"a": 1 // 0})


def fill_disk(directory):
    write_atomic(directory / "large.bin", b"x" * 1_000_000)
    return Output(["large.bin"], {})


def die(directory):
    os.kill(os.getpid(), signal.SIGKILL)
