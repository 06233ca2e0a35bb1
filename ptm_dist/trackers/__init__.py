"""Trackers: settings in a recipe that open a place where curves of runs are kept. A new one is a file here and a line below."""

from typing import Final

from ptm_dist.trackers.mlflow import MLflow
from ptm_dist.trackers.tensorboard import TensorBoard
from ptm_dist.trackers.wandb import WandB

TRACKERS: Final = {"tensorboard": TensorBoard, "wandb": WandB, "mlflow": MLflow}
