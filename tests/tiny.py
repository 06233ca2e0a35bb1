"""A run that is real in every part and small enough for tests: own text, 2 layers of width 32, 40 steps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

from ptm_dist.events import steps_of
from ptm_dist.recipe import Recipe
from ptm_dist.run import RunFolder

TEXT = Path(__file__).parent / "golden" / "text.jsonl"
STEPS = 40

PLAIN = {
    "name": "tiny",
    "seed": 7,
    "sources": {"own": {"kind": "text", "paths": [str(TEXT)]}},
    "corpus": {"split": {"validation": 0.2}},
    "tokenizer": {"kind": "byte_bpe", "vocab_size": 384},
    "model": {"kind": "roberta", "layers": 2, "hidden": 32, "heads": 2, "intermediate": 64, "positions": 32},
    "tasks": {"mlm": {"format": {"kind": "full_sentences", "length": 32}, "objectives": [{"kind": "masked_lm"}]}},
    "stages": [{"name": "main", "steps": {"mlm": STEPS}}],
    "batch": {"rows": 16, "micro": 4, "lanes": 8},
    "optimizer": {"kind": "adamw", "learning_rate": 3e-3, "schedule": {"kind": "linear", "warmup_steps": 5}},
    "engine": {"workers": 2, "zero_stage": 1, "timeout_seconds": 30},
    "checkpoint": {"every_steps": 8, "keep_last": 2},
    "evaluate": {"every_steps": 20, "rows": 32},
}


def merged(base: dict, changes: dict) -> dict:
    """Return `base` with `changes` merged in, mapping by mapping."""
    both = base.keys() & changes.keys()
    deep = {key: merged(base[key], changes[key]) for key in both if isinstance(base[key], dict) and isinstance(changes[key], dict)}
    return base | changes | deep


def tiny_recipe(**changes) -> Recipe:
    """Return the tiny recipe with changes, section by section."""
    return Recipe.model_validate_json(json.dumps(merged(PLAIN, changes)))


def has_fp16() -> bool:
    """Does this machine multiply fp16 matrices?"""
    return torch.cuda.is_available() or torch.ops.mkldnn._is_mkldnn_fp16_supported()


def ledger(run: Path) -> list[tuple[int, float]]:
    """Return (step, loss) of a run in order, the last word on each step."""
    return sorted((step, event["loss"]) for step, event in steps_of(RunFolder(run).events_path).items())


def command(*words: str | Path) -> list[str]:
    """Return the words that run ptm in this environment."""
    return [sys.executable, "-m", "ptm_dist", *map(str, words)]


def ptm(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ptm and return what it printed and its exit code."""
    return subprocess.run(
        command(*words), capture_output=True, text=True, timeout=240, check=False, env=os.environ | environment, cwd=Path(__file__).parent
    )
