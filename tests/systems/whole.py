"""make systems: every system at laptop scale on real text, killed on the way and resumed, and one table of what came out.

Each is a run under runs/systems; what is finished is not done again, so that the command goes on where it stopped.

    python -m tests.systems.whole [NAME...]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from ptm_dist.events import read_events, steps_of
from ptm_dist.run import RunFolder
from ptm_dist.train.module import parameter_counts
from tests.systems.ride import LAPTOP, SYSTEMS, TEXTS
from tests.tiny import command

RUNS: Final = Path("runs") / "systems"
KILLED_AT: Final = 1100
BELOW: Final = 0.2
"""Nats that a language objective must end below the entropy of single tokens."""
LEAST_TARGETS: Final = 3000
"""The entropy of fewer is that of a sample: 2,411 of Chinese discourse pairs have 6.46 nats, 6.69 by the shares of the training text."""
KILL: Final = [{"point": "step.begin", "rank": 1, "step": KILLED_AT, "action": "kill", "count": 1}]
SYSTEMS_HEADER: Final = (
    "| system | parameters | language: start, end (entropy of tokens) | classifiers: accuracy (labels alone) | tokens/s | seconds |\n"
    "|---|---:|---|---|---:|---:|"
)
TASKS_HEADER: Final = (
    "| system | task | objective | start | end | without context | accuracy | labels alone |\n|---|---|---|---:|---:|---:|---:|---:|"
)


def main(names: list[str]) -> int:
    """Run what is missing, print the table, and return 1 if a language objective has learned too little."""
    for name in names or list(SYSTEMS):
        if not (RUNS / name / "seconds.json").exists():
            ride(name)
    done = [name for name in SYSTEMS if (RUNS / name / "seconds.json").exists()]
    table = "\n".join([SYSTEMS_HEADER, *(line_of(name) for name in done)])
    tasks = "\n".join([TASKS_HEADER, *(line for name in done for line in task_lines(name))])
    print(f"{table}\n\n{tasks}")
    late = [line for name in done for line in too_little(name)]
    print("\n".join(late), file=sys.stderr)
    return bool(late)


def ride(name: str) -> None:
    """Run a system from text to an export; a rank is killed on the way, and the same command goes on."""
    system, run = SYSTEMS[name], RUNS / name
    words = command("run", *system.files(LAPTOP, TEXTS[system.language]), "--run", run)
    started_at = time.monotonic()
    print(f"== {name}: {' '.join(words[2:])}", flush=True)
    faults = {} if RunFolder(run).next_attempt_number > 1 else {"PTM_TESTING": "1", "PTM_FAULTS": json.dumps(KILL)}
    first = subprocess.run(words, env=os.environ | faults, check=False)
    if first.returncode:
        subprocess.run(words, check=True)
    (run / "seconds.json").write_text(json.dumps(round(time.monotonic() - started_at)), encoding="ascii")


def line_of(name: str) -> str:
    """Return the line of a system; of language objectives that of the task trained first."""
    run = RunFolder(RUNS / name)
    recipe, steps = run.recipe(), steps_of(run.events_path).values()
    speed = sum(step["tokens"] for step in steps) / sum(step["seconds"] for step in steps)
    size, seconds = sum(parameter_counts(recipe).values()), json.loads((run.path / "seconds.json").read_text(encoding="ascii"))
    found = sorted(measured(run).items(), key=lambda item: recipe.task_numbers[item[0][0]])
    language = (
        f"{start['loss']:.2f}, {end['loss']:.2f} ({end['unigram_entropy']:.2f})" for _, (start, end) in found if end["unigram_entropy"]
    )
    classifiers = (
        f"{task} {end['accuracy']:.1%} ({end['baseline_accuracy']:.1%})" for (task, _), (_, end) in found if end["baseline_accuracy"]
    )
    return f"| {name} | {size / 1e6:.2f} M | {next(language)} | {', '.join(classifiers)} | {speed:,.0f} | {seconds} |"


def task_lines(name: str) -> Iterator[str]:
    """Yield a line for each objective of each task of a system."""
    for (task, kind), (start, end) in measured(RunFolder(RUNS / name)).items():
        labels = "" if end["baseline_accuracy"] is None else f"{end['baseline_accuracy']:.1%}"
        guess = end["unigram_entropy"] or end["baseline_loss"]
        yield (f"| {name} | {task} | {kind} | {start['loss']:.3f} | {end['loss']:.3f} | {guess:.3f} | {end['accuracy']:.1%} | {labels} |")


def measured(run: RunFolder) -> dict[tuple[str, str], tuple[dict[str, Any], dict[str, Any]]]:
    """Return the first and the last measurement of each task and objective."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for event in read_events(run.events_path, "evaluated"):
        found.setdefault((event["task"], event["objective"]), []).append(event)
    return {key: (events[0], events[-1]) for key, events in found.items()}


def too_little(name: str) -> Iterator[str]:
    """Yield what a language objective lacks."""
    for (task, kind), (_, end) in measured(RunFolder(RUNS / name)).items():
        if end["unigram_entropy"] and end["targets"] >= LEAST_TARGETS and end["loss"] > end["unigram_entropy"] - BELOW:
            yield f"{name}: {task} {kind} ends at {end['loss']:.3f} nats, not {BELOW} below {end['unigram_entropy']:.3f}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
