"""A cluster as files for kustomize: a base, and overlays that differ from it in what a variant of the cluster file differs in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ptm_dist.clusters.base import Job
from ptm_dist.clusters.kuberay_job import owned, ray_job
from ptm_dist.clusters.kuberay_objects import yaml_of
from ptm_dist.recipe import Recipe
from ptm_dist.recipe_io import recipe_from_json
from ptm_dist.recipe_yaml import parse

if TYPE_CHECKING:
    from ptm_dist.clusters.kuberay import Kuberay

FOLDER: Final = "kubernetes"
MONITORING: Final = Path("launch") / "monitoring"
"""Rules and dashboards that are carried over into objects, where they are there."""
SMOKE: Final[dict[str, Any]] = {
    "name": "smoke",
    "sources": {"docs": {"kind": "installed_docs", "packages": ["python"]}},
    "tokenizer": {"kind": "byte_bpe", "vocab_size": 1024},
    "model": {"kind": "roberta", "layers": 2, "hidden": 64, "heads": 2, "intermediate": 128, "positions": 64},
    "tasks": {"mlm": {"format": {"kind": "full_sentences", "length": 64}, "objectives": [{"kind": "masked_lm"}]}},
    "stages": [{"name": "main", "steps": {"mlm": 100}}],
    "batch": {"rows": 32, "micro": 16, "lanes": 16},
    "optimizer": {"kind": "adamw", "learning_rate": 1e-3},
    "engine": {"workers": 1},
    "checkpoint": {"every_steps": 20},
    "evaluate": {"every_steps": 50, "rows": 64},
}
"""What the rendered RayJob trains: a few minutes on one core, from text that comes with Python; it shows that the cluster works."""
TOLERATED: Final = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}


def files(cluster: Kuberay) -> Mapping[str, str]:
    """Return the files by path below launch/."""
    job = Job(smoke_recipe(), f"{cluster.runs}/smoke")
    base = {_file_of(item): item for item in [*_standing(cluster), *objects(cluster, job)]}
    found = {f"base/{name}": yaml_of(item) for name, item in base.items()}
    found["base/kustomization.yaml"] = _kustomization(resources=sorted(base))
    for name, variant in variants(cluster).items():
        found |= {f"overlays/{name}/{path}": text for path, text in _overlay(cluster, variant, job).items()}
    found |= {f"overlays/monitoring/{path}": text for path, text in _monitoring(cluster).items()}
    return {f"{FOLDER}/{path}": text for path, text in sorted(found.items())}


def smoke_recipe() -> Recipe:
    """Return the recipe of the rendered RayJob."""
    return recipe_from_json(SMOKE)


def objects(cluster: Kuberay, job: Job) -> list[dict[str, Any]]:
    """Return the RayJob of a submission and what belongs to it."""
    return [ray_job(cluster, job).plain(), *owned(cluster, job, None)]


def variants(cluster: Kuberay) -> dict[str, Kuberay]:
    """Return the cluster as each overlay changes it."""
    from ptm_dist.clusters.kuberay import Pod

    smoke = {"replicas": 1, "least_replicas": None, "node_selector": {}, "tolerations": ()}
    smoke |= {"head": Pod(cpus=1, memory="3Gi", shared_memory="512Mi"), "node": Pod(cpus=1, memory="4Gi", shared_memory="1Gi")}
    gpu = {"image": cluster.image.removesuffix("-cpu") + ("-gpu" if cluster.image.endswith("-cpu") else "")}
    gpu |= {"node": Pod(cpus=8, memory="64Gi", gpus=1, shared_memory="16Gi"), "tolerations": (*cluster.tolerations, TOLERATED)}
    found: dict[str, dict[str, Any]] = {"cpu-smoke": smoke, "gpu": gpu, "kueue": {"queue": cluster.queue or "ptm"}}
    return {name: cluster.model_copy(update=changes) for name, changes in found.items()}


def _standing(cluster: Kuberay) -> Iterator[dict[str, Any]]:
    """Yield what a namespace has once, for all jobs."""
    labels = {"app.kubernetes.io/name": "ptm", "app.kubernetes.io/instance": cluster.name}
    where = {"namespace": cluster.namespace, "labels": labels}
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": cluster.namespace, "labels": labels}}
    account = {"name": cluster.service_account} | where
    yield {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account, "automountServiceAccountToken": False}
    for claim in dict.fromkeys((cluster.runs_claim, cluster.cache_claim)):
        room = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "100Gi"}}}
        yield {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": claim} | where, "spec": room}


def _file_of(item: dict[str, Any]) -> str:
    claim = f"-{item['metadata']['name']}" if item["kind"] == "PersistentVolumeClaim" else ""
    return f"{item['kind'].lower()}{claim}.yaml"


def _kustomization(**fields: Any) -> str:
    return yaml_of({"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"} | fields)


def _overlay(cluster: Kuberay, variant: Kuberay, job: Job) -> dict[str, str]:
    """Return patches (RFC 6902) for each object of the base in which a variant differs."""
    found, patches = dict[str, str](), list[dict[str, Any]]()
    for before, after in zip(objects(cluster, job), objects(variant, job), strict=True):
        operations = list(_differences("", before, after))
        if operations:
            name = f"patch-{before['kind'].lower()}.yaml"
            found[name] = yaml_of(operations)
            patches.append({"path": name, "target": {"kind": before["kind"], "name": before["metadata"]["name"]}})
    return found | {"kustomization.yaml": _kustomization(resources=["../../base"], patches=patches)}


def _differences(path: str, before: Any, after: Any) -> Iterator[dict[str, Any]]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in dict.fromkeys([*before, *after]):
            inner = f"{path}/{key.replace('~', '~0').replace('/', '~1')}"
            if key not in after:
                yield {"op": "remove", "path": inner}
            elif key not in before:
                yield {"op": "add", "path": inner, "value": after[key]}
            else:
                yield from _differences(inner, before[key], after[key])
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _differences(f"{path}/{number}", one, other)
    elif before != after:
        yield {"op": "replace", "path": path, "value": after}


def _monitoring(cluster: Kuberay) -> dict[str, str]:
    """Return the objects of the Prometheus operator and the dashboards, for a cluster that has them."""
    labels = {"app.kubernetes.io/name": "ptm", "app.kubernetes.io/instance": cluster.name}
    made = {"podmonitor.yaml": _pod_monitor(cluster, labels)}
    groups = [group for path in sorted((MONITORING / "rules").glob("*.yml")) for group in _read(path)["groups"]]
    if groups:
        metadata = {"name": cluster.name, "namespace": cluster.namespace, "labels": labels}
        rule = {"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule", "metadata": metadata, "spec": {"groups": groups}}
        made["prometheusrule.yaml"] = yaml_of(rule)
    for path in sorted((MONITORING / "grafana" / "dashboards").glob("*.json")):
        name = f"dashboard-{path.stem}"
        # Grafana's sidecar loads every ConfigMap that has this label.
        metadata = {"name": f"{cluster.name}-{name}", "namespace": cluster.namespace, "labels": labels | {"grafana_dashboard": "1"}}
        data = {path.name: path.read_text(encoding="utf8")}
        made[f"{name}.yaml"] = yaml_of({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
    return made | {"kustomization.yaml": _kustomization(resources=sorted(made))}


def _pod_monitor(cluster: Kuberay, labels: dict[str, str]) -> str:
    """Return the object that makes Prometheus scrape each node of each job; labels of a run come from ptm itself."""
    metadata = {"name": cluster.name, "namespace": cluster.namespace, "labels": labels}
    endpoints = [{"port": port, "path": "/metrics", "interval": "15s", "honorLabels": True} for port in ("ptm-metrics", "metrics")]
    spec = {"selector": {"matchLabels": labels}, "podMetricsEndpoints": endpoints}
    return yaml_of({"apiVersion": "monitoring.coreos.com/v1", "kind": "PodMonitor", "metadata": metadata, "spec": spec})


def _read(path: Path) -> Any:
    return parse(path.read_text(encoding="utf8"), str(path))[0]
