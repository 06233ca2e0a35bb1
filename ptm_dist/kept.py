"""Runs a driver and keeps what it prints, how it ended and which process it is, in the run directory; `python -m ptm_dist.kept`.

Whoever wants the driver to stop sends the signal to the driver itself: Ray sends it to every process of a job, so that passing it on
would make one request two, and the second stops at once.
"""

from __future__ import annotations

import os
import platform
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from ptm_dist.errors import EXIT_CODES, PtmError
from ptm_dist.store import read_json, write_json

LOOK_SECONDS: Final = 0.5
END_SECONDS: Final = 10.0
_ENDED: Final = re.compile(r"^driver ended with exit code (\d+)\b", re.M)


def kept_path(run: str | Path, job_id: str, suffix: str = "log") -> Path:
    """Return where a submission keeps what its driver prints (log), which process it is and how it ended (json), in its run directory."""
    return Path(run) / "logs" / f"driver-{job_id}.{suffix}"


def kept_words(python: str, run: str, job_id: str, words: Sequence[str]) -> list[str]:
    """Return the words that run `words` and keep what they print."""
    return [python, "-m", "ptm_dist.kept", str(kept_path(run, job_id)), *words]


def exit_code_in(text: str) -> int | None:
    """Return the exit code that a driver's log tells in its last lines; None if it tells none."""
    found = _ENDED.findall(text[-2000:])
    return int(found[-1]) if found else None


def meaning_of(exit_code: int) -> str:
    """Return what an exit code of a driver says, also one that ptm does not give."""
    strange = f"killed by signal {exit_code - 128}" if exit_code > 128 else "something else than ptm ended it; its log tells more"
    return EXIT_CODES.get(exit_code, strange)


def started_at(pid: int) -> str | None:
    """Return what tells this process from every other one that had or will have its number; None if there is no such process."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    if not boot.exists():
        import psutil

        with suppress(psutil.Error):
            return f"{psutil.Process(pid).create_time():.0f}"
        return None
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    # A process that has ended and waits for its parent to ask has the state Z.
    return None if fields[0] in "ZX" else f"{boot.read_text().strip()}:{fields[19]}"


def is_running(process: dict[str, Any]) -> bool:
    """Is a process that was noted with `note_of` still running?"""
    return started_at(process["pid"]) == process["started"]


def note_of(pid: int) -> dict[str, Any]:
    """Return what is noted of a process, so that it is known again."""
    return {"pid": pid, "started": started_at(pid)}


def end_now(process: dict[str, Any]) -> None:
    """Ask a driver twice to stop, which ends it without saving; one that does not answer is killed."""
    for number, seconds in ((signal.SIGINT, 1.0), (signal.SIGINT, END_SECONDS), (signal.SIGKILL, END_SECONDS)):
        if not is_running(process):
            return
        with suppress(ProcessLookupError):
            os.kill(process["pid"], number)
        _wait(process, seconds)


def _wait(process: dict[str, Any], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while is_running(process) and time.monotonic() < deadline:
        time.sleep(0.05)


def keep(log: Path, words: Sequence[str]) -> int:
    """Run `words`, print and keep what they print, and return their exit code; 11 where a signal that asks to stop ended them."""
    file = _opened(log)
    # A handler of Python's becomes the default again in the driver; a signal that is ignored would stay ignored there.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    driver = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    note = {"host": platform.node(), "driver": note_of(driver.pid), "keeper": note_of(os.getpid()), "exit_code": None}
    _noted(log, note)
    _pump(driver, log.with_suffix(".now"), [1, *([file] if file is not None else [])])
    code = driver.wait()
    code = 11 if code in (-signal.SIGINT, -signal.SIGTERM) else 128 - code if code < 0 else code
    _write([1, *([file] if file is not None else [])], f"driver ended with exit code {code} ({meaning_of(code)})\n".encode())
    _noted(log, note | {"exit_code": code})
    return code


def _opened(log: Path) -> int | None:
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        return os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        sys.stderr.write(f"{log}: what the driver prints is not kept there ({error.strerror})\n")
        return None


def _noted(log: Path, note: dict[str, Any]) -> None:
    # A disk that is full must not cost the exit code.
    with suppress(PtmError, OSError):
        write_json(log.with_suffix(".json"), note)


def _pump(driver: subprocess.Popen[bytes], now: Path, sinks: Sequence[int]) -> None:
    """Copy what the driver prints until it has ended; end it at once when somebody makes the file `now`."""
    assert driver.stdout is not None
    source, asked, process = driver.stdout.fileno(), False, note_of(driver.pid)
    with selectors.DefaultSelector() as selector:
        selector.register(source, selectors.EVENT_READ)
        while True:
            ready = selector.select(LOOK_SECONDS)
            data = os.read(source, 1 << 16) if ready else b""
            _write(sinks, data)
            # A process that the driver has left behind may hold the pipe open.
            if not data and (ready or driver.poll() is not None):
                return
            if not asked and now.exists():
                asked = True
                end_now(process)


def _write(sinks: Sequence[int], data: bytes) -> None:
    for sink in sinks:
        with suppress(OSError):
            left = data
            while left:
                left = left[os.write(sink, left) :]


def kept_note(run: str | Path, job_id: str) -> dict[str, Any] | None:
    """Return what is noted of a submission's driver in its run directory: host, driver, keeper, exit_code; None if nothing is."""
    path = kept_path(run, job_id, "json")
    return read_json(path) if path.exists() else None


if __name__ == "__main__":
    if sys.argv[1] == "--now":
        Path(sys.argv[2]).touch()
        sys.exit(0)
    sys.exit(keep(Path(sys.argv[1]), sys.argv[2:]))
