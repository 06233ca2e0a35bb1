"""Task functions for the tests of stages: Ray's workers import them by name."""

from __future__ import annotations

import os
import signal
import time

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


def wait_long(directory, pid_path):
    pid_path.write_text(str(os.getpid()))
    time.sleep(300)
    return Output([], {})


def refuse_after(directory, path):
    while not path.exists():
        time.sleep(0.05)
    raise DataIntegrityError("the other one works. Stop it.")


def die(directory):
    os.kill(os.getpid(), signal.SIGKILL)
