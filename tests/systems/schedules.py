"""make study-schedules: the three schedules that ERNIE 2.0 compares, at equal steps on real text, with three seeds each.

Runs lie under runs/schedules, those of the first seed under runs/systems; what is finished is not done again.
"""

from __future__ import annotations

import statistics
import subprocess
from pathlib import Path
from typing import Final

from ptm_dist.run import RunFolder
from tests.systems import whole
from tests.systems.ride import LAPTOP, SYSTEMS, TEXTS
from tests.systems.whole import measured
from tests.tiny import command

RUNS: Final = Path("runs") / "schedules"
SCHEDULES: Final = {"continual": "ernie2_continual", "multi_task": "ernie2_multi_task", "continual_multi_task": "ernie2"}
SEEDS: Final = (1, 2, 3)


def main() -> None:
    """Run what is missing, seed by seed, and print a table of every task's held-out figures."""
    for seed in SEEDS:
        for kind, name in SCHEDULES.items():
            system = SYSTEMS[name]
            files = system.files(LAPTOP, TEXTS[system.language])
            subprocess.run(command("train", *files, f"seed={seed}", "--run", folder(kind, seed)), check=True)
    print("\n".join(table()))


def folder(kind: str, seed: int) -> Path:
    """Return where a run is; `make systems` has those of the first seed."""
    return whole.RUNS / SCHEDULES[kind] if seed == SEEDS[0] else RUNS / f"{kind}-{seed}"


def table() -> list[str]:
    """Return the lines of the table: mean and standard deviation over seeds of loss, and of accuracy."""
    found = {kind: [measured(RunFolder(folder(kind, seed))) for seed in SEEDS] for kind in SCHEDULES}
    lines = [f"| task | objective | without context | {' | '.join(SCHEDULES)} |", "|---|---|---:|" + "---:|" * len(SCHEDULES)]
    for task, objective in found["continual"][0]:
        ends = {kind: [run[task, objective][1] for run in runs] for kind, runs in found.items()}
        guess = statistics.mean(end["unigram_entropy"] or end["baseline_loss"] for end in ends["continual"])
        cells = [
            f"{_spread([end['loss'] for end in of_kind])}, {statistics.mean(end['accuracy'] for end in of_kind):.1%}"
            for of_kind in ends.values()
        ]
        lines.append(f"| {task} | {objective} | {guess:.3f} | {' | '.join(cells)} |")
    return lines


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


if __name__ == "__main__":
    main()
