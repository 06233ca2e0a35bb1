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
# Without it cuBLAS promises no bits, and torch refuses to multiply under `strict`. It must be there before the first product.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import deepspeed
from deepspeed.accelerator import get_accelerator
from deepspeed.utils import logger as deepspeed_logger

from ptm_dist.data.batch import MicroBatch
from ptm_dist.errors import ConfigError
from ptm_dist.faults import reached
from ptm_dist.models.base import Memory
from ptm_dist.models.heads import LossSum
from ptm_dist.optimizers.base import parameter_groups
from ptm_dist.recipe import Recipe
from ptm_dist.rng import derive_seed
from ptm_dist.train.clock import Clock
from ptm_dist.train.context import WorkerContext
from ptm_dist.train.fragments import Layout
from ptm_dist.train.loss_scale import LossScale
from ptm_dist.train.module import DTYPES, PretrainingModel, to_device

deepspeed_logger.setLevel(logging.ERROR)
# DeepSpeed 0.19 calls collectives by names that torch 2.13 renames; one line a call would bury everything else.
warnings.filterwarnings("ignore", message=r"`torch\.distributed\..*is deprecated", category=FutureWarning)
# The shared-memory collective of the CPU backend is compiled at start-up: tens of seconds, and a compiler, for nothing.
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # type: ignore[attr-defined]


