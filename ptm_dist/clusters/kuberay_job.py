"""A submission as Kubernetes objects: the RayJob, and what belongs to it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from ptm_dist.clusters.base import Job, cluster_json
from ptm_dist.clusters.grace import MARGIN_SECONDS, grace_seconds
from ptm_dist.clusters.kuberay_objects import (
    AUTH_KEY,
    AuthOptions,
    Container,
    HeadGroup,
    Metadata,
    PodSpec,
    PodTemplate,
    RayClusterSpec,
    RayJob,
    RayJobSpec,
    WorkerGroup,
    yaml_of,
)
from ptm_dist.errors import ConfigError
from ptm_dist.kept import exit_code_in, kept_words
from ptm_dist.recipe_io import recipe_to_json

if TYPE_CHECKING:
    from ptm_dist.clusters.kuberay import Kuberay, Pod

JOB: Final = "ptm.dist/job"
"""Label (the name of the RayJob) and annotation (the submission) by which everything of a submission is found."""
STOPPED: Final = "ptm.dist/stopped"
"""Annotation of a RayJob that its user has stopped."""
FILES: Final = "/etc/ptm"
USER: Final = 1000
"""Numeric, as in docker/Dockerfile, so that Kubernetes can see that it is not root."""
LARGEST_BYTES: Final = 1 << 20
"""Of a ConfigMap."""
LONGEST_NAME: Final = 47
"""Of a RayJob: KubeRay adds to it."""
_RAN_WITH: Final = re.compile(r"exit code (\d+)")
_WRITABLE: Final = {"tmp": "/tmp", "home": "/home/ptm"}  # noqa: S108 - a volume of the pod
_HEAD: Final = {"num-cpus": "0", "dashboard-host": "0.0.0.0"}  # noqa: S104 - of the network of pods, with a token, behind a NetworkPolicy
_LOCKED: Final = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "runAsUser": USER,
    "capabilities": {"drop": ["ALL"]},
}


def name_of(job_id: str) -> str:
    """Return the name of the RayJob of a submission: small letters, digits and dashes; what had to be changed leaves a digest."""
    plain = re.sub(r"[^a-z0-9-]+", "-", job_id.lower()).strip("-")
    if plain == job_id and len(plain) <= LONGEST_NAME and plain[0].isalpha():
        return plain
    digest = hashlib.sha256(job_id.encode()).hexdigest()[:6]
    return f"r-{plain}"[: LONGEST_NAME - 7].rstrip("-") + f"-{digest}"


def exit_code_of(message: str) -> int | None:
    """Return the exit code of the driver that a RayJob's message tells; None if it tells none."""
    found = exit_code_in(message)
    ran = _RAN_WITH.search(message)
    return found if found is not None else int(ran[1]) if ran else None


