"""Places to run: on this machine, on a Ray cluster, on Kubernetes, on Slurm. One file a kind, one line here."""

from __future__ import annotations

from typing import Final

from ptm_dist.clusters.base import Cluster
from ptm_dist.clusters.kuberay import Kuberay
from ptm_dist.clusters.local import Local
from ptm_dist.clusters.ray import Ray
from ptm_dist.clusters.slurm import Slurm

CLUSTERS: Final[dict[str, type[Cluster]]] = {"local": Local, "ray": Ray, "kuberay": Kuberay, "slurm": Slurm}