class Engine:
    """A model on its way through steps: forward and backward of micro-batches, one update, and access to its state.

    Raises:
        ConfigError: the machine does not have the precision that the recipe asks for.

    """

    def __init__(self, model: PretrainingModel, recipe: Recipe, context: WorkerContext) -> None:
        self.recipe, self.context, self._model = recipe, context, model
        self.clock = Clock(context.device)
        settings = recipe.optimizer
        self.optimizer = settings.build(parameter_groups(model, settings))
        _require_precision(recipe.engine.precision)
        _set_determinism(recipe.engine.determinism)
        self.loss_scale = LossScale() if recipe.engine.precision == "fp16" else None
        _cast_within(model, recipe, context.device)
        with redirect_stdout(io.StringIO()):  # It prints its memory use a dozen times.
            self._deepspeed: Any = deepspeed.initialize(model=model, optimizer=self.optimizer, config=_config(recipe))[0]
        self._norm, self._overflow = torch.tensor(float("nan")), False
        self._deepspeed.clip_fp32_gradients = self._clip
        # Alone at stage 0 there is nobody to add gradients of: they would be copied twice for nothing.
        self._deepspeed.enable_backward_allreduce = context.world > 1 or recipe.engine.zero_stage > 0
        self.layout = Layout(self._deepspeed, context.rank, context.world)
        for flat in self.layout.flats:
            self.optimizer.init_state(flat)
        self.layout.zero_padding(self.optimizer.state)
        self.optimizer.link(self.layout.segments(), dist.all_reduce if self.layout.sharded and context.world > 1 else None)

    def train(
        self, task: str, batch: MicroBatch, weights: dict[str, float], key: tuple[int, int], memory: Memory | None = None
    ) -> tuple[dict[str, LossSum], Memory]:
        """Forward and backward one micro-batch, number key[1] of step key[0]; `weights` multiply the sums of the losses.

        Returns the losses, and the memory for the rows that follow.
        """
        # Dropout is drawn from a seed of its own each time, so that no generator state has to be stored.
        torch.manual_seed(derive_seed(self.recipe.seed, "dropout", *key, self.context.rank))
        with self.clock.during("forward"):
            reached("step.forward")
            total, losses, after = self._deepspeed(task, *to_device(batch, self.context.device), weights, memory)
        with self.clock.during("backward"):
            self._deepspeed.backward(total * self._own_scale)
        return {name: LossSum(loss.sum.detach(), loss.targets, loss.correct) for name, loss in losses.items()}, after

    @torch.no_grad()
    def evaluate(
        self, task: str, batch: MicroBatch, weights: dict[str, float], memory: Memory | None = None
    ) -> tuple[dict[str, LossSum], Memory]:
        """Forward one micro-batch without dropout or gradients."""
        return self._forward_only(task, batch, weights, memory)[1:]

    @torch.no_grad()
    def read(self, batch: MicroBatch) -> torch.Tensor:
        """Return what heads of labelled tasks look at, [R, L, H] in fp32, without dropout or gradients: see `Backbone.read`."""
        return self._forward_only(None, batch, {}, None)[0].float()

    def _forward_only(self, task: str | None, batch: MicroBatch, weights: dict[str, float], memory: Memory | None) -> Any:
        self._deepspeed.eval()
        try:
            return self._deepspeed(task, *to_device(batch, self.context.device), weights, memory)
        finally:
            self._deepspeed.train()

    def prepare(self) -> None:
        """Get ready for the micro-batches of a step: the loss scale holds for all of them."""
        if self.loss_scale and self.layout.sharded:
            self._deepspeed.optimizer.override_loss_scale(self.loss_scale.value)

    def step(self, learning_rate: float, active: set[str]) -> tuple[float, bool]:
        """Apply the gradient to the parts of the model in `active`.

        Returns its norm before clipping, and whether fp16 held it; if not, nothing was applied.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate * group["lr_share"]
            group["active"] = group["part"] in active
        self._overflow = False
        with self.clock.during("optimizer"):
            self._deepspeed.step()
        norm = self._deepspeed.get_global_grad_norm()
        overflow = self._overflow or bool(getattr(self._deepspeed.optimizer, "overflow", False))
        if self.loss_scale:
            self.loss_scale.update(overflow)
        return (float("nan") if overflow else float(self._norm if norm is None else norm)), not overflow

    def _clip(self) -> None:
        # In place of DeepSpeed's own clipping at stage 0, which does the same, forgets the norm and knows no loss scale.
        if self.loss_scale:
            for parameter in self._model.parameters():
                if parameter.grad is not None:
                    parameter.grad.div_(self.loss_scale.value)
        self._norm = torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._deepspeed.gradient_clipping())
        self._overflow = self.loss_scale is not None and not bool(torch.isfinite(self._norm))
        if self._overflow:
            for group in self.optimizer.param_groups:
                group["active"] = False

    @property
    def _own_scale(self) -> float:
        # Under ZeRO DeepSpeed multiplies and divides by the scale that it was given.
        return self.loss_scale.value if self.loss_scale and not self.layout.sharded else 1.0

    def close(self) -> None:
        """Release what DeepSpeed holds."""
        self._deepspeed.destroy()


def _cast_within(model: PretrainingModel, recipe: Recipe, device: torch.device) -> None:
    """Let stage 0 compute in low precision. It has one set of weights, cast as they are used; ZeRO keeps those of fp32 beside others."""
    dtype = DTYPES[recipe.engine.precision]
    if recipe.engine.zero_stage == 0 and dtype is not torch.float32:
        # Around the model, not around DeepSpeed: where that finds an autocast of a GPU that it has not been told of, it switches it off.
        model.forward = torch.autocast(device.type, dtype)(model.forward)


def _config(recipe: Recipe) -> dict[str, Any]:
    config: dict[str, Any] = {
        # The loop accumulates by itself, because the number of micro-batches may differ from step to step.
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        # Without clipping DeepSpeed computes no norm at stage 0; a bound that nothing reaches makes it.
        "gradient_clipping": recipe.optimizer.clip_norm or 1e30,
        "zero_optimization": {
            "stage": recipe.engine.zero_stage,
            "round_robin_gradients": False,
            # Overlapped reductions come in the order that the network likes. Where gradients are not dealt out DeepSpeed has none.
            "overlap_comm": recipe.engine.determinism == "fast" and recipe.engine.zero_stage >= 2 and torch.cuda.is_available(),
        },
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 1 << 62,
    }
    if recipe.engine.zero_stage == 0:
        return config
    if recipe.engine.precision == "bf16":
        config |= {"bf16": {"enabled": True}, "data_types": {"grad_accum_dtype": "fp32"}}
    if recipe.engine.precision == "fp16":
        # The scale given here is replaced before each step by the one that checkpoints hold.
        config |= {"fp16": {"enabled": True, "loss_scale": 1.0}, "data_types": {"grad_accum_dtype": "fp32"}}
    return config


def _require_precision(precision: str) -> None:
    device: Any = get_accelerator()
    supported = {"bf16": device.is_bf16_supported, "fp16": device.is_fp16_supported}.get(precision, lambda: True)
    if not supported():
        raise ConfigError(f"engine.precision: this machine ({device.device_name()}) has no {precision}. Take fp32, or auto in a new run.")


def _set_determinism(promise: str) -> None:
    torch.use_deterministic_algorithms(promise == "strict")
    # Else torch writes NaN into every new buffer, DeepSpeed's of gigabytes too.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.set_float32_matmul_precision("highest" if promise == "strict" else "high")
    torch.backends.cudnn.allow_tf32 = promise != "strict"
