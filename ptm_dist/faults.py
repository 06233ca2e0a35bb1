"""Named places where a test may kill, stop, slow down or fail a worker. Without a plan they cost one function call.

The plan is the environment variable PTM_FAULTS, a JSON list of `Fault`s; it needs PTM_TESTING=1 beside it. PTM_FAULTS_LOG names a
file that gets one JSON line for each fault before it happens: the proof that it did, and what keeps a restarted worker from meeting
it again.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ptm_dist.errors import ConfigError

PLAN: Final = "PTM_FAULTS"
FLAG: Final = "PTM_TESTING"
LOG: Final = "PTM_FAULTS_LOG"


class Fault(BaseModel):
    """One planned fault; a rank or step left out means any."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    point: str
    action: Literal["kill", "stop", "delay", "raise_enospc"]
    rank: int | None = None
    step: int | None = None
    count: int = Field(default=1, ge=1)
    """How often it happens: over all processes with a log, otherwise in each process."""

    def meets(self, point: str, rank: int, step: int | None) -> bool:
        """Return whether this is the place."""
        return self.point == point and self.rank in (None, rank) and self.step in (None, step)


def read_plan(environment: Mapping[str, str]) -> tuple[Fault, ...]:
    """Return the faults planned in `environment`, none outside tests.

    Raises:
        ConfigError: the plan cannot be read, or this is not a test.

    """
    text = environment.get(PLAN)
    if not text:
        return ()
    if environment.get(FLAG) != "1":
        raise ConfigError(f"{PLAN}: faults are planned, but {FLAG}=1 is not set. Unset {PLAN}; it is for tests only.")
    try:
        return tuple(TypeAdapter(list[Fault]).validate_json(text))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise ConfigError(f"{PLAN}: {problems}. Give a JSON list of faults, each with at least point and action.") from error


def reached(point: str, step: int | None = None) -> None:
    """Say that this worker is at `point` (of `step`); what the plan holds for it happens here.

    Raises:
        OSError: the plan asks for a full disk.
        ConfigError: there is a plan outside a test.

    """
    for number, fault in enumerate(_plan()):
        if fault.meets(point, _rank(), step) and _times(number) < fault.count:
            _record(number, point, step)
            ACTIONS[fault.action]()


@cache
def _plan() -> tuple[Fault, ...]:
    return read_plan(os.environ)


_happened: Counter[int] = Counter()


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def _times(number: int) -> int:
    log = Path(os.environ.get(LOG, ""))
    if not log.is_file():
        return _happened[number]
    return sum(json.loads(line)["fault"] == number for line in log.read_text().splitlines())


def _record(number: int, point: str, step: int | None) -> None:
    _happened[number] += 1
    if log := os.environ.get(LOG):
        with open(log, "a", encoding="utf8") as file:
            file.write(json.dumps({"fault": number, "point": point, "rank": _rank(), "step": step}) + "\n")


def _signal_self(number: int) -> None:
    os.kill(os.getpid(), number)


def _fill_disk() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


DELAY_SECONDS: Final = 0.05

ACTIONS: Final[dict[str, Callable[[], None]]] = {
    "kill": lambda: _signal_self(signal.SIGKILL),
    "stop": lambda: _signal_self(signal.SIGSTOP),
    "delay": lambda: time.sleep(DELAY_SECONDS),
    "raise_enospc": _fill_disk,
}
