"""The fields of RayJob and RayCluster (ray.io/v1) that are used, and no others; a misspelt one is an error here and not in the cluster."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

AUTH_KEY: Final = "auth_token"
"""The key of the Secret under which KubeRay looks for Ray's token."""


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines as such."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", data, "|" if "\n" in data else None)


_Dumper.add_representer(str, _Dumper.represent_str)


def yaml_of(value: Any) -> str:
    """Return an object as Kubernetes reads it."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)


class Object(BaseModel):
    """A part of a Kubernetes object."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)

    def plain(self) -> dict[str, Any]:
        """Return what stands in the YAML."""
        return self.model_dump(by_alias=True, exclude_none=True)


class Metadata(Object):
    """Name, labels and annotations."""

    name: str | None = None
    namespace: str | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] | None = None


class Container(Object):
    """The one container of a pod."""

    name: str
    image: str
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    env: list[dict[str, Any]] = []
    resources: dict[str, dict[str, str]]
    ports: list[dict[str, Any]] | None = None
    security_context: dict[str, Any]
    lifecycle: dict[str, Any] | None = None
    volume_mounts: list[dict[str, Any]]


class PodSpec(Object):
    """Where and as whom a container runs."""

    service_account_name: str | None = None
    automount_service_account_token: bool = False
    termination_grace_period_seconds: int | None = None
    priority_class_name: str | None = None
    node_selector: dict[str, str] | None = None
    tolerations: list[dict[str, Any]] | None = None
    image_pull_secrets: list[dict[str, str]] | None = None
    security_context: dict[str, Any]
    restart_policy: Literal["Never"] | None = None
    containers: list[Container]
    volumes: list[dict[str, Any]]


class PodTemplate(Object):
    """A pod, before it has a name."""

    metadata: Metadata
    spec: PodSpec


class HeadGroup(Object):
    """The pod that runs Ray's head and the driver, and no workers."""

    service_type: Literal["ClusterIP"] = "ClusterIP"
    ray_start_params: dict[str, str]
    template: PodTemplate


class WorkerGroup(Object):
    """The pods that run workers."""

    group_name: str
    replicas: int
    min_replicas: int
    max_replicas: int
    ray_start_params: dict[str, str]
    template: PodTemplate


class AuthOptions(Object):
    """Who may talk to Ray: whoever has the token of a Secret."""

    mode: Literal["token"] = "token"
    secret_name: str


class RayClusterSpec(Object):
    """A Ray cluster."""

    ray_version: str
    auth_options: AuthOptions
    head_group_spec: HeadGroup
    worker_group_specs: list[WorkerGroup]


class RayCluster(Object):
    """A Ray cluster that stays until somebody deletes it."""

    api_version: Literal["ray.io/v1"] = "ray.io/v1"
    kind: Literal["RayCluster"] = "RayCluster"
    metadata: Metadata
    spec: RayClusterSpec


class RayJobSpec(Object):
    """A command, and the Ray cluster that is made for it and removed after it."""

    submission_mode: Literal["K8sJobMode"] = "K8sJobMode"
    entrypoint: str
    entrypoint_num_cpus: int = 0
    runtime_env: Annotated[str | None, Field(alias="runtimeEnvYAML")] = None
    suspend: bool | None = None
    backoff_limit: int
    shutdown_after_job_finishes: Literal[True] = True
    ttl_seconds_after_finished: int
    ray_cluster_spec: RayClusterSpec
    submitter_pod_template: PodTemplate


class RayJob(Object):
    """A submission."""

    api_version: Literal["ray.io/v1"] = "ray.io/v1"
    kind: Literal["RayJob"] = "RayJob"
    metadata: Metadata
    spec: RayJobSpec
