"""make finetune-tour: one task of each kind, a few minutes each on two CPU cores; what is finished is not done again.

The data are public and not part of this repository: PTM_LABELLED names the folder that has them (docs/finetuning.md lists them).

    python -m tests.finetune.tour [ENGLISH_CHECKPOINT]
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.tiny import command

CONFIGS: Final = Path("configs") / "finetune"
RUNS: Final = Path("runs") / "tour"
TOUR: Final = {
    "emotions_en": ("a text", 96),
    "vitaminc": ("a pair of texts", 96),
    "sentiment": ("a value", 96),
    "wnut16": ("tags", 96),
    "squadshift": ("answers", 128),
    "parables": ("a choice", 128),
}
"""Task: its kind, and the length of a row."""
MOST: Final = 2000


def main(words: list[str]) -> int:
    """Fine-tune on each task of the tour; return the exit code of the first that failed."""
    data = labelled()
    checkpoint = words[0] if words else newest_quickstart()
    for task, (kind, length) in TOUR.items():
        print(f"== {task}: {kind}", flush=True)
        overrides = [f"sources.{task}.most={MOST}", f"tasks.{task}.format.length={length}", *moved(task, data)]
        files = [CONFIGS / f"{task}.yaml", CONFIGS / "laptop.yaml"]
        done = subprocess.run(command("finetune", checkpoint, *files, *overrides, "--run", RUNS / task, "--launcher", "local"), check=False)
        if done.returncode:
            return done.returncode
    return 0


def labelled() -> Path:
    """Return the folder of the labelled data."""
    folder = Path(os.environ.get("PTM_LABELLED", "labelled"))
    if not folder.is_dir():
        sys.exit(f"{folder}: there are no labelled data. Name their folder: PTM_LABELLED=... make finetune-tour (docs/finetuning.md)")
    return folder


def newest_quickstart() -> str:
    """Return the run of make quickstart."""
    found = sorted(Path("runs").glob("quickstart-*"))
    if not found:
        sys.exit("there is no run to fine-tune. make quickstart makes one in three minutes.")
    return str(found[-1])


def moved(task: str, data: Path) -> list[str]:
    """Return overrides by which the files of a task lie in a folder."""
    from ptm_dist.recipe_io import read_settings

    (source,) = read_settings([CONFIGS / f"{task}.yaml"])["sources"].values()
    files = {split: source[split] for split in ("train", "validation", "test") if split in source}
    told = {split: ", ".join(str(data / Path(name).relative_to("labelled")) for name in names) for split, names in files.items()}
    return [f"sources.{task}.{split}=[{names}]" for split, names in told.items()]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