def ray_job(cluster: Kuberay, job: Job) -> RayJob:
    """Return the RayJob of a submission.

    Raises:
        ConfigError: a path holds what a shell would understand.

    """
    name, grace = name_of(job.id), grace_seconds(job.run, cluster.grace_seconds)
    words = kept_words("python", job.run, job.id, cluster.entrypoint(job, f"{FILES}/recipe.json", f"{FILES}/cluster.json"))
    for word in words:
        # `ray job submit` joins the words again and hands them to a shell, without quoting as a shell wants it.
        if not re.fullmatch(r"[A-Za-z0-9_./:=@%+,-]+", word):
            raise ConfigError(f"{word}: a job on Kubernetes takes letters, digits and _./:=@%+,- in paths. Choose another run, or cache.")
    queue = {"kueue.x-k8s.io/queue-name": cluster.queue} if cluster.queue else {}
    spec = RayJobSpec(
        entrypoint=shlex.join(words),
        # A RayJob that is deleted stops its driver with SIGTERM, and then waits.
        runtime_env=yaml_of({"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(grace)}}),
        suspend=True if cluster.queue else None,
        backoff_limit=cluster.backoff_limit,
        ttl_seconds_after_finished=cluster.keep_seconds,
        ray_cluster_spec=ray_cluster(cluster, job, grace),
        submitter_pod_template=_submitter(cluster, name),
    )
    metadata = Metadata(name=name, namespace=cluster.namespace, labels=_labels(cluster, name) | queue, annotations={JOB: job.id})
    return RayJob(metadata=metadata, spec=spec)


def ray_cluster(cluster: Kuberay, job: Job, grace: int) -> RayClusterSpec:
    """Return the Ray cluster of a submission: a head without workers, and a group of pods for them."""
    name, usage = name_of(job.id), {"disable-usage-stats": "true"}
    head = _pod(cluster, cluster.head, name, "ray-head", _drain(job, grace, head=True))
    node = _pod(cluster, cluster.node, name, "ray-worker", _drain(job, grace, head=False))
    placed = {"node_selector": cluster.node_selector or None, "tolerations": [*cluster.tolerations] or None}
    head.spec.containers[0].ports.extend(_ports(("gcs-server", 6379), ("dashboard", 8265), ("client", 10001)))  # type: ignore[union-attr]
    return RayClusterSpec(
        ray_version=importlib.metadata.version("ray"),
        auth_options=AuthOptions(secret_name=cluster.token_secret),
        head_group_spec=HeadGroup(ray_start_params=_HEAD | usage, template=_with_grace(head, grace)),
        worker_group_specs=[
            WorkerGroup(
                group_name="workers",
                replicas=cluster.replicas,
                min_replicas=cluster.least_replicas or cluster.replicas,
                max_replicas=cluster.replicas,
                ray_start_params={"num-cpus": str(cluster.node.cpus)} | usage,
                template=_with_grace(node.model_copy(update={"spec": node.spec.model_copy(update=placed)}), grace),
            )
        ],
    )


def owned(cluster: Kuberay, job: Job, uid: str | None) -> Iterator[dict[str, Any]]:
    """Yield what belongs to a RayJob and is removed with it: its files, its disruption budget, its network policy.

    Raises:
        ConfigError: recipe and cluster are larger than a ConfigMap may be.

    """
    name = name_of(job.id)
    owner = [{"apiVersion": "ray.io/v1", "kind": "RayJob", "name": name, "uid": uid}] if uid else []
    metadata: dict[str, Any] = {"name": name, "namespace": cluster.namespace, "labels": _labels(cluster, name)}
    metadata |= {"ownerReferences": owner} if owner else {}
    data = {"recipe.json": json.dumps(recipe_to_json(job.recipe), indent=1), "cluster.json": json.dumps(cluster_json(cluster), indent=1)}
    size = sum(len(text.encode()) for text in data.values())
    if size > LARGEST_BYTES:
        raise ConfigError(
            f"recipe: with the cluster file it is {size:,} bytes, and a ConfigMap holds {LARGEST_BYTES:,}. Name files instead."
        )
    pods = {"matchLabels": {JOB: name}}
    yield {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
    yield {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata,
        "spec": {"maxUnavailable": 1, "selector": pods},
    }
    yield {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata,
        "spec": {"podSelector": pods, "policyTypes": ["Ingress"], "ingress": list(_ingress(cluster, pods))},
    }


def _ingress(cluster: Kuberay, pods: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield who may connect: the pods of the job to each other, the operator to Ray's dashboard, Prometheus to the metrics."""
    yield {"from": [{"podSelector": pods}]}
    operator = {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app.kubernetes.io/name": "kuberay-operator"}}}
    yield {"from": [operator], "ports": [{"port": 8265, "protocol": "TCP"}]}
    prometheus = {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app.kubernetes.io/name": "prometheus"}}}
    yield {"from": [prometheus], "ports": [{"port": port, "protocol": "TCP"} for port in (_metrics_port(cluster), 8080) if port]}


def _metrics_port(cluster: Kuberay) -> int:
    return cluster.metrics.port if cluster.metrics else 0


def _labels(cluster: Kuberay, name: str) -> dict[str, str]:
    return {"app.kubernetes.io/name": "ptm", "app.kubernetes.io/instance": cluster.name, JOB: name}


def _ports(*named: tuple[str, int]) -> list[dict[str, Any]]:
    return [{"name": name, "containerPort": port} for name, port in named if port]


def _drain(job: Job, grace: int, *, head: bool) -> dict[str, Any]:
    words = ["python", "-m", "ptm_dist.clusters.drain", job.run, "--seconds", str(grace)]
    return {"preStop": {"exec": {"command": [*words, *(["--head"] if head else [])]}}}


def _pod(cluster: Kuberay, pod: Pod, name: str, container: str, lifecycle: dict[str, Any] | None) -> PodTemplate:
    asked = {"cpu": str(pod.cpus), "memory": pod.memory} | ({"nvidia.com/gpu": str(pod.gpus)} if pod.gpus else {})
    places = _WRITABLE | {"shared-memory": "/dev/shm"}  # noqa: S108 - that is its name on Linux
    volumes: list[dict[str, Any]] = [{"name": place, "emptyDir": {}} for place in _WRITABLE]
    volumes += [
        {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": pod.shared_memory}},
        {"name": "runs", "persistentVolumeClaim": {"claimName": cluster.runs_claim}},
        {"name": "cache", "persistentVolumeClaim": {"claimName": cluster.cache_claim}},
        {"name": "files", "configMap": {"name": name}},
    ]
    mounts: list[dict[str, Any]] = [{"name": place, "mountPath": path} for place, path in places.items()]
    mounts += [{"name": "runs", "mountPath": cluster.runs}, {"name": "cache", "mountPath": cluster.cache}]
    made = Container(
        name=container,
        image=cluster.image,
        image_pull_policy=cluster.image_pull_policy,
        env=list(_environment(cluster)),
        resources={"requests": asked, "limits": asked},
        ports=_ports(("ptm-metrics", _metrics_port(cluster)), ("metrics", 8080)),
        security_context=_LOCKED,
        lifecycle=lifecycle,
        volume_mounts=[*mounts, {"name": "files", "mountPath": FILES, "readOnly": True}],
    )
    return PodTemplate(metadata=Metadata(labels=_labels(cluster, name)), spec=_spec(cluster, made, volumes))


def _spec(cluster: Kuberay, container: Container, volumes: list[dict[str, Any]]) -> PodSpec:
    return PodSpec(
        service_account_name=cluster.service_account,
        priority_class_name=cluster.priority_class,
        image_pull_secrets=[{"name": cluster.image_pull_secret}] if cluster.image_pull_secret else None,
        security_context={
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        containers=[container],
        volumes=volumes,
    )


def _submitter(cluster: Kuberay, name: str) -> PodTemplate:
    """Return the pod that hands the command to Ray and prints what the driver prints."""
    container = Container(
        name="ray-job-submitter",
        image=cluster.image,
        image_pull_policy=cluster.image_pull_policy,
        env=list(_token(cluster)),
        resources={"requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}},
        security_context=_LOCKED,
        volume_mounts=[{"name": place, "mountPath": path} for place, path in _WRITABLE.items()],
    )
    spec = _spec(cluster, container, [{"name": place, "emptyDir": {}} for place in _WRITABLE])
    return PodTemplate(metadata=Metadata(labels=_labels(cluster, name)), spec=spec.model_copy(update={"restart_policy": "Never"}))


def _with_grace(template: PodTemplate, grace: int) -> PodTemplate:
    limit = {"termination_grace_period_seconds": grace + MARGIN_SECONDS}
    return template.model_copy(update={"spec": template.spec.model_copy(update=limit)})


def _token(cluster: Kuberay) -> Iterator[dict[str, Any]]:
    yield {"name": "RAY_AUTH_MODE", "value": "token"}
    yield {"name": "RAY_AUTH_TOKEN", "valueFrom": {"secretKeyRef": {"name": cluster.token_secret, "key": AUTH_KEY}}}


def _environment(cluster: Kuberay) -> Iterator[dict[str, Any]]:
    fixed = {"PYTHONUNBUFFERED": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    yield from ({"name": name, "value": value} for name, value in (fixed | cluster.environment).items())
    yield from _token(cluster)
