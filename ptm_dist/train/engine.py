"""DeepSpeed, and the only module that imports it."""

from __future__ import annotations

import io
import logging
import os
import warnings
from contextlib import redirect_stdout
from typing import Any

import torch
import torch.distributed as dist

if not torch.cuda.is_available():
    # DeepSpeed looks for an accelerator when it is imported; on a CPU it must be told.
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

import deepspeed
from deepspeed.utils import logger as deepspeed_logger

from ptm_dist.data.batch import MicroBatch
from ptm_dist.objectives.base import LossSum
from ptm_dist.optimizers.base import parameter_groups
from ptm_dist.recipe import Recipe
from ptm_dist.rng import derive_seed
from ptm_dist.train.context import WorkerContext
from ptm_dist.train.fragments import Layout
from ptm_dist.train.module import PretrainingModel

deepspeed_logger.setLevel(logging.ERROR)
# DeepSpeed 0.19 calls collectives by names that torch 2.13 renames; one line a call would bury everything else.
warnings.filterwarnings("ignore", message=r"`torch\.distributed\..*is deprecated", category=FutureWarning)
# The shared-memory collective of the CPU backend is compiled at start-up: tens of seconds, and a compiler, for nothing.
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # type: ignore[attr-defined]


class Engine:
    """A model on its way through steps: forward and backward of micro-batches, one update, and access to its state."""

    def __init__(self, model: PretrainingModel, recipe: Recipe, context: WorkerContext) -> None:
        self.recipe, self.context, self._model = recipe, context, model
        settings = recipe.optimizer
        self.optimizer = settings.build(parameter_groups(model, settings))
        with redirect_stdout(io.StringIO()):  # It prints its memory use a dozen times.
            self._deepspeed = deepspeed.initialize(model=model, optimizer=self.optimizer, config=_config(recipe))[0]
        self._norm = torch.tensor(float("nan"))
        self._deepspeed.clip_fp32_gradients = self._clip
        self.layout = Layout(self._deepspeed, context.rank, context.world)
        for flat in self.layout.flats:
            self.optimizer.init_state(flat)
        self.layout.zero_padding(self.optimizer.state)
        self.optimizer.link(self.layout.segments(), dist.all_reduce if self.layout.sharded and context.world > 1 else None)

    def train(self, task: str, batch: MicroBatch, weights: dict[str, float], key: tuple[int, int]) -> dict[str, LossSum]:
        """Forward and backward one micro-batch, number key[1] of step key[0]; `weights` multiply the sums of the losses."""
        # Dropout is drawn from a seed of its own each time, so that no generator state has to be stored.
        torch.manual_seed(derive_seed(self.recipe.seed, "dropout", *key, self.context.rank))
        total, losses = self._deepspeed(task, *self._move(batch), weights)
        self._deepspeed.backward(total)
        return {name: LossSum(loss.sum.detach(), loss.targets, loss.correct) for name, loss in losses.items()}

    @torch.no_grad()
    def evaluate(self, task: str, batch: MicroBatch, weights: dict[str, float]) -> dict[str, LossSum]:
        """Forward one micro-batch without dropout or gradients."""
        self._deepspeed.eval()
        try:
            return self._deepspeed(task, *self._move(batch), weights)[1]
        finally:
            self._deepspeed.train()

    def step(self, learning_rate: float, active: set[str]) -> float:
        """Apply the gradient to the parts of the model in `active` and return the norm it had before clipping."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate * group["lr_share"]
            group["active"] = group["part"] in active
        self._deepspeed.step()
        norm = self._deepspeed.get_global_grad_norm()
        return float(self._norm if norm is None else norm)

    def _clip(self) -> None:
        # In place of DeepSpeed's own clipping at stage 0, which does the same and forgets the norm.
        self._norm = torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._deepspeed.gradient_clipping())

    def close(self) -> None:
        """Release what DeepSpeed holds."""
        self._deepspeed.destroy()

    def _move(self, batch: MicroBatch) -> tuple[Any, ...]:
        device = self.context.device
        inputs = {name: torch.from_numpy(values).to(device) for name, values in batch.inputs.items()}
        targets = {
            name: (torch.from_numpy(found.positions).to(device), torch.from_numpy(found.labels).to(device))
            for name, found in batch.targets.items()
        }
        return inputs, torch.from_numpy(batch.lengths).to(device), targets


def _config(recipe: Recipe) -> dict[str, Any]:
    config: dict[str, Any] = {
        # The loop accumulates by itself, because the number of micro-batches may differ from step to step.
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        # Without clipping DeepSpeed computes no norm at stage 0; a bound that nothing reaches makes it.
        "gradient_clipping": recipe.optimizer.clip_norm or 1e30,
        "zero_optimization": {"stage": recipe.engine.zero_stage, "round_robin_gradients": False},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 1 << 62,
    }
    if recipe.engine.precision == "bf16":
        config |= {"bf16": {"enabled": True}, "data_types": {"grad_accum_dtype": "fp32"}}
    return config
