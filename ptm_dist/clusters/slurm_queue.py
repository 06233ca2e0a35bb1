"""What Slurm and the run directory say of a submission, which may be several jobs, one after the other."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ptm_dist.clusters.base import Job, JobState, Phase, phase_of
from ptm_dist.clusters.commands import answer
from ptm_dist.clusters.slurm_script import log_of
from ptm_dist.errors import ConfigError
from ptm_dist.recipe import Recipe

_NAMES: Final[dict[Phase, str]] = {
    "pending": "PENDING CONFIGURING REQUEUED REQUEUE_HOLD REQUEUE_FED SPECIAL_EXIT SUSPENDED RESV_DEL_HOLD",
    "running": "RUNNING COMPLETING STAGE_OUT SIGNALING STOPPED RESIZING",
    "finished": "COMPLETED",
    "stopped": "CANCELLED",
    "failed": "FAILED TIMEOUT NODE_FAIL OUT_OF_MEMORY PREEMPTED BOOT_FAIL DEADLINE REVOKED",
}
PHASES: Final[dict[str, Phase]] = {name: phase for phase, names in _NAMES.items() for name in names.split()}
"""What Slurm's job states mean."""
GOES_ON: Final[tuple[Phase, ...]] = ("running", "pending")
POLL_SECONDS: Final = 1.0
NEVER_STARTED: Final = "before it started"


@dataclass(frozen=True)
class Chain:
    """The jobs of a submission, oldest first, and the folder that its batch script keeps; None if it cannot be seen from here."""

    numbers: tuple[str, ...]
    folder: Path | None = None

    @property
    def job(self) -> Job:
        """The submission, without its recipe."""
        assert self.folder is not None
        return Job(Recipe.model_construct(), str(self.folder.parents[1]), int(self.folder.name.rpartition("-")[2]))

    def state(self, job_id: str) -> JobState:
        """Return where the submission stands: the job that runs or waits, else the last; where Slurm has forgotten all, its exit code.

        Raises:
            ConfigError: nobody knows.

        """
        known = [state for number in self.numbers if (state := asked(number, job_id)) is not None]
        for phase in GOES_ON:
            for state in known:
                if state.phase == phase:
                    return state
        # A follower that was cancelled because nothing was left to do says nothing about the job before it.
        ended, code = [state for state in known if state.message != NEVER_STARTED] or known, self._exit_code()
        if ended and (code is None or ended[-1].phase == "stopped"):
            return ended[-1]
        if code is None:
            raise ConfigError(f"job {job_id}: Slurm does not know it any more, and it left no exit code in {self.folder or 'a run here'}.")
        return JobState(job_id, phase_of(code), ended[-1].native if ended else "gone", exit_code=code)

    def told(self) -> JobState:
        """Return where the submission stands, unknown where nobody knows."""
        try:
            return self.state(self.numbers[0])
        except ConfigError as error:
            return JobState(self.numbers[0], "unknown", "gone", str(error))

    def lines(self, goes_on: Callable[[], bool]) -> Iterator[str]:
        """Yield the lines of the log; at its end, wait for more while it goes on."""
        log = log_of(self.job)
        while not log.exists() and goes_on():
            time.sleep(POLL_SECONDS)
        if not log.exists():
            return
        with log.open(encoding="utf8", errors="replace") as file:
            rest, last = "", False
            while True:
                rest += file.read()
                *whole, rest = rest.split("\n")
                yield from whole
                if last:
                    break
                last = not goes_on()  # What was printed between the last look and the end is read once more.
                if not last:
                    time.sleep(POLL_SECONDS)
        if rest:
            yield rest

    def _exit_code(self) -> int | None:
        path = self.folder / "exit_code" if self.folder else None
        text = path.read_text().strip() if path and path.exists() else ""
        return int(text) if text.isdigit() else None


def chains(runs: Path) -> list[Chain]:
    """Return the submissions of all runs in a folder, newest first."""
    folders = [path.parent for path in runs.absolute().glob("*/logs/submission-*/jobs")]
    found = [Chain(_numbers(folder), folder) for folder in folders]
    return sorted((chain for chain in found if chain.numbers), key=lambda chain: -int(chain.numbers[0]))


def chain_of(runs: Path, job_id: str) -> Chain:
    """Return the submission that has a name or a job number.

    Raises:
        ConfigError: no run in the folder has a submission of this name.

    """
    found = next((chain for chain in chains(runs) if job_id in (*chain.numbers, chain.job.id)), None) or _recorded(job_id)
    if found is None and not job_id.isdigit():
        raise ConfigError(f"{job_id}: no run in {runs} has such a submission. ptm job ls lists them; a job number of Slurm is taken too.")
    return found or Chain((job_id,))


def _recorded(job_id: str) -> Chain | None:
    """Return a submission whose run lies elsewhere, as the records of submissions from here have it."""
    from ptm_dist.clusters.jobs import records

    for record in records():
        if job_id in (record.id, record.native):
            folder = Path(record.run) / "logs" / f"submission-{record.id.rpartition('-a')[2]}"
            return Chain(_numbers(folder) or (record.native,), folder)
    return None


def _numbers(folder: Path) -> tuple[str, ...]:
    path = folder / "jobs"
    return tuple(dict.fromkeys(path.read_text().split())) if path.exists() else ()


def asked(number: str, job_id: str = "") -> JobState | None:
    """Return what Slurm says of a job; None if it has forgotten it, as it does some minutes after the end."""
    fine, told = answer(["scontrol", "--oneliner", "show", "job", number])
    fields = dict(re.findall(r"(?:^| )(JobState|Reason|ExitCode|RunTime)=(\S+)", told)) if fine else {}
    if "JobState" not in fields:
        return None
    native, reason = fields["JobState"], fields.get("Reason", "None")
    if native == "CANCELLED" and fields.get("RunTime") == "00:00:00":
        reason = NEVER_STARTED
    code = int(fields.get("ExitCode", "0:0").partition(":")[0]) if native in ("FAILED", "COMPLETED") else None
    return JobState(
        job_id or number, phase_of(code) if code else PHASES.get(native, "unknown"), native, "" if reason == "None" else reason, code
    )
