"""Kubernetes: each submission is a RayJob of the KubeRay operator, with a Ray cluster of its own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import Field, model_validator

from ptm_dist.clusters.base import Cluster, Job, JobState, Phase, Sent, phase_of
from ptm_dist.clusters.commands import LONGEST_SECONDS, call
from ptm_dist.clusters.kuberay_check import findings
from ptm_dist.clusters.kuberay_job import JOB, STOPPED, exit_code_of, name_of, owned, ray_job
from ptm_dist.clusters.kuberay_objects import yaml_of
from ptm_dist.clusters.kuberay_render import files
from ptm_dist.doctor import Finding
from ptm_dist.errors import ConfigError
from ptm_dist.recipe import Recipe
from ptm_dist.recipe_parts import Count, Section
from ptm_dist.terms import MetricsBinding

DnsName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$")]
Quantity = Annotated[str, Field(pattern=r"^\d+(\.\d+)?(m|[KMGTPE]i?)?$")]
PHASES: Final[dict[str, Phase]] = {
    "": "pending",
    "Initializing": "pending",
    "Waiting": "pending",
    "Retrying": "pending",
    "Running": "running",
    "Suspending": "running",
    "Suspended": "stopped",
    "Complete": "finished",
    "Failed": "failed",
    "ValidationFailed": "failed",
}
"""What KubeRay's deployment states mean."""
WORKLOADS: Final = "workloads.kueue.x-k8s.io"


class Pod(Section):
    """What a pod asks for, and may use."""

    cpus: Count = 2
    memory: Quantity = "8Gi"
    gpus: Annotated[int, Field(ge=0)] = 0
    """Counted as nvidia.com/gpu."""
    shared_memory: Quantity = "1Gi"
    """Of the memory: what Ray's object store and loader processes share (/dev/shm)."""


