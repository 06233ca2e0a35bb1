"""What a job on Kubernetes needs, looked at one by one through kubectl."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from ptm_dist.clusters.commands import answer
from ptm_dist.clusters.kuberay_objects import AUTH_KEY
from ptm_dist.doctor import Finding

if TYPE_CHECKING:
    from ptm_dist.clusters.kuberay import Kuberay

VERBS: Final = (
    ("create", "rayjobs.ray.io"),
    ("get", "rayjobs.ray.io"),
    ("patch", "rayjobs.ray.io"),
    ("delete", "rayjobs.ray.io"),
    ("create", "configmaps"),
    ("create", "poddisruptionbudgets.policy"),
    ("create", "networkpolicies.networking.k8s.io"),
    ("get", "pods/log"),
)
"""What submit, status, logs and stop do."""


def findings(cluster: Kuberay) -> Iterator[Finding]:
    """Look at kubectl, the API server, permissions, the operator, claims, Secret, queue, quota and image."""
    fine, told = answer(["kubectl", "version", "--client", "--output=json"])
    yield Finding(fine, f"kubectl {json.loads(told)['clientVersion']['gitVersion']}" if fine else told)
    if not fine:
        return
    fine, told = answer([*cluster.kubectl("version"), "--output=json"])
    server = json.loads(told).get("serverVersion", {}).get("gitVersion", "unknown") if fine else ""
    yield Finding(
        fine, f"Kubernetes {server} answers" if fine else f"{told}. Check `context`, and your login (kubectl config get-contexts)."
    )
    if not fine:
        return
    yield _there(cluster, "namespace", cluster.namespace, f"kubectl create namespace {cluster.namespace}")
    yield from _permissions(cluster)
    yield _operator(cluster)
    yield from _claims(cluster)
    yield from _secret(cluster)
    yield _there(cluster, "serviceaccount", cluster.service_account, "kubectl apply -k launch/kubernetes/base makes it")
    if cluster.queue:
        yield _there(cluster, "localqueues.kueue.x-k8s.io", cluster.queue, "ask who runs Kueue for the name of your queue")
    if cluster.priority_class:
        yield _there(cluster, "priorityclass", cluster.priority_class, "kubectl get priorityclasses lists them")
    yield from _quotas(cluster)
    yield _image(cluster)


def _get(cluster: Kuberay, *words: str) -> tuple[Any, str]:
    fine, told = answer([*cluster.kubectl("get"), *words, "--output=json"])
    return (json.loads(told), "") if fine else (None, told)


def _there(cluster: Kuberay, kind: str, name: str, advice: str) -> Finding:
    found, told = _get(cluster, kind, name)
    return Finding(bool(found), f"{kind} {name} is there" if found else f"{kind} {name}: {told}. {advice}")


def _permissions(cluster: Kuberay) -> Iterator[Finding]:
    refused = [f"{verb} {what}" for verb, what in VERBS if answer([*cluster.kubectl("auth"), "can-i", verb, what])[1].strip() != "yes"]
    yield Finding(
        not refused,
        f"you may do what submit, status, logs and stop do in {cluster.namespace}"
        if not refused
        else f"you may not {', '.join(refused)} in {cluster.namespace}. Ask for a Role that allows it.",
    )


def _operator(cluster: Kuberay) -> Finding:
    found, told = _get(cluster, "customresourcedefinition", "rayjobs.ray.io")
    if not found:
        return Finding(
            False, f"KubeRay: {told}. Install the operator (1.6 or later): helm install kuberay-operator kuberay/kuberay-operator"
        )
    versions = {version["name"]: version for version in found["spec"]["versions"]}
    spec = versions.get("v1", {}).get("schema", {}).get("openAPIV3Schema", {}).get("properties", {}).get("spec", {}).get("properties", {})
    auth = spec.get("rayClusterSpec", {}).get("properties", {}).get("authOptions", {}).get("properties", {})
    fine = "secretName" in auth
    return Finding(
        fine, "KubeRay has ray.io/v1 with tokens" if fine else "KubeRay is older than 1.6 and cannot take Ray's token; update it."
    )


def _claims(cluster: Kuberay) -> Iterator[Finding]:
    for field, name in (("runs_claim", cluster.runs_claim), ("cache_claim", cluster.cache_claim)):
        found, told = _get(cluster, "persistentvolumeclaim", name)
        if not found:
            yield Finding(False, f"{field}: {told}. Make it, ReadWriteMany (launch/kubernetes/base holds an example).")
            continue
        phase, modes = found.get("status", {}).get("phase", ""), found["spec"].get("accessModes", [])
        fine = phase == "Bound" and "ReadWriteMany" in modes
        advice = "" if fine else "; every node must be able to write to it: Bound, with access mode ReadWriteMany"
        yield Finding(fine, f"{field}: {name} is {phase}, {', '.join(modes)}{advice}")


def _secret(cluster: Kuberay) -> Iterator[Finding]:
    # Only the names of its keys are asked for.
    fine, told = answer(
        [*cluster.kubectl("get"), "secret", cluster.token_secret, "--output=go-template={{range $k, $v := .data}}{{$k}} {{end}}"]
    )
    make = (
        f"kubectl -n {cluster.namespace} create secret generic {cluster.token_secret} --from-file={AUTH_KEY}=FILE, "
        "where FILE holds a random token and no newline"
    )
    there = fine and AUTH_KEY in told.split()
    why = told if not fine else f"it has no key {AUTH_KEY}"
    yield Finding(
        there, f"token_secret: {cluster.token_secret} is there" if there else f"token_secret: {cluster.token_secret}: {why}. {make}"
    )


def _quotas(cluster: Kuberay) -> Iterator[Finding]:
    found, _ = _get(cluster, "resourcequotas")
    cpus = cluster.head.cpus + cluster.replicas * cluster.node.cpus
    gpus = cluster.replicas * cluster.node.gpus
    for quota in found["items"] if found else []:
        status = quota.get("status", {})
        for key, wanted in (("requests.cpu", cpus), ("limits.cpu", cpus), ("cpu", cpus), ("requests.nvidia.com/gpu", gpus)):
            if key not in status.get("hard", {}):
                continue
            left = cores_of(status["hard"][key]) - cores_of(status.get("used", {}).get(key, "0"))
            fine = left >= wanted
            name = f"quota {quota['metadata']['name']}: {key}: {left:g} left, a job takes {wanted}"
            yield Finding(fine, name if fine else f"{name}. Lower replicas or node, or ask for more.")


def cores_of(quantity: str) -> float:
    """Return the number that a quantity of CPUs or devices stands for."""
    return (
        float(quantity[:-1]) / 1000
        if quantity.endswith("m")
        else float(quantity.removesuffix("k")) * (1000 if quantity.endswith("k") else 1)
    )


def _image(cluster: Kuberay) -> Finding:
    pinned = "@sha256:" in cluster.image
    fine = pinned or cluster.image_pull_policy != "Never" or ":" in cluster.image.rpartition("/")[2]
    if not fine:
        return Finding(False, f"image: {cluster.image} has no tag, so nobody knows which it is. Write NAME:TAG, or NAME@sha256:DIGEST.")
    old = not pinned and cluster.image_pull_policy == "IfNotPresent"
    note = "; a node that has this tag already does not look for a newer one" if old else ""
    return Finding(True, f"image: {cluster.image}, {cluster.image_pull_policy}{note}")