class Kuberay(Cluster):
    """A namespace of a Kubernetes cluster that runs the KubeRay operator, 1.6 or later; kubectl reaches it from here."""

    default_name: ClassVar[str] = "kuberay"

    kind: Literal["kuberay"] = "kuberay"
    runs: str = "/runs"
    """Where the volume of runs is mounted."""
    cache: str = "/cache"
    """Where the volume of prepared data is mounted."""
    metrics: MetricsBinding | None = MetricsBinding(host="0.0.0.0", port=9400)  # noqa: S104 - the network of pods, behind a NetworkPolicy
    """Each node serves its metrics on this port, for the PodMonitor."""
    context: str | None = None
    """Which cluster of the kubectl configuration; None: the current one."""
    namespace: DnsName = "ptm"
    image: str = "registry.example.com/ptm-dist:0.1.0-cpu"
    """Made from docker/Dockerfile; a digest (@sha256:...) is better than a tag."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    image_pull_secret: DnsName | None = None
    head: Pod = Pod(cpus=2, memory="6Gi")
    """The pod of Ray's head and of the driver; no worker runs there."""
    node: Pod = Pod(cpus=4, memory="16Gi", shared_memory="4Gi")
    """A pod of workers."""
    replicas: Count = 2
    """Pods of workers."""
    least_replicas: Count | None = None
    """Pods that stay when there is no room for all; None: all of them."""
    runs_claim: DnsName = "ptm-runs"
    """A PersistentVolumeClaim that many pods may write to (ReadWriteMany)."""
    cache_claim: DnsName = "ptm-cache"
    token_secret: DnsName = "ptm-ray-token"
    """A Secret whose key auth_token holds the token of Ray."""
    service_account: DnsName = "ptm"
    priority_class: DnsName | None = None
    queue: DnsName | None = None
    """The LocalQueue of Kueue that decides when a job starts; None: it starts at once."""
    node_selector: dict[str, str] = {}
    tolerations: tuple[dict[str, str], ...] = ()
    """Taints that pods of workers bear, as Kubernetes writes them: {key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}."""
    grace_seconds: Count = 300
    """How long a pod that must go may take to save, as long as nothing of its run has been measured."""
    backoff_limit: Annotated[int, Field(ge=0)] = 0
    """How often KubeRay starts a job anew that has failed; the driver restarts attempts itself, so one of both is enough."""
    keep_seconds: Annotated[int, Field(ge=0)] = 600
    """How long the pods of a job that has ended are kept."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.least_replicas and self.least_replicas > self.replicas:
            raise ValueError("least_replicas is more than replicas")
        for key in ("runs", "cache"):
            if not getattr(self, key).startswith("/"):
                raise ValueError(f"{key}: write the whole path at which the volume is mounted in each pod, for example /{key}")
        return self

    def plan(self, job: Job) -> list[Sent]:
        """Return the RayJob, and what goes and comes with it."""
        self._require_room(job.recipe)
        return [Sent(f"{item['kind']} {item['metadata']['name']}", yaml_of(item)) for item in (self._ray_job(job), *owned(self, job, None))]

    def submit(self, job: Job) -> str:
        """Create the RayJob, then all that belongs to it and is removed with it."""
        self._require_room(job.recipe)
        uid = call([*self.kubectl("create"), "--filename=-", "--output=jsonpath={.metadata.uid}"], yaml_of(self._ray_job(job))).strip()
        try:
            call([*self.kubectl("apply"), "--filename=-"], "---\n".join(yaml_of(item) for item in owned(self, job, uid)))
        except ConfigError:
            call([*self.kubectl("delete"), "rayjob", name_of(job.id), "--wait=false"])
            raise
        return job.id

    def jobs(self) -> list[JobState]:
        """Return the RayJobs of this cluster file's name, newest first."""
        found = self._get("rayjobs", f"--selector=app.kubernetes.io/instance={self.name}")["items"]
        newest = sorted(found, key=lambda item: item["metadata"].get("creationTimestamp", ""), reverse=True)
        return [_state_of(item) for item in newest]

    def state(self, job_id: str) -> JobState:
        """Return where a submission stands."""
        return _state_of(self._get("rayjob", name_of(job_id)))

    def logs(self, job_id: str, follow: bool) -> Iterator[str]:
        """Yield what the driver printed; it is in the logs of the run, too, and stays there."""
        pods = f"--selector=batch.kubernetes.io/job-name={name_of(job_id)}"
        words = [*self.kubectl("logs"), pods, "--tail=-1", *(["--follow"] if follow else [])]
        if not follow:
            yield from call(words).splitlines()
            return
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            yield from (line.rstrip("\n") for line in process.stdout)
            told = process.stderr.read()
        if process.returncode:
            raise ConfigError(f"kubectl logs: {' '.join(told.split())}")

    def stop(self, job_id: str, now: bool) -> None:
        """Suspend the job: its pods are told to go, the driver saves first, and the RayJob stays; with `now` all is deleted at once."""
        name = name_of(job_id)
        if now:
            call([*self.kubectl("delete"), "rayjob", name, "--wait=false"])
            call([*self.kubectl("delete"), "pods", f"--selector={JOB}={name}", "--grace-period=0", "--force", "--wait=false"])
            return
        found = self._get("rayjob", name)
        patch: dict[str, Any] = {"metadata": {"annotations": {STOPPED: "true"}}}
        if self.queue:
            # Kueue decides whether a job is suspended: it is told to let this one go, and not to queue it again.
            uid = found["metadata"]["uid"]
            for workload in self._get(WORKLOADS, f"--selector=kueue.x-k8s.io/job-uid={uid}")["items"]:
                self._patch(WORKLOADS, workload["metadata"]["name"], {"spec": {"active": False}})
        else:
            patch["spec"] = {"suspend": True}
        self._patch("rayjob", name, patch)

    def render(self) -> Mapping[str, str]:
        """Return a kustomize base and its overlays."""
        return files(self)

    def check(self) -> Iterator[Finding]:
        """Look at kubectl, permissions, the operator, claims, Secret, queue, quota and image."""
        return findings(self)

    def kubectl(self, verb: str) -> list[str]:
        """Return the words that begin a call of kubectl."""
        context = [f"--context={self.context}"] if self.context else []
        limit = [] if verb == "logs" else [f"--request-timeout={LONGEST_SECONDS:.0f}s"]
        return ["kubectl", *context, f"--namespace={self.namespace}", *limit, verb]

    def _get(self, what: str, *words: str) -> dict[str, Any]:
        return json.loads(call([*self.kubectl("get"), what, *words, "--output=json"]))

    def _patch(self, what: str, name: str, patch: dict[str, Any]) -> None:
        call([*self.kubectl("patch"), what, name, "--type=merge", f"--patch={json.dumps(patch)}"])

    def _ray_job(self, job: Job) -> dict[str, Any]:
        return ray_job(self, job).plain()

    def _require_room(self, recipe: Recipe) -> None:
        engine, devices, cores = recipe.engine, self.replicas * self.node.gpus, self.replicas * self.node.cpus
        if devices and engine.workers > devices:
            raise ConfigError(f"engine.workers: {engine.workers} workers, but the pods have {devices} GPUs. Raise replicas or node.gpus.")
        if engine.workers * engine.threads > cores:
            raise ConfigError(
                f"engine.workers: {engine.workers} workers of {engine.threads} threads, but the pods have {cores} CPU cores. "
                "Raise replicas or node.cpus of the cluster."
            )


def _state_of(item: dict[str, Any]) -> JobState:
    metadata, status = item["metadata"], item.get("status", {})
    annotations = metadata.get("annotations", {})
    deployment, job = status.get("jobDeploymentStatus", ""), status.get("jobStatus", "")
    phase: Phase = PHASES.get(deployment, "unknown")
    message, code = status.get("message", ""), exit_code_of(status.get("message", ""))
    if STOPPED in annotations and phase == "pending":
        phase = "stopped"
    elif deployment == "Suspended" and STOPPED not in annotations and "kueue.x-k8s.io/queue-name" in metadata.get("labels", {}):
        phase = "pending"
    elif deployment == "Complete" and job == "STOPPED":
        phase = "stopped"
    elif deployment == "Failed" and code is not None:
        phase = phase_of(code)
    code = 0 if phase == "finished" else code
    native = " ".join(part for part in (deployment or "New", job) if part)
    return JobState(annotations.get(JOB, metadata["name"]), phase, native, " ".join(message.split())[:300], code)
